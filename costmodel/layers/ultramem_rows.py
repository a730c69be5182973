"""Rows of an UltraMem table: dot products with pre-values, and weighted sums of values.

Letters: N tokens, H memory heads, m rows read per token and head, Dv value and Dp pre-value width,
c Tucker cores: a row has c scores, one for each of the c slices of its value. Source: UltraMem,
arXiv 2411.12364, section 3; UltraMemV2, arXiv 2508.18756, section 3.
"""

from costmodel.layers.kernel_shape import Rows
from costmodel.layers.operator import INDEX_BYTES, Operator, Part, Step, Weight
from costmodel.layers.site import Site
from costmodel.layers.touched import Touched
from costmodel.layers.ultramem_retrieve import SOURCE


def pre_values(site: Site, step: Step, table: Weight, touched: Touched, *, cores: int) -> Operator:
    """Dot of the projected token with the chosen rows of `table` [rows, Dp], times their c scores.

    Counts 2 H m Dp FLOPs a token for the dots and c H m for the products; each distinct row of Dp
    is read once. The table's `active_rows` are the H m rows of a token.
    """
    n, a, width, reads = step.tokens, step.activation_bytes, table.cols, table.active_rows
    assert reads is not None, "a token reads some rows of a table, not all"
    return site.operator(
        "memory.pre_values",
        kind="gather",
        parts=(
            Part(
                name="dots",
                kind="gather",
                flops=n * (2 * reads * width),
                row_bytes=touched.distinct * table.row_bytes(step),
                input_bytes=n * (width * a + reads * INDEX_BYTES),
                inner_input_bytes=n * (reads * width * a),
                inner_output_bytes=n * (reads * (width + 1) * a),
                shape=Rows(reads=n * reads, row_bytes=table.row_bytes(step)),
            ),
            Part(
                name="weights",
                kind="selection",
                flops=n * (cores * reads),
                input_bytes=n * (cores * reads * a),
                output_bytes=n * (cores * reads * a),
                inner_input_bytes=n * (reads * a),
                routing=True,
            ),
        ),
        weights=(table,),
        summary="Dot product of the projected token with each chosen row, times the row's c scores",
        formula="2 N H m Dp + c N H m; bytes: each distinct row of Dp once",
        source="arXiv 2508.18756, section 3",
    )


def expanded_values(
    site: Site, step: Step, table: Weight, touched: Touched, *, cores: int, groups: int
) -> Operator:
    """Weighted sum of the chosen rows of `table` [rows, Dv], into `groups` sums of Dv a token.

    Counts 2 H m Dv FLOPs a token, whatever the groups: a row belongs to one of them. Each distinct
    row of Dv is read once. The table's `active_rows` are the H m rows of a token.
    """
    n, a, width, reads = step.tokens, step.activation_bytes, table.cols, table.active_rows
    assert reads is not None, "a token reads some rows of a table, not all"
    into = "one sum" if groups == 1 else f"{groups} sums, one for each group of expanded values"
    return site.operator(
        "memory.values",
        kind="gather",
        parts=(
            Part(
                name="weighted_sum",
                kind="gather",
                flops=n * (2 * reads * width),
                row_bytes=touched.distinct * table.row_bytes(step),
                input_bytes=n * (reads * (INDEX_BYTES + cores * a)),
                output_bytes=n * (groups * width * a),
                shape=Rows(  # a row is read in one slice for each core
                    reads=n * reads * cores,
                    row_bytes=table.row_bytes(step) / cores,
                ),
            ),
        ),
        weights=(table,),
        touched=touched,
        summary=f"Weighted sum of the m rows that each head chose, into {into}",
        formula="2 N H m Dv; bytes: each distinct row of Dv once",
        source=SOURCE,
    )
