"""Mixture of experts: a router, the chosen experts, and experts that every token shares.

Letters: N tokens, D hidden, E experts, k of them a token, I expert width, F width of all
shared experts, l width of a latent space, Z zero-computation experts. The router:
costmodel/layers/moe_router.py; what the chosen experts compute: costmodel/layers/moe_experts.py.
Source: OLMoE, arXiv 2409.02060; shared experts, DeepSeek-V2, arXiv 2405.04434, section 2.2; latent
experts, Nemotron 3 (LatentMoE), arXiv 2601.18089; zero-computation experts, LongCat-Flash,
arXiv 2509.01322, section 2.1.
"""

from dataclasses import replace
from typing import Annotated, Final, Literal, Self

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError
from costmodel.layers.base import Count, FfnKind, Size, Width
from costmodel.layers.ffn import feed_forward
from costmodel.layers.letters import Letter, sum_of
from costmodel.layers.mesh import Mesh
from costmodel.layers.moe_experts import routed_experts
from costmodel.layers.moe_router import router
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part, Step
from costmodel.layers.primitives import SIGMOID, Activation, linear
from costmodel.layers.site import Site
from costmodel.strict import STRICT

LATENT: Final = "arXiv 2601.18089"
Scoring = Literal["softmax", "sigmoid", "sqrtsoftplus", "softmax_of_chosen", "sigmoid_of_chosen"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MoeFfn(FfnKind):
    """k of E experts a token, and optionally shared ones.

    `scoring`: "softmax" over all experts, "sigmoid" or "sqrtsoftplus" of each, or of the k chosen
    ones alone, after top-k: "softmax_of_chosen", "sigmoid_of_chosen" (Llama 4).
    Group-limited routing keeps the best `topk_group` of `n_group` groups, each group scored by the
    sum of its best `group_score_experts` experts (DeepSeek-V3: 2; DeepSeek-V2: 1).

    With `moe_latent_size` the routed experts read and write vectors of that width; two projections,
    which every token runs, lead there and back. Router and shared experts work on the hidden state.

    With `hash_vocab_size` V a table of V x k numbers says which experts each token id has
    (DeepSeek-V4's first layers). The router scores all experts still: their weights are by scores.

    With `zero_expert_num` the router chooses among E + Z; a token that chooses one of the last Z
    gets itself back. Then k E / (E + Z) of its experts compute something, in the mean and if all
    are equally popular: FLOPs and active parameters count so many, rounded down in a step.
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
    image_correction_bias: bool = False  # a second such bias, of image tokens (DeepSeek-V4.1)
    score_correction_buffer: bool = False  # the same set by a controller: no parameter
    n_group: Count = 1
    topk_group: Count = 1
    group_score_experts: Count = 1
    router_bias: bool = False
    expert_bias: bool = False
    moe_latent_size: Width | None = None  # l: of the vectors that routed experts read and write
    zero_expert_num: Annotated[int, Field(ge=0, le=2**16)] = 0  # Z
    hash_vocab_size: Annotated[int, Field(ge=2, le=2**24)] | None = None  # V of the table of ids

    def __post_init__(self) -> None:
        """A token cannot choose more experts than it can reach."""
        k, e, g = self.num_experts_per_tok, self.choices, self.n_group
        zero = f" + zero_expert_num={self.zero_expert_num}" if self.zero_expert_num else ""
        among = f"num_experts={self.num_experts}{zero}"
        if k > e:
            raise InputError(f"num_experts_per_tok={k}: exceeds {among}")
        if e % g:
            raise InputError(f"n_group={g}: does not divide {among}")
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
        self._check_corrections()
        if self.hash_vocab_size is not None:
            self._check_hash()

    def _check_corrections(self) -> None:
        """Scores have one correction, a parameter or a buffer; that of images is a second one."""
        if self.score_correction_bias and self.score_correction_buffer:
            raise InputError("score_correction_buffer=True: stands beside score_correction_bias")
        if self.image_correction_bias and not self.score_correction_bias:
            raise InputError("image_correction_bias=True: needs score_correction_bias")

    def _check_hash(self) -> None:
        """Nothing is ranked where a table chooses."""
        for field, has in (
            ("n_group", self.n_group > 1),
            ("score_correction_bias", self.score_correction_bias),
            ("score_correction_buffer", self.score_correction_buffer),
        ):
            if has:
                raise InputError(
                    f"{field}={getattr(self, field)}: ranks experts, which a table of token ids"
                    f" chooses here (hash_vocab_size={self.hash_vocab_size})"
                )

    def split(self, mesh: Mesh) -> Self:
        """The shared experts' F / tp; of each routed expert I / (tp dp / ep).

        All GPUs of a `tp` group have the router and the latent projections. Which experts a GPU
        has, and which tokens: `costs/sharding`.
        """
        if self.num_experts % mesh.ep:
            raise InputError(f"ep={mesh.ep}: does not divide num_experts={self.num_experts}")
        if (self.num_experts + mesh.redundant_experts) % mesh.ep:
            raise InputError(
                f"redundant_experts={mesh.redundant_experts}: with num_experts={self.num_experts}"
                f" these do not divide over ep={mesh.ep} sets"
            )
        width, share = self.moe_intermediate_size, mesh.gpus_of_an_expert
        if width % share:
            raise InputError(
                f"ep={mesh.ep}: each expert is divided over tp x dp / ep = {share} GPUs, which does"
                f" not divide moe_intermediate_size={width}"
            )
        return replace(
            self,
            moe_intermediate_size=width // share,
            shared_intermediate_size=mesh.of_tp(
                self.shared_intermediate_size, "shared_intermediate_size"
            ),
        )

    @property
    def choices(self) -> int:
        """What the router chooses from: E + Z."""
        return self.num_experts + self.zero_expert_num

    @property
    def active(self) -> int:
        """Experts that compute something for a token: k, of E + Z choices the share of E."""
        return self.num_experts_per_tok * self.num_experts // self.choices

    def computed(self, tokens: Number) -> Number:
        """Pairs of a token and an expert that computes: N k E / (E + Z), rounded down."""
        return tokens * self.num_experts_per_tok * self.num_experts // self.choices

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """E, k, I, F, G, g, and where there are any l, Z and n."""
        del operator
        latent, zero = self.moe_latent_size, self.zero_expert_num
        pairs = self.computed(step.tokens)
        return (
            *((Letter("l", latent, "width of the experts' space"),) if latent else ()),
            *((Letter("Z", zero, "experts that return their input"),) if zero else ()),
            *((Letter("n", pairs, "pairs that compute, N k E / (E + Z)"),) if zero else ()),
            Letter("E", self.num_experts, "experts of a layer"),
            Letter("k", self.num_experts_per_tok, "experts a token chooses"),
            Letter("I", self.moe_intermediate_size, "expert width"),
            Letter("F", self.shared_intermediate_size, "width of all shared experts together"),
            Letter("G", self.n_group, "groups of experts"),
            Letter("g", self.group_score_experts, "best experts whose scores a group sums"),
        )

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """router, experts between the latent projections, the shared experts and their gate."""
        operators = [router(self, site, step)]
        if self.moe_latent_size is None:
            operators.append(routed_experts(self, site, step))
        else:
            operators += [
                _latent_down(self.moe_latent_size, site, step),
                routed_experts(self, site, step),
                self._latent_up(self.moe_latent_size, site, step),
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

    def _latent_up(self, latent: int, site: Site, step: Step) -> Operator:
        """Back to the hidden size, where the shared experts' result is added."""
        elements = step.tokens * site.hidden_size
        passed = elements * step.activation_bytes
        added = Part(
            name="add_shared",
            kind="elementwise",
            flops=elements,
            input_bytes=passed,
            inner_input_bytes=passed,
            output_bytes=passed,
        )
        shared = self.shared_intermediate_size > 0
        return linear(
            "moe.latent_up",
            site,
            step,
            inputs=latent,
            outputs=site.hidden_size,
            group="shared_experts",
            extra=(added,) if shared else (),
            summary="Projection of the experts' result back to the hidden size",
            formula=sum_of("2 N l D", shared and "N D"),
            source=LATENT,
        )


def _latent_down(latent: int, site: Site, step: Step) -> Operator:
    """To the experts' space."""
    return linear(
        "moe.latent_down",
        site,
        step,
        inputs=site.hidden_size,
        outputs=latent,
        group="shared_experts",
        summary="Projection of the tokens to the space of the routed experts",
        formula="2 N D l",
        source=LATENT,
    )


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
