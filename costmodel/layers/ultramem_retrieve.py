"""From a token to the rows of a memory table, through Tucker-decomposed product keys.

Letters: N tokens, D hidden, H memory heads, q queries of a token, n keys per side, m rows read per
token and head, Dk key width per side, r Tucker rank, c Tucker cores, t^2 value expansion, f rows
and columns kept in the first stage (`first_stage_topk`, else m, at most n). Source: UltraMem,
arXiv 2411.12364, section 3; UltraMemV2, arXiv 2508.18756, section 3 and appendix A.
"""

from costmodel.layers.kernel_shape import Gemm, TopK
from costmodel.layers.operator import INDEX_BYTES, Buffer, Operator, Part, Step, Weight
from costmodel.layers.primitives import RMS_NORM, linear, permutation, vector
from costmodel.layers.site import Site

SOURCE = "arXiv 2508.18756, section 3; arXiv 2411.12364, section 3"


def first_kept(first_stage_topk: int | None, knn: int, keys_per_side: int) -> int:
    """f: rows, and as many columns, kept in the first stage: m unless stated, at most n."""
    return min(knn if first_stage_topk is None else first_stage_topk, keys_per_side)


def tucker_query(site: Site, step: Step, *, key_dim: int, num_queries: int) -> Operator:
    """D to q queries of 2 Dk, each half normalised: 2 N D q 2 Dk and 4 N q 2 Dk FLOPs.

    All heads share the queries. With q = 1 all Tucker ranks do, too; with q = r each has its own.
    """
    outputs = num_queries * 2 * key_dim
    queries = step.tokens * outputs * step.activation_bytes
    weight = vector("norm", "norm", key_dim)
    return linear(
        "memory.query",
        site,
        step,
        inputs=site.hidden_size,
        outputs=outputs,
        group="memory_projections",
        name="query",
        extra=(
            Part(
                name="query_norm",
                kind="norm",
                flops=RMS_NORM * step.tokens * outputs,
                weight_bytes=weight.stored_bytes(step),
                output_bytes=queries,
                inner_input_bytes=queries,
                routing=True,
            ),
        ),
        extra_weights=(weight,),
        routing=True,
        summary="Queries of two halves, for all heads and for all Tucker ranks or for each, every"
        " half normalised",
        formula=f"2 N D q (2 Dk) + {RMS_NORM} N q (2 Dk)",
        source=SOURCE,
    )


def tucker_retrieve(
    site: Site,
    step: Step,
    *,
    row_keys: int,
    num_heads: int,
    knn: int,
    key_dim: int,
    rank: int,
    num_queries: int,
    cores: int,
    value_expansion: int,
    first_stage_topk: int | None,
) -> Operator:
    """From the queries to m rows a head: scores, rank-1 merge, top-m, grid, top-m, permutation.

    Counts per token: scores 2 r H 2 n Dk, merge 4 r H n, grid c H (2 f r^2 + 2 f^2 r + f^2).
    Leaves out: the norm of the keys, which is static at inference and folded into them.
    """
    n, a, h, m = step.tokens, step.activation_bytes, num_heads, knn
    r, c, dk = rank, cores, key_dim
    nh = n * h
    keys_per_side = row_keys * value_expansion
    first = first_kept(first_stage_topk, m, keys_per_side)
    grid = first**2
    keys = Weight(name="keys", group="memory_keys", rows=2 * h * keys_per_side * r, cols=dk)
    core = vector("cores", "memory_keys", c * h * r**2)
    key_norm = vector("key_norm", "norm", dk)
    side_scores = 2 * h * keys_per_side  # rows and columns
    entries = step.routing.expected_distinct(  # of the permutation, over virtual rows
        row_keys**2, m, n * h, kind="rows", copies=value_expansion**2
    )
    parts = (
        Part(
            name="scores",
            kind="matmul",
            flops=n * (2 * r * side_scores * dk),
            weight_bytes=keys.stored_bytes(step),
            input_bytes=n * (num_queries * 2 * dk * a),
            inner_output_bytes=n * (r * side_scores * a),
            routing=True,
            shape=Gemm(m=n, n=r * side_scores, k=dk),  # both sides, all heads and ranks
        ),
        Part(
            name="merge",
            kind="selection",
            flops=n * (2 * r * side_scores),
            inner_input_bytes=n * (r * side_scores * a),
            inner_output_bytes=n * (side_scores * a),
            routing=True,
        ),
        Part(
            name="first_top_m",
            kind="selection",
            compares=n * side_scores,
            inner_input_bytes=n * (side_scores * a),
            inner_output_bytes=n * (2 * h * first * (a + INDEX_BYTES)),
            routing=True,
            shape=TopK(rows=nh, width=keys_per_side, chosen=first, calls=2),
        ),
        Part(
            name="grid",
            kind="matmul",
            flops=n * (c * h * (2 * first * r**2 + 2 * grid * r)),
            weight_bytes=core.stored_bytes(step),
            inner_input_bytes=nh * (2 * first * r * a),
            inner_output_bytes=nh * (c * grid * a),
            routing=True,
        ),
        Part(
            name="grid_sum",
            kind="selection",
            flops=n * (c * h * grid),
            inner_input_bytes=nh * (c * grid * a),
            inner_output_bytes=nh * (grid * a),
            routing=True,
        ),
        Part(
            name="second_top_m",
            kind="selection",
            compares=nh * grid,
            inner_input_bytes=nh * (grid * a),
            inner_output_bytes=nh * (m * INDEX_BYTES),
            routing=True,
            shape=TopK(rows=nh, width=grid, chosen=m),
        ),
        Part(
            name="permutation",
            kind="selection",
            index_bytes=entries * INDEX_BYTES,
            output_bytes=nh * (m * (INDEX_BYTES + c * a)),
            inner_input_bytes=nh * (m * (INDEX_BYTES + c * a)),
            inner_output_bytes=nh * (m * INDEX_BYTES),
            routing=True,
        ),
    )
    return site.operator(
        "memory.retrieve",
        kind="selection",
        parts=parts,
        weights=(keys, core, key_norm),
        buffers=(
            permutation(keys_per_side**2),
            Buffer(name="u", elements=h * r, element_bytes=4),
            Buffer(name="v", elements=h * r, element_bytes=4),
        ),
        summary="Scores of both sides' keys at every rank, the best of each side, their Tucker"
        " grid, the best m rows, and the permutation to rows of the table",
        formula="N H (4 r n Dk + 4 r n + c (2 f r^2 + 2 f^2 r + f^2)); compares: N H (2 n + f^2)",
        source=SOURCE,
    )
