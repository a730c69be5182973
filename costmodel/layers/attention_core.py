"""What attention does with queries and cached keys: pairs, cached tokens read, scores and values.

Letters: N = B T tokens, S cached tokens, H query heads, W window, pairs of a query and a key.
Source of the window: Mistral 7B, arXiv 2310.06825; of sinks, the gpt-oss model card, 2508.10925.
"""

from costmodel.layers.kernel_shape import Attend
from costmodel.layers.letters import Letter, sum_of
from costmodel.layers.numbers import Number, larger, smaller
from costmodel.layers.operator import Operator, Part, Step
from costmodel.layers.primitives import SOFTCAP, SOFTMAX, vector
from costmodel.layers.site import Site


def attended_pairs(step: Step, window: int | None) -> Number:
    """Query-key pairs of one sequence and one head: the keys each new token attends to, itself in.

    Causal: sum over j < T of min(S + j + 1, W) = T S + T (T + 1) / 2 without a window.
    `full` counts the square over all keys that are read, as a kernel that masks them does:
    T (S' + T) with S' the cached keys in reach.
    """
    t, s = step.new_tokens, step.cached
    if step.attention_flops == "full":
        return t * (read_tokens(step, window) + t)
    if window is None:
        return t * s + t * (t + 1) // 2
    growing = smaller(larger(window - s, 0), t)  # new tokens whose window is not full yet
    return growing * s + growing * (growing + 1) // 2 + (t - growing) * window


def read_tokens(step: Step, window: int | None) -> Number:
    """Cached tokens of a sequence that a step reads: S, or the W - 1 that its first token sees."""
    return step.cached if window is None else smaller(step.cached, window - 1)


def pairs_letter(step: Step, window: int | None) -> Letter:
    """`pairs` with its definition in words, for `attended_pairs`."""
    if step.attention_flops == "full":
        reach = "S" if window is None else f"the {read_tokens(step, window)} cached keys in reach"
        counted = f"T ({reach} + T), the whole square"
    else:
        counted = "T S + T (T + 1) / 2, each new token with all tokens up to itself"
        if window is not None:
            counted = f"each new token with all tokens up to itself, at most {window}"
    return Letter(
        "pairs", attended_pairs(step, window), f"query-key pairs of a sequence and head: {counted}"
    )


def core(
    site: Site,
    step: Step,
    *,
    pairs: Number,
    heads: int,
    kv_heads: int,
    key_dim: int,
    value_dim: int,
    keys: Number,
    kv_read_bytes: Number,
    input_elements: Number,
    output_elements: Number,
    sinks: bool = False,
    softcap: bool = False,
    operations: int = 1,
    formula: str,
    source: str,
) -> Operator:
    """Scores, softmax and weighted values of `heads` heads over `pairs` pairs a sequence.

    `formula` is that of the two products; softmax and sinks are added to it here.
    `keys` are those of a sequence that are in reach, the new tokens' among them; `operations` are
    those that framework code needs up to the scores, attention itself among them.

    Counts 2 B pairs H (key_dim + value_dim) FLOPs; softmax 4 a score; a sink adds one score a head;
    a softcap 3 a score.
    Leaves out: the scaling by 1/sqrt(d) (folded into the query) and masking.
    """
    scores = step.batch * pairs * heads
    sink_scores = step.tokens * heads if sinks else 0
    weights = (vector("sinks", "attention", heads),) if sinks else ()
    return site.operator(
        "attention.core",
        kind="attention",
        parts=(
            Part(
                name="scores",
                kind="attention",
                flops=2 * scores * key_dim,
                kv_read_bytes=kv_read_bytes,
                input_bytes=input_elements * step.activation_bytes,
                output_bytes=output_elements * step.activation_bytes,
                shape=Attend(
                    batch=step.batch,
                    heads=heads,
                    kv_heads=kv_heads,
                    head_dim=(key_dim + value_dim) / 2,
                    queries=step.new_tokens,
                    keys=keys,
                ),
                operations=operations,
            ),
            *((_softcap(scores, step),) if softcap else ()),
            Part(
                name="softmax",
                kind="elementwise",
                flops=SOFTMAX * (scores + sink_scores),
                weight_bytes=sum(w.stored_bytes(step) for w in weights),
                operations=0,  # one kernel wherever attention is done
            ),
            Part(name="values", kind="attention", flops=2 * scores * value_dim, operations=0),
        ),
        weights=weights,
        summary="Scores of queries against keys, their softmax, and the weighted sum of values",
        formula=sum_of(
            formula,
            softcap and f"{SOFTCAP} B pairs H",
            f"{SOFTMAX} B pairs H",
            sinks and f"{SOFTMAX} N H",
        ),
        source=source,
    )


def _softcap(scores: Number, step: Step) -> Part:
    """Keeps scores within a bound by a tanh; plain PyTorch writes them out for it."""
    passed = scores * step.activation_bytes
    return Part(
        name="softcap",
        kind="elementwise",
        flops=SOFTCAP * scores,
        inner_input_bytes=passed,
        inner_output_bytes=passed,
        operations=3,
    )
