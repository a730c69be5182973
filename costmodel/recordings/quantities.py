"""What a profile measures: each quantity's name, unit, run, and what of a prediction it stands by.

The list is part of a recording's schema: a name that is not on it is refused, since a misspelt
quantity would otherwise never meet its prediction. A new quantity is one line here.
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
    """One measured quantity of a step, of its operators, or of both.

    `title` is what a reader calls it. `exact` ones are counts that the cost model must meet to the
    unit. `beside` says in words what of a prediction stands beside it; empty where a prediction
    says nothing.
    """

    name: str
    title: str
    unit: Unit
    runs: tuple[RunName, ...]
    levels: tuple[Level, ...]
    exact: bool = False
    beside: str = ""


STEP: tuple[Level, ...] = ("step",)
BOTH: tuple[Level, ...] = ("step", "operators")

QUANTITIES: dict[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        Quantity(
            name="parameters",
            title="parameters",
            unit="count",
            runs=("time",),
            levels=STEP,
            exact=True,
            beside="parameters, embeddings in, a tied table once",
        ),
        Quantity(
            name="buffer_bytes",
            title="buffers",
            unit="bytes",
            runs=("time",),
            levels=STEP,
            exact=True,
            beside="permutations, u and v",
        ),
        Quantity(
            name="kv_held_bytes",
            title="KV cache held",
            unit="bytes",
            runs=("time",),
            levels=STEP,
            exact=True,
            beside="KV cache stored after the step, by the tokens held",
        ),
        Quantity(
            name="kv_allocated_bytes",
            title="KV cache allocated",
            unit="bytes",
            runs=("time",),
            levels=STEP,
        ),
        Quantity(
            name="flops_counted",
            title="FLOPs counted",
            unit="flops",
            runs=("time",),
            levels=BOTH,
            exact=True,
            beside="FLOPs of matrix products, attention (full square) and gathers",
        ),
        Quantity(
            name="graph_s",
            title="time as a CUDA graph",
            unit="s",
            runs=("time",),
            levels=STEP,
            beside="time of the step as a CUDA graph",
        ),
        Quantity(
            name="eager_s",
            title="time launched one by one",
            unit="s",
            runs=("time",),
            levels=STEP,
            beside="time of the step, launched one by one",
        ),
        Quantity(
            name="kernel_s",
            title="kernel time",
            unit="s",
            runs=("trace",),
            levels=BOTH,
            beside="time of the kernels",
        ),
        # of a CPU: what unfused operations read and write, by their shapes
        Quantity(
            name="logical_bytes",
            title="bytes by shapes",
            unit="bytes",
            runs=("time",),
            levels=BOTH,
            beside="compulsory, activation and intermediate bytes of all parts",
        ),
        Quantity(
            name="wall_s", title="wall time", unit="s", runs=("time",), levels=("operators",)
        ),  # of a CPU
        Quantity(
            name="launches",
            title="kernel launches",
            unit="count",
            runs=("trace",),
            levels=BOTH,
            beside="kernels of plain PyTorch",
        ),
        Quantity(
            name="distinct",
            title="distinct experts or rows",
            unit="count",
            runs=("time", "trace", "counters"),
            levels=("operators",),
            beside="expected distinct experts or rows of the layer",
        ),
        Quantity(
            name="peak_memory_bytes",
            title="peak memory",
            unit="bytes",
            runs=("time",),
            levels=STEP,
            beside="weights, buffers, KV cache and the widest operator's activations",
        ),
        Quantity(
            name="resident_memory_bytes",
            title="resident memory",
            unit="bytes",
            runs=("time",),
            levels=STEP,
            beside="weights, buffers and KV cache",
        ),
        Quantity(
            name="hbm_read_bytes",
            title="HBM bytes read",
            unit="bytes",
            runs=("counters",),
            levels=BOTH,
            beside="HBM bytes read",
        ),
        Quantity(
            name="hbm_written_bytes",
            title="HBM bytes written",
            unit="bytes",
            runs=("counters",),
            levels=BOTH,
            beside="HBM bytes written",
        ),
        # read and written together, where GPM is all there is
        Quantity(
            name="hbm_bytes",
            title="HBM bytes read and written",
            unit="bytes",
            runs=("counters",),
            levels=STEP,
            beside="HBM bytes read and written",
        ),
        Quantity(
            name="flops_tensor",
            title="FLOPs of tensor cores",
            unit="flops",
            runs=("counters",),
            levels=BOTH,
            beside="useful FLOPs of matrix products and attention",
        ),
        Quantity(
            name="energy_j",
            title="energy",
            unit="j",
            runs=("energy",),
            levels=STEP,
            beside="energy of the step",
        ),
        Quantity(
            name="power_w",
            title="power, by the energy counter",
            unit="w",
            runs=("energy",),
            levels=STEP,
        ),
        Quantity(
            name="instant_power_w",
            title="power, by readings",
            unit="w",
            runs=("energy",),
            levels=STEP,
        ),
        Quantity(name="idle_power_w", title="idle power", unit="w", runs=("energy",), levels=STEP),
    )
}


def measured_in(run: RunName, level: Level) -> tuple[str, ...]:
    """The names that a run may give at one level, in the order of the list."""
    return tuple(
        name
        for name, quantity in QUANTITIES.items()
        if run in quantity.runs and level in quantity.levels
    )


def unknown_names(names: Iterable[str], run: RunName, level: Level) -> list[str]:
    """Those of `names` that the run does not give at this level."""
    known = measured_in(run, level)
    return [name for name in names if name not in known]
