"""What measured steps achieved, case by case: bandwidth, FLOP rate, MBU, MFU, cost of routing."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from costmodel import units
from costmodel.recordings.recording import CaseWorkload
from costmodel.show.tables.validation_cells import NONE, at, percent
from costmodel.show.text import Table
from costmodel.validation.utilisation import Achieved
from costmodel.validation.validate import CaseFigures

QUOTED_CONTEXT = 2048  # of the decode steps that people compare
COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("tokens/s", "tokens_per_s", units.significant),
    ("HBM", "hbm_bytes_per_s", lambda value: units.scaled(value, "B/s")),
    ("MBU", "mbu", percent),
    ("FLOP rate", "flops_per_s", lambda value: units.scaled(value, "FLOP/s")),
    ("MFU", "mfu", percent),
    ("routing\ntime", "routing_kernel_s", units.seconds),
    ("routing\nshare", "routing_share", percent),
    ("routing\nlaunches", "routing_launches", units.count),
)
FURTHER: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("routing\nHBM", "routing_hbm_bytes", units.traffic),
    ("routing\nFLOPs", "routing_flops", units.flops),
    ("leaves' reads /\nstep's reads", "leaves_over_step", units.ratio),
)
NOTES = (
    (
        "MBU: compulsory bytes, of what was touched, / time / datasheet bandwidth."
        " MFU: useful FLOPs / time / dense peak."
    ),
    (
        "routing: the leaves that only choose; what expert leaves do to sort and combine"
        " is not told apart."
    ),
)


def achieved_table(cases: Sequence[CaseFigures], *, whole: bool) -> Table:
    """Uniform decode at the usual context, or every case where there is none, or all are wanted."""
    quoted = [case for case in cases if _is_quoted(case.origin.workload)]
    chosen = list(cases) if whole or not quoted else quoted
    known = [case for case in chosen if case.achieved.tokens_per_s.value is not None]
    shown = chosen if whole else known
    columns = [
        column
        for column in (COLUMNS + FURTHER if whole else COLUMNS)
        if any(_value(case.achieved, column[1]) is not None for case in shown)
    ]
    only = f", uniform decode at context {QUOTED_CONTEXT:,}" if quoted and not whole else ""
    notes = [*NOTES] if columns else []
    if len(known) < len(chosen):
        notes.append(f"Without a time: {len(chosen) - len(known):,} of these cases.")
    if len(chosen) < len(cases):
        notes.append(f"Other cases: {len(cases) - len(chosen):,}, which --all lists.")
    eager = any(case.achieved.time_of == "eager_s" for case in known)
    return Table(
        title=f"What was achieved{only}",
        headers=("model, batch x context", *(["time"] * eager), *(each[0] for each in columns)),
        rows=tuple(
            (
                at(case.origin),
                *([case.achieved.time_of.removesuffix("_s")] * eager),
                *(_cell(case.achieved, field, form) for _, field, form in columns),
            )
            for case in shown
        ),
        text_columns=1 + eager,
        sections=_ends(shown),
        notes=tuple(notes),
    )


def _is_quoted(work: CaseWorkload) -> bool:
    return (work.phase, work.routing, work.context) == ("decode", "uniform", QUOTED_CONTEXT)


def _value(achieved: Achieved, field: str) -> float | None:
    found: float | None = getattr(achieved, field).value
    return found


def _cell(achieved: Achieved, field: str, form: Callable[[float], str]) -> str:
    value = _value(achieved, field)
    return NONE if value is None else form(value)


def _ends(cases: Sequence[CaseFigures]) -> frozenset[int]:
    """Where one recording ends and another begins."""
    names = [case.origin.recording for case in cases]
    return frozenset(index for index, (one, other) in enumerate(pairwise(names)) if one != other)
