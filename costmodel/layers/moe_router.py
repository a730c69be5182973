"""The router of experts: a score of each, corrections and groups, and the choice of k.

Letters: N tokens, D hidden, E experts, Z of them without a computation, k of them a token, G
groups, g best experts that score a group. Source: OLMoE, arXiv 2409.02060; sigmoid and
group-limited routing, DeepSeek-V3, arXiv 2412.19437, section 2.1.2; a table of token ids, Hash
Layers, arXiv 2106.04426, and DeepSeek-V4.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from costmodel.layers.kernel_shape import TopK
from costmodel.layers.letters import sum_of
from costmodel.layers.operator import INDEX_BYTES, Buffer, Operator, Part, Step, Weight
from costmodel.layers.primitives import SIGMOID, SOFTMAX, SOFTPLUS, linear, vector
from costmodel.layers.site import Site

if TYPE_CHECKING:  # it is written with its router
    from costmodel.layers.moe import MoeFfn

SCORING: Final = {"softmax": SOFTMAX, "sigmoid": SIGMOID, "sqrtsoftplus": SOFTPLUS + 1}
SCORE_BYTES: Final = 4  # corrections that are no parameters are kept in float32


def router(config: "MoeFfn", site: Site, step: Step) -> Operator:
    """Scores of all experts, those without a computation among them, and the choice of k.

    Counts the GEMM, the scoring function, the corrections and the weights' normalisation;
    top-k looks at all scores (compares).
    Where a table chooses, its rows are read in place of top-k: k numbers a token, each of 8 bytes.
    Leaves out: the read of a correction that is a buffer, 4 bytes a score; that tokens of one id
    share a row of the table, and that few ids are frequent, and so their experts.
    """
    n, a, e, k = step.tokens, step.activation_bytes, config.choices, config.num_experts_per_tok
    letter = "(E + Z)" if config.zero_expert_num else "E"
    scores = n * e * a
    per_score = SCORING.get(config.scoring, 0)
    parts = []
    weights: tuple[Weight, ...] = ()
    if per_score:
        parts.append(
            Part(
                name=config.scoring,
                kind="selection",
                flops=per_score * n * e,
                inner_input_bytes=scores,
                inner_output_bytes=scores,
                routing=True,
            )
        )
    corrected = config.score_correction_bias or config.score_correction_buffer
    if config.score_correction_bias:
        weights = (vector("score_correction_bias", "router", e),)
        if config.image_correction_bias:
            weights += (vector("image_correction_bias", "router", e),)
    if corrected:
        parts.append(
            Part(
                name="score_correction",
                kind="selection",
                flops=n * e,
                weight_bytes=sum(weight.stored_bytes(step) for weight in weights),
                inner_input_bytes=scores,
                inner_output_bytes=scores,
                routing=True,
            )
        )
    if config.n_group > 1:
        parts.append(
            Part(
                name="group_choice",
                kind="selection",
                flops=n * config.n_group * (config.group_score_experts - 1),
                compares=n * (e + config.n_group),
                inner_input_bytes=2 * scores,
                inner_output_bytes=scores,
                routing=True,
                shape=TopK(  # twice that in the groups: the one of the groups is smaller
                    rows=n * config.n_group,
                    width=e // config.n_group,
                    chosen=config.group_score_experts,
                    calls=2,
                ),
            )
        )
    chosen = n * k * (a + INDEX_BYTES)
    by_table = config.hash_vocab_size is not None
    if by_table:
        parts.append(
            Part(
                name="table",
                kind="selection",
                input_bytes=n * INDEX_BYTES,  # token ids
                index_bytes=n * k * INDEX_BYTES,
                inner_input_bytes=scores,
                output_bytes=chosen,
                routing=True,
                operations=4,  # rows of the table, scores of the chosen, two casts
            )
        )
    else:
        parts.append(
            Part(
                name="top_k",
                kind="selection",
                compares=n * e,
                output_bytes=chosen,
                inner_input_bytes=scores,
                routing=True,
                shape=TopK(rows=n, width=e, chosen=k),
            )
        )
    weighting, grouped = _weighting_flops(config), config.n_group > 1
    if weighting:
        parts.append(
            Part(
                name="weights",
                kind="selection",
                flops=weighting * n * k,
                inner_input_bytes=n * k * a,
                inner_output_bytes=n * k * a,
                routing=True,
            )
        )
    scored = linear(
        "moe.router",
        site,
        step,
        inputs=site.hidden_size,
        outputs=e,
        group="router",
        bias=config.router_bias,
        extra=tuple(parts),
        extra_weights=weights,
        routing=True,
        summary="Scores of all experts, and the choice of k of them for each token"
        + (", which a table says for its id" if by_table else ""),
        formula=sum_of(
            f"2 N D {letter}",
            config.router_bias and f"N {letter}",
            bool(per_score) and f"{per_score} N {letter}",
            corrected and f"N {letter}",
            grouped and config.group_score_experts > 1 and "N G (g - 1)",
            bool(weighting) and f"{weighting} N k",
        )
        + (
            "" if by_table else f"; compares: {f'N (2 {letter} + G)' if grouped else f'N {letter}'}"
        ),
        source="arXiv 2409.02060; groups: arXiv 2412.19437, section 2.1.2",
    )
    if config.hash_vocab_size is not None:
        entries = config.hash_vocab_size * k
        table = Buffer(name="expert_ids", elements=entries, element_bytes=INDEX_BYTES)
        return replace(scored, buffers=(table,))
    if not config.score_correction_buffer:
        return scored
    buffer = Buffer(name="score_correction", elements=e, element_bytes=SCORE_BYTES)
    return replace(scored, buffers=(buffer,))


def _weighting_flops(config: "MoeFfn") -> int:
    """FLOPs per chosen weight: a softmax over the k chosen; a sigmoid; sum and division."""
    if config.scoring == "softmax_of_chosen":
        return SOFTMAX
    divided = 2 if config.norm_topk_prob else 0
    return divided + (SIGMOID if config.scoring == "sigmoid_of_chosen" else 0)
