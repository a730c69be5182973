"""Tables outside HBM explained: what stands where, rows over the link, and the time of fetches."""

from collections.abc import Iterator

from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import Unknown
from costmodel.costs.placement import FAR, stored_in
from costmodel.explain.explanation import Column, Derivation, Terms
from costmodel.explain.rows import share_equation
from costmodel.explain.sizes import tensor_terms
from costmodel.explain.sums import Builder, Case, operator_terms, over_operators
from costmodel.explain.working import number_text
from costmodel.layers.letters import Letter
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part
from costmodel.layers.placement import Place


def _read(place: Place) -> Builder:
    """Compulsory rows from a place: sums over operators, and the share of each layer."""

    def build(case: Case) -> Derivation:
        moved = [operator for operator in case.operators if _stands_in(operator, place)]
        shares = (share_equation(case.operators, operator) for operator in moved)
        return Derivation(
            equations=(
                case.in_words("sum over operators of layers x the fetched rows of one layer"),
                *(equation for equation in shares if equation is not None),
            ),
            terms=operator_terms(case, lambda operator: operator.total(f"{place}_bytes")),
        )

    return build


def _rows(place: Place, field: str) -> Builder:
    """A field of `TableRows`, summed over operators whose table stands in a place."""

    def of(operator: Operator) -> Number:
        if operator.rows is None or not _stands_in(operator, place):
            return 0
        value: Number = getattr(operator.rows, field)
        return value

    return over_operators(of)


def _tables(place: Place) -> Builder:
    """The tables that stand in a place."""

    def build(case: Case) -> Derivation:
        step = case.prediction.costs.step
        return Derivation(
            equations=(case.in_words("sum over tables of copies x bytes of one as stored"),),
            terms=tensor_terms(
                case,
                lambda weight: weight.stored_bytes(step),
                lambda weight: weight.place == place,
            ),
        )

    return build


def _stands_in(operator: Operator, place: Place) -> bool:
    return any(weight.place == place for weight in operator.weights)


def _hot_rows(case: Case) -> Derivation:
    step = case.prediction.costs.step
    tables = sum(stored_in(case.operators, step, place) for place in FAR)
    return Derivation(
        equations=(
            case.equation(
                "min(asked, tables)",
                Letter("asked", step.placement.hot_rows_bytes, "bytes that the cache was given"),
                Letter("tables", tables, "bytes of all tables outside HBM"),
            ),
        )
    )


def _fetch_time(case: Case) -> Derivation:
    return Derivation(
        equations=(case.in_words("sum over gathers of layers x the time of one, as measured"),),
        terms=_gathers(case),
    )


def _exposed(case: Case) -> Derivation:
    time = case.prediction.time
    assert not isinstance(time, Unknown)
    fetches = time.fetches
    chosen = fetches.exposed_s - fetches.waited_s
    return Derivation(
        equations=(
            case.equation(
                "chosen + waited",
                Letter("chosen", chosen, "seconds of fetches of rows that scores choose"),
                Letter("waited", fetches.waited_s, "seconds that layers wait for early fetches"),
            ),
        ),
        terms=_gathers(case, total=False),
    )


def _gathers(case: Case, *, total: bool = True) -> Terms:
    """Every gather over the link: its rows, the bytes of one, its measured time."""
    curves = case.prediction.calibration
    assert isinstance(curves, Curves)
    rows = [
        (
            operator.path,
            "token ids, ahead" if part.early else "scores, in the layer",
            operator.count,
            part.fetched_rows,
            number_text(part.fetched_bytes / part.fetched_rows) if part.fetched_rows else "",
            one,
            operator.count * one,
        )
        for operator, part in _fetching(case)
        for one in [float(curves.fetch_s(part))]
    ]
    return Terms(
        title="gathers of rows over the link",
        columns=(
            Column(header="operator", unit="text"),
            Column(header="known by", unit="text"),
            Column(header="layers", unit="count"),
            Column(header="rows of one layer", unit="count"),
            Column(header="bytes of a row", unit="text"),
            Column(header="one gather", unit="s"),
            Column(header="all layers", unit="s", total=case.total if total else None),
        ),
        rows=tuple(rows),
    )


def _fetching(case: Case) -> Iterator[tuple[Operator, Part]]:
    for operator in case.operators:
        for part in operator.parts:
            if _stands_in(operator, "host") and part.fetched_bytes:
                yield operator, part


PLACEMENT: dict[str, Builder] = {
    "host_bytes.read": _read("host"),
    "host_bytes.row_reads": _rows("host", "fetched_bytes"),
    "host_bytes.rows_in_sectors": _rows("host", "fetched_sector_bytes"),
    "host_bytes.table_bytes": _tables("host"),
    "disk_bytes.read": _read("disk"),
    "disk_bytes.row_reads": _rows("disk", "fetched_bytes"),
    "disk_bytes.table_bytes": _tables("disk"),
    "memory.hot_rows_bytes": _hot_rows,
    "time.predicted_fetch_s": _fetch_time,
    "time.predicted_exposed_s": _exposed,
}
"""By JSON name."""
