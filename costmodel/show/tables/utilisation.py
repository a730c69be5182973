"""How well measured steps used the GPU, case by case: bandwidth, FLOP rate, routing's cost."""

from collections.abc import Sequence
from itertools import pairwise

from costmodel import units
from costmodel.costs.quantities.quantity import Quantity
from costmodel.costs.quantities.utilisation import UTILISATION_QUANTITIES
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.show.tables.validation_cells import NONE, at
from costmodel.show.text import Table, folded
from costmodel.validation.utilisation import Utilisation
from costmodel.validation.validate import CaseUtilisation

QUOTED_CONTEXT = 2048  # of the decode steps that people compare
# Where all are wanted
FURTHER = (
    *("routing_launches", "routing_hbm_bytes", "routing_flops", "leaves_over_step"),
    "gap_per_kernel_s",
)
UNSHOWN = ("leaves_read_bytes",)  # stands in its share of the step's reads
EXPLAINED = ("mbu", "mfu", "routing_kernel_s")
NOTES = tuple(
    note
    for quantity in map(UTILISATION_QUANTITIES.__getitem__, EXPLAINED)
    for note in (
        f"{quantity.label}: {quantity.counts}.",
        *([f"  Left out: {quantity.leaves_out}."] if quantity.leaves_out else []),
    )
)


def utilisation_table(cases: Sequence[CaseUtilisation], *, whole: bool) -> Table:
    """Uniform decode at the usual context, or every case where there is none, or all are wanted."""
    quoted = [case for case in cases if is_quoted(case.origin.workload)]
    chosen = list(cases) if whole or not quoted else quoted
    known = [case for case in chosen if case.utilisation.tokens_per_s.value is not None]
    shown = chosen if whole else known
    columns = [
        quantity
        for quantity in UTILISATION_QUANTITIES.values()
        if quantity.name not in UNSHOWN
        and (whole or quantity.name not in FURTHER)
        and any(_value(case.utilisation, quantity.name) is not None for case in shown)
    ]
    only = f", uniform decode at context {QUOTED_CONTEXT:,}" if quoted and not whole else ""
    notes = [*NOTES] if columns else []
    if len(known) < len(chosen):
        notes.append(f"Without a time: {len(chosen) - len(known):,} of these cases.")
    if len(chosen) < len(cases):
        notes.append(f"Other cases: {len(cases) - len(chosen):,}, which --all lists.")
    eager = any(case.utilisation.time_of == "eager_s" for case in known)
    return Table(
        title=f"What was achieved{only}",
        headers=(
            "model, batch x context",
            *(["time"] * eager),
            *(folded(quantity.label) for quantity in columns),
        ),
        rows=tuple(
            (
                at(case.origin),
                *([case.utilisation.time_of.removesuffix("_s")] * eager),
                *(_cell(case.utilisation, quantity) for quantity in columns),
            )
            for case in shown
        ),
        text_columns=1 + eager,
        sections=_ends(shown),
        notes=tuple(notes),
    )


def is_quoted(work: CaseWorkload) -> bool:
    """Whether a case is one of the decode steps that people compare."""
    return (work.phase, work.routing, work.context) == ("decode", "uniform", QUOTED_CONTEXT)


def _value(utilisation: Utilisation, name: str) -> float | None:
    value: float | None = getattr(utilisation, name).value
    return value


def _cell(utilisation: Utilisation, quantity: Quantity) -> str:
    value = _value(utilisation, quantity.name)
    return NONE if value is None else units.formatted(value, quantity.unit)


def _ends(cases: Sequence[CaseUtilisation]) -> frozenset[int]:
    """Where one recording ends and another begins."""
    names = [case.origin.recording for case in cases]
    return frozenset(index for index, (one, other) in enumerate(pairwise(names)) if one != other)
