"""The tables of the held-out measurement on docs/accuracy.md, from the committed files alone.

As long as nothing is measured, a table says so.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, wraps
from itertools import product
from statistics import fmean, median

from benchmarks.held_out.accuracy import (
    PairedRow,
    Row,
    cluster_bootstrap,
    coverage,
    crossover_interval,
    crossovers,
)
from benchmarks.held_out.commitment import QUANTITIES, Commitment, committed
from benchmarks.held_out.shapes import held_out_models
from benchmarks.held_out.summary import Point, Summary, anchored, committed_summary, points
from costmodel.costs.operators import build_operators
from costmodel.costs.totals import parameter_counts
from costmodel.inputs.workload import Backend, Workload
from costmodel.recordings.error_measures import errors_of
from docs.held_out_targets import FEWEST_INSIDE, TARGETS, covers, off
from docs.markdown import markdown

NO_COMMITMENT = "Not measured: the predictions are not committed yet.\n"
NOT_MEASURED = "Not measured: no GPU has run these models since the predictions of {committed}.\n"
BACKENDS: tuple[Backend, ...] = ("torch", "fused")
NONE = "-"


@cache
def _committed() -> tuple[Commitment | None, Summary | None]:
    return committed(), committed_summary()


@cache
def _points() -> tuple[Point, ...]:
    commitment, measured = _committed()
    assert commitment is not None
    assert measured is not None
    return points(measured, commitment.predictions, held_out_models())


@cache
def _anchored() -> tuple[Point, ...]:
    """Energies, as predicted with the card's own loops."""
    measured = _committed()[1]
    assert measured is not None
    return points(measured, anchored(measured), held_out_models())


def _if_measured(table: Callable[[], str]) -> Callable[[], str]:
    """The table, or why there is none."""

    @wraps(table)
    def block() -> str:
        commitment, measured = _committed()
        if commitment is None:
            return NO_COMMITMENT
        return NOT_MEASURED.format(committed=commitment.committed) if measured is None else table()

    return block


def _select(
    of: Iterable[Point], quantity: str, phase: str | None = None, backend: str | None = None
) -> list[Point]:
    return [
        point
        for point in of
        if point.quantity == quantity
        and phase in {None, point.case.phase}
        and backend in {None, point.backend}
    ]


def held_out_points(quantity: str, phase: str, backend: str) -> list[Point]:
    """The measured points of one quantity; none as long as nothing is measured."""
    if None in _committed():
        return []
    return _select(_points(), quantity, phase, backend)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def models() -> str:
    """The models: their groups, parameters, and the MoE that each is paired with."""
    rows = []
    for each in held_out_models():
        counts = parameter_counts(build_operators(each.model, Workload().step()))
        sequences = ", ".join(f"{case.batch}" for case in each.cases if case.phase == "decode")
        contexts = dict.fromkeys(f"{case.context:,}" for case in each.cases if case.context)
        rows.append(
            (
                f"`{each.name}`",
                (each.pair and f"`{each.pair}`") or NONE,
                f"{each.model.hidden_size:,}",
                f"{each.model.num_hidden_layers}",
                f"{counts.total / 1e6:,.0f} M",
                f"{counts.active_without_embeddings / 1e6:,.1f} M",
                sequences,
                " and ".join(contexts),
            )
        )
    head = ("model", "pair", "width", "layers", "total", "active", "batches", "contexts")
    return markdown(head, rows, text=2)


@_if_measured
def runs() -> str:
    """When and on what it was measured, and which parts were void."""
    measured = _committed()[1]
    assert measured is not None
    rows = [
        (
            part["folder"],
            part["started"],
            "counts"
            if part["counts"]
            else "void: "
            + "; ".join(f"{name} {100 * share:+.1f} %" for name, share in part["moved"].items()),
        )
        for part in measured["parts"]
    ]
    return markdown(("part", "started", "anchors"), rows, text=3)


