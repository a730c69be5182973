"""Fetches of table rows from outside HBM: how long they take, and how much of that nothing hides.

A kernel reads the rows over the link into a buffer on the chip, and the layer reads them there.
Where the layer chooses its rows by scores, they are known in the layer alone, and nothing runs
beside the fetch. Where rows follow from token ids, they are known when the step begins, and the
fetch runs beside the work before the layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from costmodel.costs.kernel_times import Curves
from costmodel.layers.numbers import Number, larger
from costmodel.layers.operator import Operator

NOTHING = 0  # most parts fetch no rows
OUTSIDE = -1  # where what stands beside the blocks stands, before the first of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetches:
    """Seconds that a step's fetches take on the link."""

    seconds: Number  # all of them, one after the other
    exposed_s: Number  # what nothing hides
    waited_s: Number  # of `exposed_s`, what the step waits for early fetches: no operator has it


NO_FETCH = Fetches(seconds=0.0, exposed_s=0.0, waited_s=0.0)


def unpriced(curves: Curves, operators: Sequence[Operator]) -> str:
    """Why the fetches of a step have no predicted time; empty if they have one, or there are none.

    Their bound needs no measurement: bytes / rate of the link, and the same of a disk with its
    latency (`Ceilings.far_s`).
    """
    parts = [part for operator in operators for part in operator.parts]
    if any(part.disk_bytes is not NOTHING for part in parts):
        return "no times of rows read from a disk are measured; the roofline bound has them"
    fetch = any(part.host_bytes is not NOTHING for part in parts)
    if fetch and curves.link is None:
        return (
            "no times of rows read from host memory are measured on"
            f" {curves.calibration.hardware}; the roofline bound has them"
        )
    return ""


def fetches(
    curves: Curves, operators: Sequence[Operator], operators_s: Sequence[Number]
) -> Fetches:
    """The fetches of a step, and what of them nothing hides.

    Formula: fetches known ahead run on the link one after the other from the beginning of the step,
    in the order of their layers: fetch i ends at F_i = f_1 + ... + f_i. Layer i would begin at c_i,
    the predicted time of all that runs before it. The step waits max(0, max over i of F_i - c_i) in
    all: what one layer waited, later ones do not wait again. Fetches of rows chosen by scores are
    exposed whole.
    Leaves out: that a fetch slows the work beside it, and is slowed by it. On an H200 a gather of
    1,536 short rows hid almost wholly beside matrix products (323 us became 330 to 341), one of
    24,576 short rows not at all: both together took longer than one after the other. Also that
    fetches of both sorts share the link, and the launches of early fetches on the host.
    Source: a queue with one server; the times beside products (24 of 64 x 4096 x 4096, on a second
    stream of one CUDA graph) were measured on one H200, 2026-12-01.

    Args:
        curves: Kernel times of the GPU, with those of its link.
        operators: Of the step, in the order of a block.
        operators_s: Predicted seconds of one layer of each.
    """
    early: list[tuple[int, int, Number]] = []  # layer, place in a block, seconds
    seconds: Number = 0.0
    chosen: Number = 0.0
    for place, operator in enumerate(operators):
        for part in operator.parts:
            if part.fetched_bytes is NOTHING:
                continue
            one = curves.fetch_s(part)
            if part.early:
                early += [(layer, place, one) for layer in operator.layers or (OUTSIDE,)]
            else:
                chosen = chosen + operator.count * one
            seconds = seconds + operator.count * one
    waited: Number = 0.0
    ends: Number = 0.0
    before = _Before(operators, operators_s)
    for layer, place, one in sorted(early, key=lambda fetch: fetch[:2]):
        ends = ends + one
        waited = larger(waited, ends - before.seconds(layer, place))
    return Fetches(seconds=seconds, exposed_s=chosen + waited, waited_s=waited)


class _Before:
    """The predicted time of what runs before an operator of a layer, from the step's beginning."""

    def __init__(self, operators: Sequence[Operator], operators_s: Sequence[Number]) -> None:
        self._operators, self._seconds = operators, operators_s
        self._blocks: dict[int, Number] = {}  # seconds of a whole block
        for operator, one in zip(operators, operators_s, strict=True):
            for layer in operator.layers:
                self._blocks[layer] = self._blocks.get(layer, 0.0) + one

    def seconds(self, layer: int, place: int) -> Number:
        """Of all before the operator that stands at `place` in the list, in one layer."""
        total: Number = 0.0
        for block, whole in self._blocks.items():
            if block < layer:
                total = total + whole
        for operator, one in zip(self._operators[:place], self._seconds[:place], strict=True):
            if not operator.layers or layer in operator.layers:
                total = total + one
        return total
