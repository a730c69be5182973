"""Fit leaf times and write them: `python -m profiler.calibrate.leaves.fit_file HARDWARE FILE...`.

The files are calibrations of leaves of one GPU, one for each backend. Every point is also predicted
by a fit that has not seen its shape, which gives the spreads of intervals and the table printed.
"""

import hashlib
import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from costmodel.backends import BACKENDS
from costmodel.costs.calibrations import FOLDER
from costmodel.costs.intervals import COVERAGE, NORMAL
from costmodel.costs.kernel_times import LEAVES
from costmodel.costs.leaf_times import leaves_spread
from costmodel.costs.residuals import FAR, Nodes, classed, features_of
from costmodel.recordings.leaf_calibration import load_leaf_calibration
from profiler.calibrate.leaves.fit import FIXED, fitted, predicted_s
from profiler.calibrate.leaves.points import Point, points_of

FEWEST_SHAPES = 3  # of a number of kernels that has a spread of its own
LAYERS = 16  # of a step that left-out leaves are put together to
ENDS = ("embed", "final_norm", "lm_head", "{final_norm,lm_head}")  # once in a step
FEWEST = 6  # points of a leaf that has a spread of its own
FOLDS = 13  # of shapes, whose families repeat every 12; each fit begins at that of all shapes
FOLD_ROUNDS = 8
LEAST_SPREAD = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """A point predicted without its shape: ln(measured / predicted), and octaves to a node."""

    point: Point
    model_error: float  # of the model alone
    error: float
    distance: float


def nodes_of(points: Sequence[Point], errors: Sequence[float]) -> dict[str, Nodes]:
    """The nodes of each leaf; a region's error is that of each leaf in it."""
    at: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    of: dict[str, list[float]] = defaultdict(list)
    for point, error in zip(points, errors, strict=True):
        for operator in point.operators:
            at[operator.leaf].append(features_of((operator,), point.tokens))
            of[operator.leaf].append(error)
    return {leaf: Nodes(features=np.array(at[leaf]), errors=np.array(of[leaf])) for leaf in at}


def classes_of(points: Sequence[Point]) -> set[str]:
    """Leaves by their number of kernels, where it varies and enough points and shapes have it."""
    counts: dict[str, set[int]] = defaultdict(set)
    shapes: dict[str, list[int]] = defaultdict(list)
    for point in points:
        for operator, launches in zip(point.operators, point.launches, strict=True):
            counts[operator.leaf].add(launches)
            shapes[classed(operator.leaf, launches)].append(point.shape)
    return {
        key
        for leaf, of in counts.items()
        for key in (classed(leaf, launches) for launches in of)
        if len(of) > 1 and len(shapes[key]) >= FEWEST and len(set(shapes[key])) >= FEWEST_SHAPES
    }


def held_out(
    points: Sequence[Point],
    parameters: Mapping[str, float],
    *,
    keeps: bool,
    say: Callable[[str], None],
) -> list[HeldOut]:
    """Every point, predicted by fits to shapes of other folds."""
    shapes = sorted({point.shape for point in points})
    found: list[HeldOut] = []
    for fold in range(min(FOLDS, len(shapes))):
        left = set(shapes[fold::FOLDS])
        seen = [point for point in points if point.shape not in left]
        own = fitted(seen, keeps=keeps, start=parameters, rounds=FOLD_ROUNDS)
        nodes = nodes_of(seen, [_error(own, point, keeps=keeps) for point in seen])
        found += [_held(point, own, nodes, keeps=keeps) for point in points if point.shape in left]
        say(f"fold {fold + 1} of {FOLDS}")
    return found


def _error(parameters: Mapping[str, float], point: Point, *, keeps: bool) -> float:
    return math.log(point.measured_s / predicted_s(parameters, point, keeps=keeps))


def _held(
    point: Point, parameters: Mapping[str, float], nodes: Mapping[str, Nodes], *, keeps: bool
) -> HeldOut:
    error = _error(parameters, point, keeps=keeps)
    found = [
        nodes[operator.leaf].correction(features_of((operator,), point.tokens))
        for operator in point.operators
        if operator.leaf in nodes
    ]
    correction = float(np.mean([each for each, _ in found])) if found else 0.0
    distance = float(np.max([each for _, each in found])) if found else 2 * FAR
    return HeldOut(point=point, model_error=error, error=error - correction, distance=distance)


def spreads_of(held: Sequence[HeldOut]) -> dict[str, float]:
    """By leaf and class: a standard deviation whose interval held nine residuals in ten.

    It is that next to a node.
    """
    of: dict[str, list[float]] = defaultdict(list)
    own = classes_of([each.point for each in held])
    for each in held:
        near = abs(each.error) / math.sqrt(1 + (each.distance / FAR) ** 2)
        of[""].append(near)
        for operator, launches in zip(each.point.operators, each.point.launches, strict=True):
            of[operator.leaf].append(near)
            if (key := classed(operator.leaf, launches)) in own:
                of[key].append(near)
    return {
        leaf: max(LEAST_SPREAD, float(np.quantile(near, COVERAGE)) / NORMAL)
        for leaf, near in of.items()
        if leaf == "" or len(near) >= FEWEST
    }


