"""The experts that tokens choose: sorted tokens, two grouped products, a weighted sum.

Letters: N tokens, D hidden or l latent width, E experts, k of them a token, I expert width, Z
experts without a computation, n pairs of a token and an expert that computes. Expected distinct
experts: costmodel/routing/popularity.py. Source: OLMoE, arXiv 2409.02060.
"""

from typing import TYPE_CHECKING

from costmodel.layers.kernel_shape import Grouped
from costmodel.layers.letters import sum_of
from costmodel.layers.numbers import Number
from costmodel.layers.operator import INDEX_BYTES, Operator, Part, Step, Weight
from costmodel.layers.primitives import MULTIPLY_ADD, activation_flops
from costmodel.layers.site import Site
from costmodel.layers.touched import Touched

if TYPE_CHECKING:  # it is written with its experts
    from costmodel.layers.moe import MoeFfn

LEAF = "moe.experts"


def routed_experts(config: "MoeFfn", site: Site, step: Step) -> Operator:
    """Sort tokens by expert, two grouped GEMMs, weighted sum of k results, shared ones added.

    Counts 2 N k D I (3 gated, else 2) FLOPs; bytes of the expected distinct experts, each once.
    The k weights scale results, or with `weighted_input` what experts read: as many FLOPs.
    Of experts without a computation, the token times its weight; a routing draws them as it draws
    the others, so that E / (E + Z) of the distinct ones have weights.
    Leaves out: padding of each expert's tokens to a tile; sums of weights.
    """
    n, a, k = step.tokens, step.activation_bytes, config.num_experts_per_tok
    latent, zero, gated = config.moe_latent_size, config.zero_expert_num, config.gated
    d, i, e = latent or site.hidden_size, config.moe_intermediate_size, config.num_experts
    bias = config.expert_bias
    adds_shared = config.shared_intermediate_size > 0 and latent is None
    wide = 2 * i if gated else i
    distinct = step.routing.expected_distinct(config.choices, k, n, kind="experts")
    if zero:
        distinct = distinct * e / config.choices
    weights = [
        Weight(
            name=name,
            group="experts",
            rows=e * sum(matrix_rows),
            cols=cols,
            active_rows=config.active * sum(matrix_rows),
            leaf=LEAF,
            matrix_rows=matrix_rows,
        )
        for name, matrix_rows, cols in (("gate_up", (i,) * (wide // i), d), ("down", (d,), i))
    ]
    up_bytes, down_bytes = (weight.series_bytes(step) for weight in weights)
    bias_bytes = 0
    if bias:
        for name, outputs in (("gate_up_bias", wide), ("down_bias", d)):
            weights.append(
                Weight(
                    name=name,
                    group="experts",
                    rows=e * outputs,
                    matrix=False,
                    active_rows=config.active * outputs,
                )
            )
        bias_bytes = (wide + d) * a
    chosen, routed = n * k, config.computed(n)
    per_element = activation_flops(config.activation, gated=gated)
    kept = n * d if zero else 0  # tokens times the weights of experts without a computation
    added = n * d if adds_shared else 0  # the shared experts' result
    parts = [
        Part(
            name="sort",
            kind="selection",
            compares=chosen,
            input_bytes=chosen * (a + INDEX_BYTES),
            inner_output_bytes=2 * chosen * INDEX_BYTES,
            routing=True,
        ),
        Part(
            name="permute",
            kind="selection",
            input_bytes=n * d * a,
            inner_output_bytes=routed * d * a,
            routing=True,
        ),
        *((_weighting(routed * d, step),) if config.weighted_input else ()),
        Part(
            name="gate_up",
            kind="matmul",
            flops=2 * routed * d * wide,
            weight_bytes=distinct * up_bytes,
            inner_input_bytes=routed * d * a,
            inner_output_bytes=routed * wide * a,
            shape=Grouped(groups=distinct, rows=routed, n=wide, k=d),
        ),
        Part(
            name="activation",
            kind="elementwise",
            flops=per_element * routed * i,
            inner_input_bytes=routed * wide * a,
            inner_output_bytes=routed * i * a,
            operations=2 if gated else 1,
        ),
        Part(
            name="down",
            kind="matmul",
            flops=2 * routed * i * d,
            weight_bytes=distinct * down_bytes,
            inner_input_bytes=routed * i * a,
            inner_output_bytes=routed * d * a,
            shape=Grouped(groups=distinct, rows=routed, n=d, k=i),
        ),
        Part(
            name="combine",
            kind="elementwise",
            flops=(1 if config.weighted_input else MULTIPLY_ADD) * routed * d
            + MULTIPLY_ADD * kept
            + added,
            input_bytes=(added + kept) * a,
            output_bytes=n * d * a,
            inner_input_bytes=routed * d * a,
            operations=1 + adds_shared + (zero > 0),
            routing=True,
        ),
    ]
    if bias:
        parts.append(
            Part(
                name="bias",
                kind="elementwise",
                flops=routed * (wide + d),
                weight_bytes=distinct * bias_bytes,
            )
        )
    pairs, width = "n" if zero else "N k", "D" if latent is None else "l"
    expected = f"E (1 - (1 - k/{'(E + Z)' if zero else 'E'})^N)"
    return site.operator(
        LEAF,
        kind="matmul",
        parts=tuple(parts),
        weights=tuple(weights),
        touched=Touched(kind="experts", distinct=distinct, population=e, chosen_by="moe.router"),
        summary="Tokens sorted by expert, the projections of the experts that each token chose, and"
        " the weighted sum of their results",
        formula=sum_of(
            f"2 {pairs} {width} {'(2 I + I)' if gated else '(I + I)'}",
            per_element > 0 and f"{per_element} {pairs} I",
            f"{MULTIPLY_ADD} {pairs} {width}",
            zero > 0 and f"{MULTIPLY_ADD} N {width}",
            adds_shared and "N D",
            bias and f"{pairs} ({'2 I' if gated else 'I'} + {width})",
        )
        + f"; compares: N k; bytes: each distinct expert once, {expected} if uniform",
        source="arXiv 2409.02060; grouped GEMM over the tokens of each expert",
    )


def _weighting(elements: Number, step: Step) -> Part:
    """Each token's copy for an expert times that expert's weight."""
    return Part(
        name="weighting",
        kind="elementwise",
        flops=elements,
        inner_input_bytes=elements * step.activation_bytes,
        inner_output_bytes=elements * step.activation_bytes,
        routing=True,
    )
