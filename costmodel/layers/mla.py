"""Multi-head latent attention: a cache of one latent and one rotary key a token.

Letters: H heads, q = q_lora_rank, c = kv_lora_rank, r = rotary, p = no-position head sizes,
v value head size. The up-projections `k_up` and `v_up` serve two modes with the same weights:
*absorbed* maps the query into the latent space and the result out of it, so that attention runs
over latents (H heads of c + r keys and c values); *expanded* rebuilds keys and values of every
attended token in each step. Engines that know no latents keep an *expanded cache* instead: keys and
values of all heads, built once for each token. Source: DeepSeek-V2, arXiv 2405.04434, section 2.1
and appendix C; the expanded cache: its model code on Hugging Face (`modeling_deepseek.py`).
DSA attends to the `index_topk` tokens that an indexer chooses (`indexer.py`).
"""

from dataclasses import replace
from typing import Literal, Self

from pydantic.dataclasses import dataclass

from costmodel.errors import InputError
from costmodel.layers.attention_core import pairs_letter
from costmodel.layers.base import Count, MixerKind, Width
from costmodel.layers.indexer import Indexer, chosen_pairs
from costmodel.layers.latents import Latents, latent_norm
from costmodel.layers.letters import Letter, sum_of
from costmodel.layers.mesh import Mesh
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part, Step
from costmodel.layers.primitives import ROTARY, linear
from costmodel.layers.site import Site
from costmodel.strict import STRICT

