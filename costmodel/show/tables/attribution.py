"""Where measured time goes, as tables: of steps, and of their kernels by kind of operator."""

from collections.abc import Mapping, Sequence
from textwrap import fill

from costmodel import units
from costmodel.show.tables.utilisation import QUOTED_CONTEXT, is_quoted
from costmodel.show.tables.validation_cells import NONE, at, of_backend, percent
from costmodel.show.text import HEADER_WIDTH, Table
from costmodel.validation.attribution import PARTS, Attribution, total
from costmodel.validation.case_attribution import BETWEEN, CaseAttribution
from costmodel.validation.error_stats import Origin

PART_NOTES = tuple(f"{name}: {meaning}." for name, meaning in PARTS.values())
SUM_NOTES = (
    "The parts sum to the measured time. A negative one took time away: L2 spared traffic, kernels",
    "overlapped, or the prediction is too long.",
)
KINDS_NOTES = (
    "Each kind against the bounds of its own leaves; they sum to more than the step's bound.",
    "Between kernels: the graph less the leaves' kernels, negative where kernels overlap.",
)


def attribution_tables(
    attributions: Sequence[tuple[Origin, CaseAttribution]], *, whole: bool
) -> list[Table]:
    """Of steps (uniform decode at the usual context and prefill, or all), then of all by kind."""
    known = [(origin, case) for origin, case in attributions if case.step is not None]
    if not known:
        return []
    usual = [
        (origin, case)
        for origin, case in known
        if is_quoted(origin.workload)
        or (origin.workload.phase, origin.workload.routing) == ("prefill", "uniform")
    ]
    chosen = known if whole or not usual else usual
    only = f", uniform, decode at context {QUOTED_CONTEXT:,} and prefill" * (chosen is usual)
    lacking = len(attributions) - len(known)
    notes = [*PART_NOTES, *SUM_NOTES, *_lacks([case for _, case in chosen])]
    if len(chosen) < len(known):
        notes.append(f"Other cases: {len(known) - len(chosen):,}, which --all lists.")
    if lacking:
        notes.append(f"Without a time as a CUDA graph, or a datasheet: {lacking:,} cases.")
    rows = {at(origin): case.step for origin, case in chosen if case.step is not None}
    tables = [parts_table(f"Where the time of a step goes{only}", "step", rows, notes)]
    for backend in sorted({origin.backend for origin, _ in known}, reverse=True):
        for phase in ("decode", "prefill"):
            kinds: dict[str, list[Attribution]] = {}
            for origin, case in known:
                if (origin.backend, origin.workload.phase) == (backend, phase):
                    for kind, parts in case.by_kind.items():
                        kinds.setdefault(kind, []).append(parts)
            if kinds:
                title = f"Where the time of all {phase} steps goes, by kind{of_backend(backend)}"
                sums = {kind: total(kinds[kind]) for kind in sorted(kinds, key=_last)}
                tables.append(parts_table(title, "kind", sums, KINDS_NOTES))
    return tables


def parts_table(
    title: str, header: str, named: Mapping[str, Attribution], notes: Sequence[str] = ()
) -> Table:
    """Measured times, and the share that each part has of them."""
    return Table(
        title=title,
        headers=(header, "measured", *(_head(name) for name, _ in PARTS.values())),
        rows=tuple(
            (
                name,
                signed(one.measured_s),
                *(_share(one.parts.get(field), one.measured_s) for field in PARTS),
            )
            for name, one in named.items()
        ),
        notes=tuple(notes),
    )


def _last(kind: str) -> tuple[bool, str]:
    """Kinds in order, what is between kernels last."""
    return kind == BETWEEN, kind


def signed(seconds: float) -> str:
    """A time that may be negative."""
    return f"{'-' * (seconds < 0)}{units.seconds(abs(seconds))}"


def _head(name: str) -> str:
    """A part's name over several lines, `over-read` on one."""
    return fill(name, HEADER_WIDTH, break_long_words=False, break_on_hyphens=False)


def _share(part: float | None, measured: float) -> str:
    """A part as a share of the measured time; as seconds where that is not above 0."""
    if part is None:
        return NONE
    return percent(part / measured) if measured > 0 else signed(part)


def _lacks(cases: Sequence[CaseAttribution]) -> list[str]:
    """What was not known of how many cases, and what holds it."""
    counts: dict[str, int] = {}
    for case in cases:
        for note in case.step.notes if case.step else ():
            counts[note] = counts.get(note, 0) + 1
    return [f"{count:,} case{'s' * (count != 1)}: {note}." for note, count in counts.items()]