@_if_measured
def targets() -> str:
    """Each target with its figure by either backend; what is missed is kept as missed."""
    rows = []
    for target in TARGETS:
        for backend in BACKENDS:
            source = _anchored() if target.anchored else _points()
            of = _select(source, target.quantity, target.phase, backend)
            if of:
                figure = target.of(of)
                met = "met" if figure <= target.most else "missed"
                cells = (_percent(target.most), _percent(figure), f"{len(of)}", met)
            else:
                cells = (_percent(target.most), NONE, "0", "not measured")
            rows.append((f"`{target.quantity}`", target.phase, backend, target.measure, *cells))
    return markdown(
        ("quantity", "phase", "backend", "measure", "at most", "is", "cases", ""), rows, text=4
    )


def _each(quantities: Iterable[str]) -> Iterator[tuple[str, Backend, list[Point]]]:
    """Quantity and phase in words, backend, points; energy also with the card's own loops."""
    sources = ((_points(), ""), (_anchored(), ", with the card's own loops"))
    for (source, words), quantity, phase in product(sources, quantities, ("decode", "prefill")):
        for backend in BACKENDS:
            of = _select(source, quantity, phase, backend)
            if of:
                yield f"`{quantity}`, {phase}{words}", backend, of


@_if_measured
def errors() -> str:
    """Errors by quantity, phase and backend, with a bootstrap over shapes; then by batch, kind."""
    rows = [
        (words.partition(", ")[0], f"{words.partition(', ')[2]}, {backend}", *_error_cells(of))
        for words, backend, of in _each(QUANTITIES)
    ]
    decode = _select(_points(), "graph_s", "decode")
    for backend in BACKENDS:
        mine = _select(decode, "graph_s", backend=backend)
        for batch in sorted({_batch_class(point) for point in mine}):
            of = [point for point in mine if _batch_class(point) == batch]
            words = f"decode, {backend}, batch {_BATCH_WORDS[batch]}"
            rows.append(("`graph_s`", words, *_error_cells(of)))
        for name in dict.fromkeys(point.model.name for point in mine):
            of = [point for point in mine if point.model.name == name]
            rows.append(("`graph_s`", f"decode, {backend}, {name}", *_error_cells(of)))
    head = ("quantity", "of", "cases", "MAPE", "95 %, over shapes", "log error", "worst")
    return markdown(head, rows, text=2)


_BATCH_WORDS = ("1", "2 to 16", "17 to 128", "above 128")


def _batch_class(point: Point) -> int:
    return sum(point.case.batch > most for most in (1, 16, 128))


def _error_cells(of: Sequence[Point]) -> tuple[str, ...]:
    clusters: dict[str, list[float]] = {}
    for point, share in zip(of, off(of), strict=True):
        clusters.setdefault(point.model.name, []).append(share)
    span = NONE
    if len(clusters) > 1:
        span = " to ".join(map(_percent, cluster_bootstrap(clusters, fmean)))
    figures = errors_of([point.ratio for point in of])
    worst = _percent(max(off(of)))
    return f"{len(of)}", _percent(figures.mape), span, _percent(figures.log_error), worst


def _row(point: Point) -> Row:
    return Row(measured=point.measured, predicted=point.predicted, low=point.low, high=point.high)


@_if_measured
def intervals() -> str:
    """How many measured numbers lie within the 90 % intervals: decode times by shape, and all."""
    rows = []
    for backend in BACKENDS:
        of = _select(_points(), "graph_s", "decode", backend)
        groups = {name: [p for p in of if p.model.name == name] for name in _names(of)}
        for name, members in ({"all": of} | groups).items():
            known = _known(members)
            if not known:
                continue
            inside, count = coverage(known)
            held = inside >= FEWEST_INSIDE
            if name == "all":
                held = covers(inside, count, _half_width(known))
            verdict = "met" if held else "missed"
            rows.append((f"`graph_s`, decode, {name}", backend, *_held_cells(known), verdict))
    for words, backend, of in _each(QUANTITIES):
        known = _known(of)
        if known and words != "`graph_s`, decode":
            rows.append((words, backend, *_held_cells(known), "no target"))
    if not rows:
        return "No interval was predicted.\n"
    return markdown(("intervals of", "backend", "within", "median half-width", ""), rows, text=2)


def _known(of: Iterable[Point]) -> list[Row]:
    """The rows with an interval."""
    return [_row(point) for point in of if point.low is not None]


def _half_width(rows: Sequence[Row]) -> float:
    return median(row.half_width for row in rows if row.half_width is not None)


def _held_cells(rows: Sequence[Row]) -> tuple[str, str]:
    inside, count = coverage(rows)
    return f"{inside} of {count}", _percent(_half_width(rows))