SOURCE = "arXiv 2405.04434, section 2.1"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LatentAttention(MixerKind):
    """MLA, with (`q_lora_rank`) or without query compression."""

    kind: Literal["mla"] = "mla"
    num_attention_heads: Count  # H
    kv_lora_rank: Width  # c
    qk_nope_head_dim: Width  # p
    qk_rope_head_dim: Width  # r
    v_head_dim: Width  # v
    q_lora_rank: Width | None = None  # q
    attention_bias: bool = False  # of the down projection
    output_bias: bool = False
    mla_use_nope: bool = False  # no position: the part of r is not rotated (Kimi Linear)
    index_topk: Count | None = None  # tokens that a query attends to (DSA); None: all
    index_n_heads: Count | None = None  # Hi
    index_head_dim: Width | None = None  # di
    shared_index: bool = False  # takes the choice of the last layer before it that has an indexer

    def __post_init__(self) -> None:
        """An indexer has all its sizes, and scores by the compressed query."""
        if self.index_topk is None:
            for field in ("index_n_heads", "index_head_dim", "shared_index"):
                if getattr(self, field):
                    raise InputError(f"{field}={getattr(self, field)}: needs index_topk")
            return
        for field in ("index_n_heads", "index_head_dim", "q_lora_rank"):
            if getattr(self, field) is None:
                raise InputError(f"index_topk={self.index_topk}: needs {field}")
        if self.mla_use_nope:
            raise InputError("mla_use_nope=True: an indexer rotates; it is of no index_topk")
        assert self.index_head_dim is not None
        if self.index_head_dim < self.qk_rope_head_dim:
            raise InputError(
                f"index_head_dim={self.index_head_dim}: is less than"
                f" qk_rope_head_dim={self.qk_rope_head_dim}, which is rotated"
            )

    @property
    def indexer(self) -> Indexer | None:
        """The indexer of its own."""
        if self.index_topk is None or self.shared_index:
            return None
        assert self.index_n_heads is not None
        assert self.index_head_dim is not None
        assert self.q_lora_rank is not None
        return Indexer(
            heads=self.index_n_heads,
            head_dim=self.index_head_dim,
            topk=self.index_topk,
            query_dim=self.q_lora_rank,
            rotated=self.qk_rope_head_dim,
        )

    def split(self, mesh: Mesh) -> Self:
        """H / tp heads. All GPUs have the down-projections, latents and the whole indexer."""
        heads = mesh.of_tp(self.num_attention_heads, "num_attention_heads")
        return replace(self, num_attention_heads=heads)

    def kv_token_bytes(self, step: Step) -> int:
        """A latent of c and a rotary key of r; expanded, H keys of p + r and H values of v.

        And the key of an indexer, `side_token_bytes`.
        """
        return self.latents.token_bytes(step) + self.side_token_bytes(step)

    def side_token_bytes(self, step: Step) -> int:
        """Of the indexer's key of di."""
        return 0 if self.indexer is None else self.indexer.key_bytes(step)

    def logits_bytes(self, step: Step) -> Number:
        """Of its own indexer."""
        held = step.cached + step.new_tokens
        return 0 if self.indexer is None else self.indexer.logits_bytes(step, held)

    def dense_twin(self) -> Self | None:
        """Without an indexer, or without the choice of another's."""
        if self.index_topk is None:
            return None
        return replace(
            self, index_topk=None, index_n_heads=None, index_head_dim=None, shared_index=False
        )

    @property
    def latents(self) -> Latents:
        """Its sizes as attention takes them."""
        return Latents(
            heads=self.num_attention_heads,
            latent=self.kv_lora_rank,
            rotary=self.qk_rope_head_dim,
            nope=self.qk_nope_head_dim,
            value=self.v_head_dim,
            topk=self.index_topk,
        )

    def kept_tokens(self, tokens: Number, step: Step) -> Number:
        """All of them."""
        del step
        return tokens

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """H, c, r, p, v, pairs, and q where queries are compressed."""
        del operator
        letters = [
            Letter("H", self.num_attention_heads, "heads"),
            Letter("c", self.kv_lora_rank, "latent width"),
            Letter("r", self.qk_rope_head_dim, "rotary head size"),
            Letter("p", self.qk_nope_head_dim, "no-position head size"),
            Letter("v", self.v_head_dim, "value head size"),
            self._pairs_letter(step),
        ]
        if self.q_lora_rank is not None:
            letters.append(Letter("q", self.q_lora_rank, "width of the compressed query"))
        return (*letters, *(self.indexer.token_letters(step) if self.indexer is not None else ()))

    def _pairs_letter(self, step: Step) -> Letter:
        if self.index_topk is None:
            return pairs_letter(step, None)
        return Letter(
            "pairs",
            chosen_pairs(step, self.index_topk),
            f"query-key pairs of a sequence and head: at most {self.index_topk} of a query",
        )

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """qkv_down, latent_norm, (the indexer's,) q_up, rope, k_up, v_up, core, output.

        Into an expanded cache rope writes what k_up and v_up make, so it follows them there.
        """
        h, c, r = self.num_attention_heads, self.kv_lora_rank, self.qk_rope_head_dim
        q_width = h * (self.qk_nope_head_dim + r)
        q_first = q_width if self.q_lora_rank is None else self.q_lora_rank
        outputs = f"({'H (p + r)' if self.q_lora_rank is None else 'q'} + c + r)"
        operators = [
            linear(
                "attention.qkv_down",
                site,
                step,
                inputs=site.hidden_size,
                outputs=q_first + c + r,
                group="attention",
                bias=self.attention_bias,
                matrix_rows=(q_first, c + r),
                summary="Projection of each token to its queries or their compressed form, a latent"
                " and a rotary key",
                formula=sum_of(f"2 N D {outputs}", self.attention_bias and f"N {outputs}"),
                source=SOURCE,
            ),
            latent_norm(
                site,
                step,
                latent=c,
                query=self.q_lora_rank,
                formula="c" if self.q_lora_rank is None else "(c + q)",
                source=SOURCE,
            ),
            *(self.indexer.operators(site, step) if self.indexer is not None else ()),
        ]
        if self.q_lora_rank is not None:
            operators.append(
                linear(
                    "attention.q_up",
                    site,
                    step,
                    inputs=self.q_lora_rank,
                    outputs=q_width,
                    group="attention",
                    summary="Queries of all heads from the compressed query",
                    formula="2 N q H (p + r)",
                    source=SOURCE,
                )
            )
        rope = self._rope(site, step)
        ups = [
            self.latents.keys_up(site, step),
            self.latents.values_up(site, step),
        ]
        return [
            *operators,
            *([rope, *ups] if step.mla_cache == "latent" else [*ups, rope]),
            self.latents.core(site, step),
            linear(
                "attention.output",
                site,
                step,
                inputs=h * self.v_head_dim,
                outputs=site.hidden_size,
                group="attention",
                bias=self.output_bias,
                summary="Projection of all heads' results back to the hidden size",
                formula=sum_of("2 N H v D", self.output_bias and "N D"),
                source=SOURCE,
            ),
        ]

    def _rope(self, site: Site, step: Step) -> Operator:
        """Rotary embedding of the H query parts and the one key, and the cache write."""
        n, a = step.tokens, step.activation_bytes
        h, r = self.num_attention_heads, self.qk_rope_head_dim
        rotated = n * (h + 1) * r
        if step.mla_cache == "latent":
            kept = "latent and rotary key"
            inputs = outputs = rotated + n * self.kv_lora_rank
        else:
            kept = "keys and values of all heads"
            rebuilt = n * h * (self.qk_nope_head_dim + self.v_head_dim)
            inputs = rotated + rebuilt
            outputs = 2 * n * h * r + rebuilt  # each head's key gets a copy of the rotary key
        rotary = Part(
            name="rotary",
            kind="elementwise",
            flops=ROTARY * rotated,
            inner_input_bytes=rotated * a,
            inner_output_bytes=rotated * a,
            operations=2,  # of queries and of the key
        )
        rotation = "Rotation of the queries of H heads and of the one rotary key, and the write"
        return site.operator(
            "attention.rope",
            kind="elementwise",
            parts=(
                *(() if self.mla_use_nope else (rotary,)),
                Part(
                    name="cache_write",
                    kind="elementwise",
                    kv_written_bytes=n * self.latents.token_bytes(step),
                    input_bytes=inputs * a,
                    output_bytes=outputs * a,
                ),
            ),
            summary=f"{'Write' if self.mla_use_nope else rotation} of {kept} to the cache",
            formula=sum_of(not self.mla_use_nope and f"{ROTARY} N (H + 1) r"),
            source="RoPE arXiv 2104.09864",
        )
