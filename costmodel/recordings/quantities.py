"""The quantities that a profile measures: name, unit, kind of run, and predicted counterpart.

The list is part of a recording's schema. A recording that holds any other name is refused, since a
misspelt quantity would otherwise never be compared with its prediction. A new quantity is one entry
here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

RunName: TypeAlias = Literal["time", "trace", "counters", "energy"]
RUNS: tuple[RunName, ...] = ("time", "trace", "counters", "energy")

Unit: TypeAlias = Literal["count", "flops", "bytes", "s", "j", "w"]
Level: TypeAlias = Literal["step", "operators"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One measured quantity.

    Attributes:
        name: its key in a recording.
        title: what a reader calls it.
        unit: of its values.
        runs: the kinds of run that measure it.
        levels: whether it is measured of the whole step, of each operator, or of both.
        exact: whether it is a count that the cost model must predict to the unit.
        only: which cases have it: those with tables in host memory, or with a state; None: all.
        counterpart: the predicted number that it is compared with, in words; empty for none.
    """

    name: str
    title: str
    unit: Unit
    runs: tuple[RunName, ...]
    levels: tuple[Level, ...]
    exact: bool = False
    only: Literal["host", "state"] | None = None
    counterpart: str = ""


OF_STEP: tuple[Level, ...] = ("step",)
OF_BOTH: tuple[Level, ...] = ("step", "operators")

QUANTITIES: dict[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        Quantity(
            name="parameters",
            title="parameters",
            unit="count",
            runs=("time",),
            levels=OF_STEP,
            exact=True,
            counterpart="parameters, embeddings in, a tied table once",
        ),
        Quantity(
            name="buffer_bytes",
            title="buffers",
            unit="bytes",
            runs=("time",),
            levels=OF_STEP,
            exact=True,
            counterpart="permutations, u and v",
        ),
        Quantity(
            name="kv_held_bytes",
            title="KV cache held",
            unit="bytes",
            runs=("time",),
            levels=OF_STEP,
            exact=True,
            counterpart="KV cache stored after the step, by the tokens held",
        ),
        Quantity(
            name="kv_allocated_bytes",
            title="KV cache allocated",
            unit="bytes",
            runs=("time",),
            levels=OF_STEP,
        ),
        Quantity(
            name="state_held_bytes",
            title="state held",
            unit="bytes",
            runs=("time",),
            levels=OF_STEP,
            exact=True,
            only="state",
            counterpart="state of recurrent layers, of all sequences",
        ),
        Quantity(
            name="flops_counted",
            title="FLOPs counted",
            unit="flops",
            runs=("time",),
            levels=OF_BOTH,
            exact=True,
            counterpart="FLOPs of matrix products, attention (full square) and gathers",
        ),
        Quantity(
            name="graph_s",
            title="time as a CUDA graph",
            unit="s",
            runs=("time",),
            levels=OF_STEP,
            counterpart="time of the step as a CUDA graph",
        ),
        Quantity(
            name="eager_s",
            title="eager time",
            unit="s",
            runs=("time",),
            levels=OF_STEP,
            counterpart="time of the step, its kernels launched eagerly",
        ),
        Quantity(
            name="kernel_s",
            title="kernel time",
            unit="s",
            runs=("trace",),
            levels=OF_BOTH,
            counterpart="time of the kernels, without the pauses between them",
        ),
        # measured on a CPU: operands and results of unfused operations, by their shapes
        Quantity(
            name="logical_bytes",
            title="bytes by shapes",
            unit="bytes",
            runs=("time",),
            levels=OF_BOTH,
            counterpart="compulsory, activation and intermediate bytes of all parts",
        ),
        Quantity(
            name="wall_s", title="wall time", unit="s", runs=("time",), levels=("operators",)
        ),  # measured on a CPU
        Quantity(
            name="launches",
            title="kernel launches",
            unit="count",
            runs=("trace",),
            levels=OF_BOTH,
            counterpart="kernels of plain PyTorch",
        ),
        Quantity(
            name="distinct",
            title="distinct experts or rows",
            unit="count",
            runs=("time", "trace", "counters"),
            levels=("operators",),
            counterpart="expected distinct experts or rows of the layer",
        ),
        Quantity(
            name="peak_memory_bytes",
            title="peak memory",
            unit="bytes",
            runs=("time",),
            levels=OF_STEP,
            counterpart="weights, buffers, KV cache, state and the widest operator's activations",
        ),
        Quantity(
            name="resident_memory_bytes",
            title="resident memory",
            unit="bytes",
            runs=("time",),
            levels=OF_STEP,
            counterpart="weights, buffers, KV cache and state",
        ),
        Quantity(
            name="hbm_read_bytes",
            title="HBM bytes read",
            unit="bytes",
            runs=("counters",),
            levels=OF_BOTH,
            counterpart="HBM bytes read",
        ),
        Quantity(
            name="hbm_written_bytes",
            title="HBM bytes written",
            unit="bytes",
            runs=("counters",),
            levels=OF_BOTH,
            counterpart="HBM bytes written",
        ),
        Quantity(
            name="host_read_bytes",
            title="bytes read from host memory",
            unit="bytes",
            runs=("counters",),
            levels=OF_BOTH,
            only="host",
            counterpart="rows of tables in host memory, in whole sectors of 32 bytes",
        ),
        # reads and writes together, where GPM is the only counter
        Quantity(
            name="hbm_bytes",
            title="HBM bytes read and written",
            unit="bytes",
            runs=("counters",),
            levels=OF_STEP,
            counterpart="HBM bytes read and written",
        ),
        Quantity(
            name="flops_tensor",
            title="FLOPs of tensor cores",
            unit="flops",
            runs=("counters",),
            levels=OF_BOTH,
            counterpart="model FLOPs of matrix products and attention",
        ),
        Quantity(
            name="energy_j",
            title="energy",
            unit="j",
            runs=("energy",),
            levels=OF_STEP,
            counterpart="energy of the step, over its time as a CUDA graph",
        ),
        Quantity(
            name="power_w",
            title="power, by the energy counter",
            unit="w",
            runs=("energy",),
            levels=OF_STEP,
        ),
        Quantity(
            name="instant_power_w",
            title="power, by readings",
            unit="w",
            runs=("energy",),
            levels=OF_STEP,
        ),
        Quantity(
            name="idle_power_w", title="idle power", unit="w", runs=("energy",), levels=OF_STEP
        ),
    )
}


def measured_in(run: RunName, level: Level) -> tuple[str, ...]:
    """The names of the quantities that a kind of run measures at one level, in the list's order."""
    return tuple(
        name
        for name, quantity in QUANTITIES.items()
        if run in quantity.runs and level in quantity.levels
    )


def unknown_names(names: Iterable[str], run: RunName, level: Level) -> list[str]:
    """Those of `names` that this kind of run does not measure at this level."""
    known = measured_in(run, level)
    return [name for name in names if name not in known]