def _names(of: Iterable[Point]) -> list[str]:
    return list(dict.fromkeys(point.model.name for point in of))


@_if_measured
def void() -> str:
    """Errors of what void parts alone measured; they count for nothing."""
    commitment, measured = _committed()
    assert commitment is not None
    assert measured is not None
    counted = {(p.model.name, p.backend, p.case, p.quantity) for p in _points()}
    rows = []
    for predictions, words in (
        (commitment.predictions, ""),
        (anchored(measured), ", with the card's own loops"),
    ):
        found = [
            p
            for p in points(measured, predictions, held_out_models(), of="void_values")
            if (p.model.name, p.backend, p.case, p.quantity) not in counted
        ]
        for quantity, phase, backend in product(QUANTITIES, ("decode", "prefill"), BACKENDS):
            of = _select(found, quantity, phase, backend)
            if of:
                rows.append((f"`{quantity}`", f"{phase}, {backend}{words}", *_error_cells(of)))
    if not rows:
        return "Nothing was measured in void parts alone.\n"
    head = ("quantity", "of void parts", "cases", "MAPE", "95 %, over shapes", "log error", "worst")
    return markdown(head, rows, text=2)


@_if_measured
def pairs() -> str:
    """Who is faster in each pair, measured and predicted, and at which batches that turns."""
    rows = []
    for backend in BACKENDS:
        of = _select(_points(), "graph_s", backend=backend)
        known = {(point.model.name, point.case): point for point in of}
        for memory in dict.fromkeys(point.model.name for point in of if point.model.pair):
            both = [
                (known[memory, case], known[point.model.pair or "", case])
                for (name, case), point in known.items()
                if name == memory and (point.model.pair, case) in known
            ]
            paired = [
                PairedRow(batch=one.case.batch, moe=_row(moe), memory=_row(one))
                for one, moe in both
            ]
            decided = [row for row in paired if row.decided]
            series = [
                row
                for row, (one, _) in zip(paired, both, strict=True)
                if one.case.context == one.model.cases[0].context
            ]
            rows.append(
                (
                    f"`{memory}`",
                    backend,
                    f"{sum(row.named for row in decided)} of {len(decided)}",
                    *_crossover_cells(series, named=all(row.named for row in decided)),
                )
            )
    head = (
        "memory model",
        "backend",
        "winners named",
        "crossover measured",
        "predicted",
        "within",
        "",
    )
    return markdown(head, rows, text=2)


def _crossover_cells(series: Sequence[PairedRow], *, named: bool) -> tuple[str, ...]:
    batches = [row.batch for row in series]
    measured = crossovers(batches, [row.measured_ratio for row in series])
    predicted = crossovers(batches, [row.predicted_ratio for row in series])
    within = crossover_interval(series)
    cells = [", ".join(f"{batch:.0f}" for batch in at) or "none" for at in (measured, predicted)]
    held = named and bool(measured) >= bool(predicted)
    held &= all(within is not None and within[0] <= at <= within[1] for at in measured)
    span = NONE if within is None else f"{within[0]:.0f} to {within[1]:.0f}"
    return (*cells, span, "met" if held else "missed")


@_if_measured
def cases() -> str:
    """Every case: measured and predicted, misses among them."""
    rows = [
        (
            f"`{point.model.name}`",
            point.backend,
            point.case.label.removesuffix(", bf16, uniform"),
            f"`{point.quantity}`",
            f"{point.measured:.4g}",
            f"{point.predicted:.4g}",
            NONE if point.low is None else f"{point.low:.4g} to {point.high:.4g}",
            f"{point.ratio:.3f}",
        )
        for point in sorted(_points(), key=lambda point: list(QUANTITIES).index(point.quantity))
    ]
    head = ("model", "backend", "step", "quantity", "measured", "predicted", "90 %", "ratio")
    return markdown(head, rows, text=4)


TABLES: dict[str, Callable[[], str]] = {
    "held_out_models": models,
    "held_out_runs": runs,
    "held_out_targets": targets,
    "held_out_errors": errors,
    "held_out_void": void,
    "held_out_intervals": intervals,
    "held_out_pairs": pairs,
    "held_out_cases": cases,
}