def step_share_of(held: Sequence[HeldOut], spreads: Mapping[str, float]) -> float:
    """What share of the leaves' spreads together nine steps of left-out shapes in ten keep within.

    A step of a shape has `LAYERS` of each leaf in its layers, and one of those beside them.
    """
    shapes: dict[int, list[HeldOut]] = defaultdict(list)
    for each in held:
        shapes[each.point.shape].append(each)
    reached = []
    for of in shapes.values():
        counts = [1 if each.point.leaf in ENDS else LAYERS for each in of]
        taken = [n * each.point.measured_s for n, each in zip(counts, of, strict=True)]
        times = [s / math.exp(each.error) for s, each in zip(taken, of, strict=True)]
        leaves = [
            (each.point.leaf, seconds, _spread_of(each, spreads))
            for each, seconds in zip(of, times, strict=True)
        ]
        error = math.log(sum(taken) / sum(times))
        reached.append(abs(error) / (NORMAL * float(leaves_spread(leaves, sum(times)))))
    return min(1.0, float(np.quantile(reached, COVERAGE)))


def _spread_of(held: HeldOut, spreads: Mapping[str, float]) -> float:
    """The widest of the operators of a point, as far as it was from a node."""
    return math.sqrt(1 + (held.distance / FAR) ** 2) * max(
        spreads.get(classed(operator.leaf, n), spreads.get(operator.leaf, spreads[""]))
        for operator, n in zip(held.point.operators, held.point.launches, strict=True)
    )


def fit_table(path: Path, say: Callable[[str], None]) -> tuple[str, dict[str, Any]]:
    """The backend of a calibration, and what is fitted of it, as the file holds it."""
    calibration = load_leaf_calibration(path)
    keeps = BACKENDS[calibration.backend].saves_intermediates
    points = points_of(calibration)
    parameters = fitted(points, keeps=keeps)
    held = held_out(points, parameters, keeps=keeps, say=say)
    report(calibration.backend, held, say)
    nodes = nodes_of(points, [_error(parameters, point, keeps=keeps) for point in points])
    machine = calibration.sessions[0].machine
    spreads = {leaf: round(spread, 4) for leaf, spread in spreads_of(held).items()}
    rounded = {name: float(f"{value:.5g}") for name, value in {**FIXED, **parameters}.items()}
    return calibration.backend, {
        "source": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "measured": calibration.finished,
        "driver": machine.driver,
        "torch": machine.torch,
        "shapes": len({point.shape for point in points}),
        "parameters": rounded,
        "spreads": spreads,
        "step_share": round(step_share_of(held, spreads), 3),
        "nodes": {
            leaf: [
                {"at": [round(float(x), 3) for x in at], "error": round(float(error), 4)}
                for at, error in zip(of.features, of.errors, strict=True)
            ]
            for leaf, of in nodes.items()
        },
    }


def report(backend: str, held: Sequence[HeldOut], say: Callable[[str], None]) -> None:
    """Errors on shapes left out, by leaf or region."""
    by: dict[str, list[HeldOut]] = defaultdict(list)
    for each in held:
        by[each.point.leaf].append(each)
    say(f"{backend}: {len(held)} points left out with their shapes")
    for leaf, of in [*sorted(by.items()), ("all", list(held))]:
        model = np.mean([abs(math.expm1(-each.model_error)) for each in of])
        both = np.mean([abs(math.expm1(-each.error)) for each in of])
        worst = max(of, key=lambda each: abs(each.error))
        say(
            f"{leaf:36} {len(of):4}  model {model:6.1%}  corrected {both:6.1%}"
            f"  worst {math.exp(worst.error):.2f} (shape {worst.point.shape})"
        )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Fit the files named on the command line, and write the shipped file of that GPU."""
    hardware, *paths = sys.argv[1:]
    tables = dict(fit_table(Path(path), _say) for path in paths)
    loops = [
        loop
        for path in paths
        for loop in json.loads(Path(path).read_text(encoding="utf-8"))["loops"]
    ]
    fields = {
        "schema_version": 1,
        "kind": "leaf_times",
        "hardware": hardware,
        "command": "python -m profiler.calibrate.leaves.fit_file "
        + " ".join([hardware, *(Path(path).name for path in paths)]),
        "backends": tables,
        "loops": loops,
    }
    text = json.dumps(fields, indent=None, separators=(",", ":"))
    text = text.replace('"nodes":', '\n"nodes":').replace("}],", "}],\n").replace('"sha', '\n"sha')
    (FOLDER / f"{hardware}{LEAVES}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
