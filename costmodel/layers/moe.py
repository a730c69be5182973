"""Mixture of experts: a router, the chosen experts, and experts that every token shares.

Letters: N tokens, D hidden, E experts, k of them a token, I expert width, F width of all
shared experts, G groups of experts, g best experts that score a group. What the chosen experts
compute: costmodel/layers/moe_experts.py. Source: OLMoE, arXiv 2409.02060; sigmoid and group-limited
routing, DeepSeek-V3, arXiv 2412.19437, section 2.1.2; DeepSeek-V2, arXiv 2405.04434, section 2.2.
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError
from costmodel.layers.base import Count, FfnKind, Size, Width
from costmodel.layers.ffn import feed_forward
from costmodel.layers.kernel_shape import TopK
from costmodel.layers.letters import Letter, sum_of
from costmodel.layers.moe_experts import routed_experts
from costmodel.layers.operator import INDEX_BYTES, Operator, Part, Step, Weight
from costmodel.layers.primitives import SIGMOID, SOFTMAX, Activation, linear, vector
from costmodel.layers.site import Site
from costmodel.strict import STRICT

Scoring = Literal["softmax", "sigmoid", "softmax_of_chosen", "sigmoid_of_chosen"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MoeFfn(FfnKind):
    """k of E experts a token, and optionally shared ones.

    `scoring`: "softmax" over all experts, "sigmoid" of each, or of the k chosen ones alone, after
    top-k: "softmax_of_chosen", "sigmoid_of_chosen" (Llama 4).
    Group-limited routing keeps the best `topk_group` of `n_group` groups, each group scored by the
    sum of its best `group_score_experts` experts (DeepSeek-V3: 2; DeepSeek-V2: 1).
    """

    kind: Literal["moe"] = "moe"
    num_experts: Annotated[  # E
        Count, Size(multiple_of="n_group", sets="parameters", label="Experts a layer")
    ]
    num_experts_per_tok: Annotated[Count, Size(chosen=True, label="Experts a token")]  # k
    moe_intermediate_size: Annotated[  # I
        Width, Size(step=64, sets="flops", label="Expert width")
    ]
    shared_intermediate_size: Annotated[int, Field(ge=0, le=2**20)] = 0  # of all shared experts
    shared_expert_gate: bool = False  # a learnt sigmoid of each token scales the shared experts
    gated: bool = True
    activation: Activation = "silu"
    scoring: Scoring = "softmax"
    norm_topk_prob: bool = False  # divide the k weights by their sum
    weighted_input: bool = False  # a weight scales what its expert reads, not its result (Llama 4)
    score_correction_bias: bool = False  # a learnt bias a score, for the choice only
    n_group: Count = 1
    topk_group: Count = 1
    group_score_experts: Count = 1
    router_bias: bool = False
    expert_bias: bool = False

    def __post_init__(self) -> None:
        """A token cannot choose more experts than it can reach."""
        k, e, g = self.num_experts_per_tok, self.num_experts, self.n_group
        if k > e:
            raise InputError(f"num_experts_per_tok={k}: exceeds num_experts={e}")
        if e % g:
            raise InputError(f"n_group={g}: does not divide num_experts={e}")
        if self.topk_group > g:
            raise InputError(f"topk_group={self.topk_group}: exceeds n_group={g}")
        if k > e // g * self.topk_group:
            raise InputError(
                f"num_experts_per_tok={k}: exceeds the {e // g * self.topk_group} experts of"
                f" topk_group={self.topk_group} groups"
            )
        if self.group_score_experts > e // g:
            raise InputError(
                f"group_score_experts={self.group_score_experts}: exceeds the {e // g} experts"
                f" of a group"
            )
        if 0 < self.shared_intermediate_size < 4:  # noqa: PLR2004 - the least `Width`
            raise InputError(
                f"shared_intermediate_size={self.shared_intermediate_size}: is 0 or at least 4"
            )
        if self.shared_expert_gate and not self.shared_intermediate_size:
            raise InputError("shared_expert_gate=True: needs a shared_intermediate_size")

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """E, k, I, F, G, g."""
        del operator, step
        return (
            Letter("E", self.num_experts, "experts of a layer"),
            Letter("k", self.num_experts_per_tok, "experts a token chooses"),
            Letter("I", self.moe_intermediate_size, "expert width"),
            Letter("F", self.shared_intermediate_size, "width of all shared experts together"),
            Letter("G", self.n_group, "groups of experts"),
            Letter("g", self.group_score_experts, "best experts whose scores a group sums"),
        )

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """router, experts, the shared experts' two projections, and their gate."""
        operators = [
            self._router(site, step),
            routed_experts(
                site,
                step,
                num_experts=self.num_experts,
                num_experts_per_tok=self.num_experts_per_tok,
                width=self.moe_intermediate_size,
                gated=self.gated,
                activation=self.activation,
                bias=self.expert_bias,
                adds_shared=self.shared_intermediate_size > 0,
                weighted_input=self.weighted_input,
            ),
        ]
        if self.shared_intermediate_size:
            operators += feed_forward(
                ("moe.shared_gate_up", "moe.shared_down"),
                site,
                step,
                width=self.shared_intermediate_size,
                group="shared_experts",
                gated=self.gated,
                activation=self.activation,
                bias=self.expert_bias,
            )
        if self.shared_expert_gate:
            operators.append(_shared_gate(site, step))
        return operators

    def _router(self, site: Site, step: Step) -> Operator:
        """Scores of all experts and the choice of k.

        Counts the GEMM, the scoring function, the corrections and the weights' normalisation;
        top-k looks at E scores (compares).
        """
        n, a, e, k = step.tokens, step.activation_bytes, self.num_experts, self.num_experts_per_tok
        scores = n * e * a
        per_score = {"softmax": SOFTMAX, "sigmoid": SIGMOID}.get(self.scoring, 0)
        parts = []
        weights: tuple[Weight, ...] = ()
        if per_score:
            parts.append(
                Part(
                    name=self.scoring,
                    kind="selection",
                    flops=per_score * n * e,
                    inner_input_bytes=scores,
                    inner_output_bytes=scores,
                    routing=True,
                )
            )
        if self.score_correction_bias:
            weights = (vector("score_correction_bias", "router", e),)
            parts.append(
                Part(
                    name="score_correction",
                    kind="selection",
                    flops=n * e,
                    weight_bytes=weights[0].stored_bytes(step),
                    inner_input_bytes=scores,
                    inner_output_bytes=scores,
                    routing=True,
                )
            )
        if self.n_group > 1:
            parts.append(
                Part(
                    name="group_choice",
                    kind="selection",
                    flops=n * self.n_group * (self.group_score_experts - 1),
                    compares=n * (e + self.n_group),
                    inner_input_bytes=2 * scores,
                    inner_output_bytes=scores,
                    routing=True,
                    shape=TopK(  # twice that in the groups: the one of the groups is smaller
                        rows=n * self.n_group,
                        width=e // self.n_group,
                        chosen=self.group_score_experts,
                        calls=2,
                    ),
                )
            )
        chosen = n * k * (a + INDEX_BYTES)
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
        weighting, grouped = self._weighting_flops(), self.n_group > 1
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
        return linear(
            "moe.router",
            site,
            step,
            inputs=site.hidden_size,
            outputs=e,
            group="router",
            bias=self.router_bias,
            extra=tuple(parts),
            extra_weights=weights,
            routing=True,
            summary="Scores of all experts, and the choice of k of them for each token",
            formula=sum_of(
                "2 N D E",
                self.router_bias and "N E",
                bool(per_score) and f"{per_score} N E",
                self.score_correction_bias and "N E",
                grouped and self.group_score_experts > 1 and "N G (g - 1)",
                bool(weighting) and f"{weighting} N k",
            )
            + f"; compares: {'N (2 E + G)' if grouped else 'N E'}",
            source="arXiv 2409.02060; groups: arXiv 2412.19437, section 2.1.2",
        )

    def _weighting_flops(self) -> int:
        """FLOPs per chosen weight: a softmax over the k chosen; a sigmoid; sum and division."""
        if self.scoring == "softmax_of_chosen":
            return SOFTMAX
        divided = 2 if self.norm_topk_prob else 0
        return divided + (SIGMOID if self.scoring == "sigmoid_of_chosen" else 0)


def _shared_gate(site: Site, step: Step) -> Operator:
    """The shared experts' result times a sigmoid of one score a token (Qwen1.5-MoE, Qwen2-MoE)."""
    n, a, d = step.tokens, step.activation_bytes, site.hidden_size
    return linear(
        "moe.shared_gate",
        site,
        step,
        inputs=d,
        outputs=1,
        group="shared_experts",
        extra=(
            Part(
                name="sigmoid",
                kind="elementwise",
                flops=SIGMOID * n,
                inner_input_bytes=n * a,
                inner_output_bytes=n * a,
            ),
            Part(
                name="scale",
                kind="elementwise",
                flops=n * d,
                input_bytes=n * d * a,
                inner_input_bytes=n * a,
                output_bytes=n * d * a,
            ),
        ),
        summary="One score a token, whose sigmoid scales the shared experts' result",
        formula=f"2 N D + {SIGMOID} N + N D",
        source="transformers, models/qwen2_moe/modeling_qwen2_moe.py",
    )
