"""Times of a backend's leaves on one GPU: the model of parts, corrected near measured points.

Seconds of an operator = the sum over its parts (`part_times.part_s`) x exp(correction of its leaf)
(`residuals.Nodes`). Fitted on leaves of random models alone; no recording of a model is in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import exp, sqrt

import numpy as np

from costmodel.costs.part_times import Parameters, part_s
from costmodel.costs.residuals import FAR, Nodes, Stack, classed, features_of
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator

OF_STEP = {
    "pauses between kernels": 0.01,  # traced kernels + 0.34 us each give a step within 0.8 %
    "repeats": 0.003,  # the same step in another process, minutes later
    "cards": 0.02,  # two occasions differed by less than 1 %; other cards are not measured
}
"""Standard deviations of a whole step, as shares of its time; measured on H200s, November 2026."""
HIDDEN, HIDDEN_SPREAD = 0.4, 0.25
"""Of the shorter of two branches that run beside one another: the share that the longer one hides.

Measured: ten decode steps of two UltraMemV2 models with and without branches on an H200
(benchmarks/fused_steps_h200.json): shares of -0.03 to 0.70, mean 0.37, median 0.41.
"""
EAGER = 0.25  # of a step that the host's launches decide: repeats differ by 31 % (median)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LeafTimes:
    """The fitted times of one backend; shapes may hold arrays.

    `spreads` are standard deviations of ln(measured / predicted) on shapes that the fit had not
    seen, by leaf, next to a measured point; "" is that of all leaves. A leaf whose number of
    kernels varies has one of each number too (`residuals.classed`), where measured. Steps of
    left-out shapes kept within `step_share` of what their leaves' spreads say together: a leaf's
    spread comes from shapes of any size, and large leaves, which make up a step, are predicted
    better than small ones.
    """

    parameters: Parameters
    keeps: bool  # whether the backend keeps what passes between parts on the chip
    nodes: Mapping[str, Nodes] = field(default_factory=dict)
    spreads: Mapping[str, float] = field(default_factory=dict)
    step_share: float = 1.0
    formats: Mapping[str, Parameters] = field(default_factory=dict)  # `Operator.computes_in`

    def parts_s(
        self, operator: Operator, launches: Sequence[Number], tokens: Number
    ) -> list[Number]:
        """Seconds of each part of an operator in one layer, by the model of parts alone.

        Args:
            operator: Of a step.
            launches: Kernels that begin at each of its parts.
            tokens: N of the step.
        """
        p, dtype = self.parameters, operator.computes_in
        if dtype is not None:
            p = self.formats.get(dtype.name, p)
        return [
            part_s(p, part, launches=count, tokens=tokens, keeps=self.keeps)
            for part, count in zip(operator.parts, launches, strict=True)
        ]

    def corrections(
        self, operators: Sequence[Operator], launches: Sequence[Number], tokens: Number
    ) -> list[tuple[Number, Number]]:
        """The factor on each operator's seconds that measured leaves give, and its spread.

        The spread is of ln(time); it grows with the distance from the nearest measured point. A
        leaf that was not measured has no factor, and sqrt(2) times the spread of all leaves.

        Args:
            operators: Of a step.
            launches: Kernels that begin at each operator.
            tokens: N of the step.
        """
        found: list[tuple[Number, Number]] = [(1.0, self.spreads[""] * sqrt(2))] * len(operators)
        places = [i for i, operator in enumerate(operators) if operator.leaf in self.nodes]
        if not places:
            return found
        leaves = tuple(operators[place].leaf for place in places)
        features = [features_of((operators[place],), tokens) for place in places]
        varies = any(isinstance(feature, np.ndarray) for each in features for feature in each)
        if varies or any(isinstance(launches[place], np.ndarray) for place in places):
            for place, leaf, each in zip(places, leaves, features, strict=True):
                correction, octaves = self.nodes[leaf].correction(each)
                spread = self._spread(leaf, launches[place])
                found[place] = np.exp(correction), spread * _further(octaves)
            return found
        by_place = zip(places, leaves, *_stacked(self, leaves).corrections(features), strict=True)
        for place, leaf, log_factor, octaves in by_place:
            found[place] = exp(log_factor), self._spread(leaf, launches[place]) * _further(octaves)
        return found

    def _spread(self, leaf: str, launches: Number) -> Number:
        """That of the leaf done by so many kernels, or of the leaf."""
        of_leaf = self.spreads.get(leaf, self.spreads[""])
        if not isinstance(launches, np.ndarray):
            return self.spreads.get(classed(leaf, int(launches)), of_leaf)
        counts, places = np.unique(launches, return_inverse=True)
        own = [self.spreads.get(classed(leaf, int(count)), of_leaf) for count in counts]
        return np.array(own)[places].reshape(launches.shape)

    def scaled(self, *, bandwidth: float, flops: float, l2: float = 1.0) -> "LeafTimes":
        """The same kernels on a GPU of so many times the HBM bandwidth, tensor FLOP/s and L2.

        Launches and latencies stay.
        """
        ratios = {"bytes_per_s": bandwidth, "flops_per_s": flops, "l2_bytes": l2}
        scaled = {
            name: value * ratios.get(name.rpartition(".")[2].removeprefix("hbm_"), 1.0)
            for name, value in self.parameters.items()
        }
        return replace(self, parameters=scaled)


@lru_cache(maxsize=256)
def _stacked(times: LeafTimes, leaves: tuple[str, ...]) -> Stack:
    """The nodes of a step's leaves; steps of a model have the same ones."""
    return Stack.of([times.nodes[leaf] for leaf in leaves])


def _further(octaves: Number) -> Number:
    """How much wider the spread is so many octaves from the nearest measured point."""
    return (1 + (octaves / FAR) ** 2) ** 0.5


def step_spread(
    seconds: Sequence[tuple[str, Number, Number]], total: Number, share: float = 1.0
) -> Number:
    """The standard deviation of ln(time) of a step.

    All layers of a leaf are one error, errors of different leaves are independent; what holds of a
    whole step comes on top (`OF_STEP`).

    Args:
        seconds: Leaf, seconds of all its layers, and the spread of one layer's ln(time).
        total: Seconds of the step.
        share: `LeafTimes.step_share`.
    """
    return (
        (share * leaves_spread(seconds, total)) ** 2 + sum(of**2 for of in OF_STEP.values())
    ) ** 0.5


def leaves_spread(seconds: Sequence[tuple[str, Number, Number]], total: Number) -> Number:
    """As `step_spread`, of the leaves alone."""
    by_leaf: dict[str, Number] = {}
    for leaf, each, spread in seconds:
        by_leaf[leaf] = by_leaf.get(leaf, 0.0) + each * spread
    variance: Number = 0.0
    for error in by_leaf.values():
        variance = variance + (error / total) ** 2
    return variance**0.5
