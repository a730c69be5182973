"""Recordings against predictions as people read them: what failed, how far off, the worst cases.

A ratio is measured over predicted. Rows that are not among the worst are counted; `whole` lists
them too.
"""

from collections.abc import Container, Iterator, Sequence
from math import log1p

from costmodel.recordings.error_measures import (
    DEVELOPMENT_SET,
    DEVELOPMENT_SET_MEANS,
    LOG_ERROR,
    LOG_ERROR_MEANS,
    MAPE,
    MAPE_MEANS,
)
from costmodel.recordings.quantities import QUANTITIES
from costmodel.show.tables.attribution import attribution_tables
from costmodel.show.tables.breakdowns import breakdown_tables, pair_tables
from costmodel.show.tables.uncompared import uncompared_table, whole_tables
from costmodel.show.tables.utilisation import utilisation_table
from costmodel.show.tables.validation_cells import (
    USUAL_BACKEND,
    amount,
    at,
    errors_table,
    fitted,
    is_bound,
    label,
    of_backend,
    percent,
    ratio,
)
from costmodel.show.text import Table
from costmodel.validation.error_line import ErrorLine
from costmodel.validation.error_stats import LEAF_LEVEL, STEP_LEVEL, Entry
from costmodel.validation.validate import Validation, leaf_name, of_step, worst_first, worst_leaves

MOST_BROKEN = 20  # lines of what failed
WORST = 3  # of a quantity and phase
WORST_LEAVES = 8
NEAR = 0.1  # a share; what is closer is not among the worst
FURTHER = ("hbm_written_bytes", "flops_tensor")  # over bounds that say little of a prediction
NOTES = (
    "ratio: measured / predicted, of n steps (of distinct items: n layers).",
    f"{MAPE}: {MAPE_MEANS}. {LOG_ERROR}: {LOG_ERROR_MEANS}; twice and half are 100 %.",
    "Kernels are compared with kernels, graphs with graphs; energy is that of the graph.",
    (
        "at: model, batch x context of a decode step, or prefill and its new tokens;"
        " routing is uniform unless named."
    ),
)
KINDS_NOTES = (
    "n: operators of cases; the layers of one operator count once.",
    "MAPE by time: each weighted by its measured time in all layers.",
)
BOUND_NOTE = (
    "compulsory (each byte once; prefill reads tiles again), bound: no error is stated over them."
)


def validation_tables(
    validation: Validation, *, whole: bool = False, development: Container[str] = ()
) -> list[Table]:
    """Failures first, then errors by quantity and kind, the worst rows, and utilisation.

    `development`: the names of recordings that ship.
    """
    backends = sorted({line.backend for line in validation.errors if line.compared}, reverse=True)
    tables = [*_broken(validation, whole=whole)]
    tables += [
        _summary(validation, backend, development, first=index == 0)
        for index, backend in enumerate(backends or [USUAL_BACKEND])
    ]
    tables += [table for backend in backends if (table := _kinds(validation, backend)).rows]
    tables += breakdown_tables(validation.breakdowns, whole=whole)
    tables += pair_tables(validation.pairs, whole=whole)
    tables += attribution_tables(validation.attributions, whole=whole)
    tables += [
        table for table in (_worst_steps(validation), _worst_leaves(validation)) if table.rows
    ]
    lines = [line for line in validation.errors if line.compared]
    tables += [
        _further(backend, of)
        for backend in backends
        if (of := [line for line in _steps(lines, backend) if line.quantity in FURTHER])
    ]
    tables.append(utilisation_table(validation.utilisations, whole=whole))
    if whole:
        tables += whole_tables(validation)
    tables.append(uncompared_table(validation, whole=whole))
    return tables


def _broken(validation: Validation, *, whole: bool) -> Iterator[Table]:
    """Failed self-checks and broken bounds: with them no other number can be trusted."""
    most = None if whole else MOST_BROKEN
    checks = [
        f"{check.name}: measured {check.measured:.6g}, known {check.known:.6g},"
        f" tolerance {percent(check.tolerance)} ({check.recording}, session of {check.session})"
        for check in validation.failed_checks
    ]
    if checks:
        yield _listed("SELF-CHECKS FAILED: what these sessions measured may be wrong", checks, most)
    below = [f"{name}: {violation}" for name, violation in validation.violations]
    if below:
        title = "MEASURED BELOW THE BOUND: measured wrongly, or the cost model demands too much"
        yield _listed(title, below, most)


def _listed(title: str, lines: Sequence[str], most: int | None) -> Table:
    shown = list(lines[:most])
    if len(lines) > len(shown):
        shown.append(f"{len(lines) - len(shown):,} more: --all lists them.")
    return Table(title=title, headers=(), rows=(), notes=tuple(shown))


def _summary(
    validation: Validation, backend: str, development: Container[str], *, first: bool
) -> Table:
    """How far steps of a backend are off: predictions, then bounds; exact counts in a line.

    What holds for all backends stands under the first.
    """
    lines = [line for line in validation.errors if line.compared and line.backend == backend]
    exact = [line for line in lines if QUANTITIES[line.quantity].exact]
    unequal = [line for line in exact if line.equal < line.compared]
    of_steps = _steps(lines, backend)
    steps = [line for line in of_steps if line not in exact and line.quantity not in FURTHER]
    shown = [
        *unequal,
        *(line for line in steps if not is_bound(line)),
        *(line for line in steps if is_bound(line)),
    ]
    bounds = [line for line in shown if is_bound(line)]
    notes = [*_exact(exact), *(NOTES if first else ()), *([BOUND_NOTE] * bool(bounds))]
    if first:
        notes += _notes_of_all(validation)
    origins = [case.origin for case in validation.utilisations if case.origin.backend == backend]
    cases, names = len(origins), {origin.recording for origin in origins}
    shipped = names and all(name in development for name in names)
    if first and shipped:
        means = f"The {DEVELOPMENT_SET}: {DEVELOPMENT_SET_MEANS}."
        notes[:0] = means.replace(". ", ".\n").splitlines()  # a sentence is a line
    return errors_table(
        f"Measured over predicted{of_backend(backend)}, {cases:,} case{'s' * (cases != 1)}"
        f" of {len(names):,} recording{'s' * (len(names) != 1)}"
        + f" ({DEVELOPMENT_SET})"
        * bool(shipped),
        [(label(line), line) for line in shown],
        sections=[len(shown) - len(bounds) - 1] if bounds else [],
        notes=notes,
    )


