"""A grid of predictions: routing x hardware x batch x context, in one broadcast evaluation.

Formulas take arrays, so a block of the grid costs about as many operations as one prediction. All
numbers equal those of `predict` to the bit, predicted times and energies but for the last digits
(NumPy's logarithm is not Python's). Counts are int64 while every total of a block stays
within `HEADROOM`, and Python integers beyond it, which are slower and never wrap.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from operator import index

import numpy as np

from costmodel.costs.beyond_histogram import beyond, without_nan
from costmodel.costs.bounded import Bounded, bounded
from costmodel.costs.chosen_mesh import with_mesh
from costmodel.costs.columns import (
    PREDICTED,
    Value,
    columns,
    parallel_columns,
    predicted_columns,
    told_columns,
)
from costmodel.costs.gpu import Gpu
from costmodel.costs.gpu_axis import along_gpus, joined
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import NOT_ASKED, StepTime, Unknown
from costmodel.costs.operators import build_operators
from costmodel.costs.roofline import Ceilings, Peak
from costmodel.errors import InputError, shown
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import MAX_BATCH, MAX_CONTEXT, Workload
from costmodel.layers.numbers import Count, Number
from costmodel.questions.grid import Column, Grid, value_bytes
from costmodel.routing.axis import RoutingAxis
from costmodel.routing.by_population import histograms_of
from costmodel.routing.popularity import Routing

MAX_POINTS = 5_000_000  # of a grid
MAX_BYTES = 4_000_000_000  # of a grid's columns
BLOCK_POINTS = 2**16  # evaluated at once: few enough to stay in a cache, many enough to pay
BLOCK_OPERATORS = 64  # a model with more has smaller blocks, as each operator holds arrays
HEADROOM = (
    2**61
)  # intermediate values stay within 4 times the largest total (tests/questions/test_sweep.py)


def sweep(
    model: ModelConfig,
    workload: Workload,
    *,
    batches: Sequence[int],
    contexts: Sequence[int],
    routings: Sequence[Routing],
    hardwares: Sequence[Hardware],
    calibrations: Sequence[Curves | Unknown] | None = None,
    held_bytes: int = 0,
) -> Grid:
    """What `predict` gives for every routing, hardware, batch and context, all else as `workload`.

    `calibrations` holds one for each hardware. Where one of them gives a time, the grid has the
    predicted columns and the names of the calibrations, with None for the hardware of the others.
    `held_bytes` are those of other grids that are kept beside this one.

    Raises:
        InputError: A value leaves its bounds, the grid is empty or passes `MAX_POINTS`, or its
            columns with `held_bytes` would pass `MAX_BYTES`.
    """
    workload = workload.of_model(model)
    shape = len(routings), len(hardwares), len(batches), len(contexts)
    if not 1 <= math.prod(shape) <= MAX_POINTS:
        raise InputError(
            f"sweep={' x '.join(map(str, shape))} (routing x hardware x batch x context):"
            f" a grid has 1 to {MAX_POINTS:,} points"
        )
    batches = _checked("batch", batches, 1, MAX_BATCH)
    contexts = _checked("context", contexts, 0, MAX_CONTEXT)
    curves = [NOT_ASKED] * len(hardwares) if calibrations is None else calibrations
    gpus = [
        Gpu(hardware=hardware, calibration=calibration)
        for hardware, calibration in zip(hardwares, curves, strict=True)
    ]
    ceilings = [gpu.ceilings(workload) for gpu in gpus]
    largest_step = replace(workload, batch=max(batches), context=max(contexts))
    chosen = {
        with_mesh(model, largest_step, hardware, bounds).mesh
        for hardware, bounds in zip(hardwares, ceilings, strict=True)
    }
    if len(chosen) > 1:
        raise InputError(
            f"gpus={shown('auto')}: gives the GPUs of this sweep different meshes"
            f" ({'; '.join(mesh.label for mesh in chosen)}); state one"
        )
    workload = replace(workload, mesh=chosen.pop())

    def costs_at(
        batch: Count,
        context: Count,
        routing: Routing,
        bounds: Ceilings,
        of_hardwares: Sequence[Hardware],
    ) -> tuple[Bounded, dict[str, Value]]:
        step = workload.step(batch=batch, context=context, routing=routing)
        at_best = bounded(model, step, workload, bounds, of_hardwares)
        return at_best, _mesh_columns(at_best) | columns(
            at_best.costs,
            at_best.memory,
            tokens=step.tokens,
            backend=workload.backend,
            floor=at_best.floor_s,
            bound=at_best.bound_by,
            fits_l2=at_best.fits_l2,
        )

    def predicted_at(times: Sequence[StepTime | Unknown], tokens: Count) -> dict[str, Value]:
        """The predicted columns, of a time for each GPU; none if no time is known."""
        if all(isinstance(time, Unknown) for time in times):
            return {}
        by_gpu = [predicted_columns(time, tokens=tokens) for time in times]
        names = [None if isinstance(c, Unknown) else c.name for c in curves]
        return {
            **{name: joined([columns[name] for columns in by_gpu]) for name in PREDICTED},
            "calibration": np.array(names, dtype=object).reshape(-1, 1, 1),
            **told_columns(times),
        }

    def corner(batch: int, context: int) -> tuple[bool, dict[str, Value], int]:
        """Of the largest batch and context: whether a count passes `HEADROOM`, costs, operators."""
        at_best, point = costs_at(batch, context, routings[0], ceilings[0], hardwares[:1])
        costs = at_best.costs
        counts = (x for x in (*astuple(costs.totals), *point.values()) if isinstance(x, int))
        return max(counts) > HEADROOM, point, len(costs.operators)

    wide, largest, operators = corner(max(batches), max(contexts))
    dtypes = {name: _dtype(value) for name, value in largest.items()}
    whole: dict[str, Column] = {}
    for rows, cols in _blocks(shape, operators):
        b, c = batches[rows], contexts[cols]
        count = object if wide and corner(max(b), max(c))[0] else np.int64
        batch = np.array(b, dtype=count).reshape(1, -1, 1)
        at_best, block = costs_at(
            batch,
            np.array(c, dtype=count).reshape(1, 1, -1),
            RoutingAxis(tuple(routings)),
            _of_gpus(ceilings),
            hardwares,
        )
        times = [at_best.time(workload, gpu, place) for place, gpu in enumerate(gpus)]
        block |= predicted_at(times, batch * workload.new_tokens)
        parts = {
            name: np.array(value, dtype=dtypes.get(name), ndmin=4, copy=None)
            for name, value in block.items()
        }
        if not whole:
            measured = any(histograms_of(routing) for routing in routings)
            whole = _empty(parts, shape, held_bytes, may_be_unknown=measured)
        for name, part in parts.items():
            whole[name][:, :, rows, cols] = part  # an axis of length 1 is filled by any block
    known = without_nan(whole)
    unknown = [name for name, column in known.items() if column is not whole[name]]
    return Grid(
        model=model.name,
        workload=workload,
        routings=tuple(routing.label for routing in routings),
        hardwares=tuple(gpu.name for gpu in hardwares),
        batches=batches,
        contexts=contexts,
        columns=known,
        reasons=_reasons(times, at_best.costs.kernels(workload.backend).refusal)
        | dict.fromkeys(unknown, _beyond(model, workload, routings, max(batches))),
    )


def _beyond(model: ModelConfig, workload: Workload, routings: Sequence[Routing], batch: int) -> str:
    """Why the largest batch has numbers that a histogram cannot give; empty if it has them all."""
    reasons = []
    for routing in routings:
        if histograms_of(routing):
            largest = replace(workload, batch=batch, routing=routing)
            unknown = beyond(build_operators(model, largest.step()), largest)
            reasons += [] if unknown is None else [unknown.reason]
    return "; ".join(dict.fromkeys(reasons))


def _reasons(times: Sequence[StepTime | Unknown], refusal: str | None) -> dict[str, str]:
    """Why predicted times are not among the columns, and why launches are None, by column."""
    unknown = dict.fromkeys(time.reason for time in times if isinstance(time, Unknown))
    reasons = {}
    if not any(isinstance(time, StepTime) for time in times):
        reasons["time.predicted_s"] = "; ".join(unknown)
    if refusal is not None:
        reasons["routing.launches"] = refusal
    return reasons


def _of_gpus(ceilings: Sequence[Ceilings]) -> Ceilings:
    """The ceilings of all GPUs, each number along the axis of hardware."""
    first = ceilings[0]
    return Ceilings(
        hbm_bytes_per_s=along_gpus([bounds.hbm_bytes_per_s for bounds in ceilings]),
        peak_flops_per_s=along_gpus([bounds.peak_flops_per_s for bounds in ceilings]),
        other_peaks={
            name: Peak(
                along_gpus([bounds.other_peaks[name].flops_per_s for bounds in ceilings]), name
            )
            for name in first.other_peaks
        },
        link_bytes_per_s=_if_all([bounds.link_bytes_per_s for bounds in ceilings]),
        disk_bytes_per_s=_if_all([bounds.disk_bytes_per_s for bounds in ceilings]),
        disk_latency_s=along_gpus([bounds.disk_latency_s for bounds in ceilings]),
    )


def _if_all(values: Sequence[Number | None]) -> Column | None:
    """A ceiling that the placement needs of all GPUs, or of none."""
    known = [value for value in values if value is not None]
    return along_gpus(known) if len(known) == len(values) else None


def _mesh_columns(step: Bounded) -> dict[str, Value]:
    """What a mesh has besides; none on one GPU. Exchanges differ from one hardware to another.

    Leaves out the reads of the busiest GPU, which not every routing tells.
    """
    each = [parallel_columns(step.costs, of) for of in step.parallel]
    for columns_of_one in each:
        del columns_of_one["parallel.busiest_rows"]
    if len(each) <= 1:
        return each[0] if each else {}
    return {
        name: joined([of_one[name] for of_one in each])
        if name.startswith("parallel.communication.")
        else value
        for name, value in each[0].items()
    }


def _checked(field: str, values: Sequence[int], low: int, high: int) -> tuple[int, ...]:
    whole = tuple(map(index, values))  # no NumPy integers, which wrap
    for value in whole:
        if not low <= value <= high:
            raise InputError(f"{field}={shown(value)}: must lie between {low} and {high:,}")
    return whole


def _empty(
    parts: Mapping[str, Column],
    shape: tuple[int, int, int, int],
    held_bytes: int,
    *,
    may_be_unknown: bool,
) -> dict[str, Column]:
    """Columns for the whole grid, of the axes and dtypes that those of its first block have.

    Where a histogram may leave numbers unknown, columns become objects, as they can hold None.
    """
    lengths = {
        name: [n if m > 1 else 1 for n, m in zip(shape, part.shape, strict=True)]
        for name, part in parts.items()
    }
    needed = held_bytes + sum(
        math.prod(lengths[name]) * value_bytes(np.dtype(object) if may_be_unknown else part.dtype)
        for name, part in parts.items()
    )
    if needed > MAX_BYTES:
        raise InputError(
            f"sweep={math.prod(shape)}: with its columns {needed / 1e9:.1f} GB would be held in"
            f" memory, at most {MAX_BYTES / 1e9:.1f} GB may be; take fewer points or models"
        )
    return {name: np.empty(lengths[name], part.dtype) for name, part in parts.items()}


def _blocks(shape: tuple[int, int, int, int], operators: int) -> Iterator[tuple[slice, slice]]:
    """Slices of batch and context that cover the grid in blocks of about `BLOCK_POINTS`.

    A block has at least two of each where the grid has, so that its columns show what they
    depend on.
    """
    num_batches, num_contexts = shape[2:]
    smaller = -(-operators // BLOCK_OPERATORS)
    points = BLOCK_POINTS // (shape[0] * shape[1] * smaller)
    cols = min(num_contexts, max(2, points // 2))
    rows = min(num_batches, max(2, points // cols))
    for row in range(0, num_batches, rows):
        for col in range(0, num_contexts, cols):
            yield slice(row, row + rows), slice(col, col + cols)


def _dtype(value: Value) -> type | str:
    """The dtype of a column whose largest value this is."""
    if isinstance(value, int) and value > np.iinfo(np.int64).max:
        return object
    dtypes: dict[type, type | str] = {bool: bool, int: np.int64, float: np.float64, str: "<U8"}
    return dtypes.get(type(value), object)
