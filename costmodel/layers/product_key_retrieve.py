"""From a token to the rows of a product-key memory: queries, half-scores of two sides, two choices.

Letters: N tokens, D hidden, H heads, n keys per side, m rows read per token and head, f of the best
keys of each side, Dk key width per side. Shared by PKM, Memory+ and PEER. Source: PKM, arXiv
1907.05242, section 3.
"""

from costmodel.layers.kernel_shape import Gemm, TopK
from costmodel.layers.letters import Letter, sum_of
from costmodel.layers.operator import INDEX_BYTES, Operator, Part, Step, Weight
from costmodel.layers.primitives import RMS_NORM, SOFTMAX, linear, vector
from costmodel.layers.site import Site

SOURCE = "arXiv 1907.05242, section 3.1"


def product_key_query(
    site: Site, step: Step, *, num_heads: int, key_dim: int, query_norm: bool, bias: bool = False
) -> Operator:
    """D to H queries of 2 Dk, normalised per half: 2 N D H 2 Dk and 4 N H 2 Dk FLOPs.

    A bias adds N H 2 Dk.
    """
    outputs = num_heads * 2 * key_dim
    weights: tuple[Weight, ...] = ()
    parts: tuple[Part, ...] = ()
    if query_norm:
        weights = (vector("norm", "norm", key_dim),)
        parts = (
            Part(
                name="query_norm",
                kind="norm",
                flops=RMS_NORM * step.tokens * outputs,
                weight_bytes=weights[0].stored_bytes(step),
                output_bytes=step.tokens * outputs * step.activation_bytes,
                inner_input_bytes=step.tokens * outputs * step.activation_bytes,
                routing=True,
            ),
        )
    return linear(
        "memory.query",
        site,
        step,
        inputs=site.hidden_size,
        outputs=outputs,
        group="memory_projections",
        name="query",
        bias=bias,
        extra=parts,
        extra_weights=weights,
        routing=True,
        summary="A query of two halves for each memory head, one for each side of the product keys",
        formula=sum_of(
            "2 N D H (2 Dk)", bias and "N H (2 Dk)", query_norm and f"{RMS_NORM} N H (2 Dk)"
        ),
        source=SOURCE,
    )


def product_key_retrieve(
    site: Site,
    step: Step,
    *,
    num_keys: int,
    num_heads: int,
    knn: int,
    key_dim: int,
    shared_keys: bool = False,
    key_norm: bool = False,
) -> Operator:
    """From H queries to m rows each: two half-scores, top-m, the sums of pairs, top-m, softmax.

    Counts per token and head: scores 2 * 2 n Dk, sums f^2, softmax 4 m; compares 2 n + f^2, with
    f = min(m, n). Leaves out: a norm of the keys, which is static and folded into them.
    """
    n, a, h, m = step.tokens, step.activation_bytes, num_heads, knn
    first = min(m, num_keys)
    grid = first**2
    keys = Weight(
        name="keys",
        group="memory_keys",
        rows=2 * num_keys * (1 if shared_keys else h),
        cols=key_dim,
    )
    side_scores = 2 * h * num_keys
    chosen = n * h * m * (INDEX_BYTES + a)
    return site.operator(
        "memory.retrieve",
        kind="selection",
        parts=(
            Part(
                name="scores",
                kind="matmul",
                flops=2 * n * side_scores * key_dim,
                weight_bytes=keys.stored_bytes(step),
                input_bytes=n * h * 2 * key_dim * a,
                inner_output_bytes=n * side_scores * a,
                operations=2,  # of each side
                routing=True,
                shape=(  # of each side; heads with keys of their own are a stack of products
                    Gemm(m=n * h, n=num_keys, k=key_dim, calls=2)
                    if shared_keys
                    else Gemm(m=n, n=h * num_keys, k=key_dim, calls=2)
                ),
            ),
            Part(
                name="first_top_m",
                kind="selection",
                compares=n * side_scores,
                inner_input_bytes=n * side_scores * a,
                inner_output_bytes=n * 2 * h * first * (a + INDEX_BYTES),
                routing=True,
                shape=TopK(rows=n * h, width=num_keys, chosen=first, calls=2),
            ),
            Part(
                name="grid",
                kind="selection",
                flops=n * h * grid,
                inner_input_bytes=n * h * 2 * first * a,
                inner_output_bytes=n * h * grid * a,
                routing=True,
            ),
            Part(
                name="second_top_m",
                kind="selection",
                compares=n * h * grid,
                inner_input_bytes=n * h * grid * a,
                inner_output_bytes=chosen,
                routing=True,
                shape=TopK(rows=n * h, width=grid, chosen=m),
            ),
            Part(
                name="softmax",
                kind="selection",
                flops=SOFTMAX * n * h * m,
                output_bytes=chosen,
                inner_input_bytes=chosen,
                routing=True,
            ),
        ),
        weights=(keys, vector("key_norm", "norm", key_dim)) if key_norm else (keys,),
        summary="Scores of both sides' keys, the best of each side, the sums of their pairs, the"
        " best m rows and their softmax",
        formula=f"N H (4 n Dk + f^2 + {SOFTMAX} m); compares: N H (2 n + f^2)",
        source=SOURCE,
    )


def product_key_letters(
    num_heads: int, num_keys: int, knn: int, key_dim: int
) -> tuple[Letter, ...]:
    """The letters of `product_key_query` and `product_key_retrieve`."""
    return (
        Letter("H", num_heads, "memory heads"),
        Letter("n", num_keys, "keys per side"),
        Letter("m", knn, "rows read per token and head"),
        Letter("f", min(knn, num_keys), "keys kept per side before the grid, min(m, n)"),
        Letter("Dk", key_dim, "key width per side"),
    )