def _notes_of_all(validation: Validation) -> Iterator[str]:
    """What predictions stand by: recorded choices, anchors, calibrations."""
    if chosen := validation.chosen_cases:
        yield f"{chosen:,} cases routed by scores: predicted by the choices they recorded."
    yield from (
        f"{model}: recording {name}" for name, model in validation.recordings if "#" in model
    )
    yield from (f"Anchor {anchor.words}." for anchor in validation.anchors)
    yield from validation.calibrations


def _kinds(validation: Validation, backend: str) -> Table:
    """The kernel time of leaves by kind of operator, for one backend."""
    kinds = [
        line
        for line in validation.errors_by_kind
        if line.compared and line.quantity == "kernel_s" and line.backend == backend
    ]
    bound = " over the roofline bound" * any(map(is_bound, kinds))
    return errors_table(
        f"Kernel time of leaves{bound}, by kind of operator{of_backend(backend)}",
        [(line.level, line) for line in kinds],
        header="kind",
        leaves=True,
        notes=() if bound else KINDS_NOTES,
    )


def _steps(lines: Sequence[ErrorLine], backend: str) -> list[ErrorLine]:
    """The lines of a backend's steps, of one run for each quantity; of distinct items of leaves."""
    of_steps = []
    for quantity in QUANTITIES:
        of = [line for line in lines if line.quantity == quantity and line.backend == backend]
        level = LEAF_LEVEL if quantity == "distinct" else STEP_LEVEL
        of_steps += [line for line in of if line.level == level and line.run == of[0].run]
    return of_steps


def _exact(lines: Sequence[ErrorLine]) -> Iterator[str]:
    """`parameters, counted FLOPs: equal in all 205 cases; counted FLOPs in 41,319 leaves`."""
    by_count: dict[int, list[str]] = {}
    leaves = ""
    for line in lines:
        name = QUANTITIES[line.quantity].title
        if line.equal < line.compared:
            of = "leaves" if line.level == LEAF_LEVEL else "cases"
            wrong = line.compared - line.equal
            yield f"NOT EQUAL, as they must be: {name} in {wrong:,} of {line.compared:,} {of}."
        elif line.level == LEAF_LEVEL:
            leaves = f"; {name} in all {line.compared:,} leaves"
        else:
            by_count.setdefault(line.compared, []).append(name)
    for count, names in by_count.items():
        yield f"{', '.join(names)}: equal in all {count:,} case{'s' * (count > 1)}{leaves}."
        leaves = ""


def _worst_steps(validation: Validation) -> Table:
    """The farthest of each predicted quantity of a step, decode and prefill apart."""
    rows: list[tuple[str, ...]] = []
    sections = []
    compared = [line for line in validation.errors if line.compared]
    backends = dict.fromkeys(line.backend for line in compared)
    for line in (line for backend in backends for line in _steps(compared, backend)):
        if line.quantity in FURTHER or is_bound(line) or line.level == LEAF_LEVEL:
            continue
        columns = [
            (origin, column)
            for origin, column in of_step(validation.columns[line.quantity, line.run], line.phase)
            if column.backend == line.backend
        ]
        listed = [entry for entry in worst_first(columns, WORST) if entry.distance > log1p(NEAR)]
        rows += [_worst_cells(QUANTITIES[line.quantity].title, entry) for entry in listed]
        if listed:
            sections.append(len(rows) - 1)
    return fitted(
        Table(
            title=f"Worst steps: at most {WORST} of a quantity and phase, over {percent(NEAR)} off",
            headers=("quantity", "predicted", "measured", "ratio", "at"),
            rows=tuple(rows),
            ends_in_text=True,
            sections=frozenset(sections),
        )
    )


def _worst_leaves(validation: Validation) -> Table:
    """The leaves whose kernel time is farthest off, each at its worst."""
    entries = worst_leaves(validation.columns.get(("kernel_s", "trace"), ()), WORST_LEAVES)
    return fitted(
        Table(
            title=f"Worst leaves: the {WORST_LEAVES} farthest off in kernel time, each once",
            headers=("leaf", "predicted", "measured", "ratio", "at"),
            rows=tuple(_worst_cells(leaf_name(entry.row.path or ""), entry) for entry in entries),
            ends_in_text=True,
        )
    )


def _worst_cells(name: str, entry: Entry) -> tuple[str, ...]:
    row = entry.row
    sides = (amount(value, row.quantity) for value in (row.predicted, row.measured))
    return name, *sides, ratio(row.ratio), at(entry.origin)


def _further(backend: str, lines: Sequence[ErrorLine]) -> Table:
    return errors_table(
        f"Work of a step over its bounds{of_backend(backend)}",
        [(label(line), line) for line in lines],
        notes=(
            (
                "model: without the padding of tiles. compulsory: each byte once, activations in"
                " L2. Both are bounds."
            ),
        ),
    )
