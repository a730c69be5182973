"""Rows of memory tables explained: what layers read, the union they share, whole sectors."""

from collections.abc import Iterable

from costmodel.explain.explanation import Derivation, Equation
from costmodel.explain.sums import Builder, Case, operator_terms, over_operators
from costmodel.layers.letters import Letter
from costmodel.layers.operator import Operator
from costmodel.layers.site import expanded_paths
from costmodel.routing.sectors import SECTOR_BYTES


def _table_rows(case: Case) -> Derivation:
    shares = (share_equation(case.operators, operator) for operator in case.operators)
    return Derivation(
        equations=(
            case.in_words(f"sum over operators of layers x the share of one layer{case.of_runs}"),
            *(equation for equation in shares if equation is not None),
        ),
        terms=operator_terms(case, lambda operator: operator.total("row_bytes")),
    )


def _rows_in_sectors(case: Case) -> Derivation:
    return Derivation(
        equations=(
            case.in_words(
                f"sum over operators of layers x {SECTOR_BYTES} x the sectors that rows touch,"
                f" (w + 32 - gcd(w, 32)) / 32 for a row of w bytes far from others{case.of_runs}"
            ),
        ),
        terms=operator_terms(
            case, lambda operator: 0 if operator.rows is None else operator.rows.sector_bytes
        ),
    )


def share_equation(operators: Iterable[Operator], operator: Operator) -> Equation | None:
    """The compulsory rows of one layer from those that it reads; None if no other layer shares."""
    if operator.rows is None:
        return None
    module = _module(operator)
    touched = next(  # it stands at one of the module's leaves, unless the table is an embedding
        (
            other.touched
            for other in operators
            if other.touched is not None
            and other.touched.kind == "rows"
            and _module(other) == module
        ),
        None,
    )
    if touched is None or not touched.table_rows:
        return None
    reads = operator.row_read_bytes + operator.rows.far_bytes
    return Equation.of(
        f"rows of {operator.path}, the share of one layer",
        "reads union / (layers distinct)",
        (
            Letter("reads", reads, "bytes of the rows that one layer reads, wherever they stand"),
            Letter("union", touched.union, "distinct rows that all layers of the table touch"),
            Letter("layers", len(touched.windows), "layers that share the table"),
            Letter("distinct", touched.distinct, "distinct rows that one layer touches"),
        ),
        "bytes",
    )


def _module(operator: Operator) -> str:
    return expanded_paths(operator.path)[0].rpartition(".")[0]


TABLE_ROWS: dict[str, Builder] = {
    "hbm_bytes.table_rows": _table_rows,
    "hbm_bytes.row_reads": over_operators(lambda operator: operator.row_read_bytes),
    "hbm_bytes.rows_in_sectors": _rows_in_sectors,
}
"""By JSON name."""
