"""Multi-head latent attention: a cache of one latent and one rotary key a token.

Letters: H heads, q = q_lora_rank, c = kv_lora_rank, r = rotary, p = no-position head sizes,
v value head size. The up-projections `k_up` and `v_up` serve two modes with the same weights:
*absorbed* maps the query into the latent space and the result out of it, so that attention runs
over latents (H heads of c + r keys and c values); *expanded* rebuilds keys and values of every
attended token in each step. Source: DeepSeek-V2, arXiv 2405.04434, section 2.1 and appendix C.
"""

from typing import Literal

from pydantic.dataclasses import dataclass

from costmodel.layers.attention import attended_pairs, core, pairs_letter
from costmodel.layers.base import Count, MixerKind, Width
from costmodel.layers.dtype import Dtype
from costmodel.layers.kernel_shape import Gemm
from costmodel.layers.letters import Letter, sum_of
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part, Step, Weight
from costmodel.layers.primitives import RMS_NORM, ROTARY, linear, vector
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

    def kv_token_bytes(self, kv_dtype: Dtype) -> int:
        """A latent of c and a rotary key of r."""
        return kv_dtype.row_bytes(self.kv_lora_rank) + kv_dtype.row_bytes(self.qk_rope_head_dim)

    def kept_tokens(self, tokens: Number) -> Number:
        """All of them."""
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
            pairs_letter(step, None),
        ]
        if self.q_lora_rank is not None:
            letters.append(Letter("q", self.q_lora_rank, "width of the compressed query"))
        return tuple(letters)

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """qkv_down, latent_norm, q_up, rope, k_up, v_up, core, output."""
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
            self._latent_norm(site, step),
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
        return [
            *operators,
            self._rope(site, step),
            self._up("k_up", self.qk_nope_head_dim, site, step, reads_latents=True),
            self._up("v_up", self.v_head_dim, site, step, reads_latents=False),
            self._core(site, step),
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

    def _latent_norm(self, site: Site, step: Step) -> Operator:
        weights = [vector("kv_norm", "norm", self.kv_lora_rank)]
        if self.q_lora_rank is not None:
            weights.append(vector("q_norm", "norm", self.q_lora_rank))
        elements = step.tokens * sum(w.rows for w in weights)
        return site.operator(
            "attention.latent_norm",
            kind="norm",
            parts=(
                Part(
                    name="norm",
                    kind="norm",
                    flops=RMS_NORM * elements,
                    weight_bytes=sum(w.stored_bytes(step) for w in weights),
                    input_bytes=elements * step.activation_bytes,
                    output_bytes=elements * step.activation_bytes,
                    operations=len(weights),
                ),
            ),
            weights=tuple(weights),
            summary="RMSNorm of the latent and of the compressed query, if there is one",
            formula=f"{RMS_NORM} N {'c' if self.q_lora_rank is None else '(c + q)'}",
            source=SOURCE,
        )

    def _rope(self, site: Site, step: Step) -> Operator:
        """Rotary embedding of the H query parts and the one key, and the cache write."""
        n, a, r = step.tokens, step.activation_bytes, self.qk_rope_head_dim
        rotated = n * (self.num_attention_heads + 1) * r
        return site.operator(
            "attention.rope",
            kind="elementwise",
            parts=(
                Part(
                    name="rotary",
                    kind="elementwise",
                    flops=ROTARY * rotated,
                    inner_input_bytes=rotated * a,
                    inner_output_bytes=rotated * a,
                    operations=2,  # of queries and of the key
                ),
                Part(
                    name="cache_write",
                    kind="elementwise",
                    kv_written_bytes=n * self.kv_token_bytes(step.kv_dtype),
                    input_bytes=(rotated + n * self.kv_lora_rank) * a,
                    output_bytes=(rotated + n * self.kv_lora_rank) * a,
                ),
            ),
            summary="Rotation of the queries of H heads and of the one rotary key, and the write of"
            " latent and rotary key to the cache",
            formula=f"{ROTARY} N (H + 1) r",
            source="RoPE arXiv 2104.09864",
        )

    def _up(
        self, leaf: str, head_dim: int, site: Site, step: Step, *, reads_latents: bool
    ) -> Operator:
        """Per head, c to `head_dim`: of the new tokens (absorbed) or all attended ones (expanded).

        Absorbed 2 N H c head_dim, expanded 2 B (S + T) H c head_dim FLOPs. The cached latents are
        read once, by `k_up` when expanded and by the core when absorbed.
        """
        h, c = self.num_attention_heads, self.kv_lora_rank
        expanded = step.mla == "expanded"
        tokens = step.batch * (step.cached + step.new_tokens) if expanded else step.tokens
        weight = Weight(
            name="weight", group="attention", rows=h * head_dim, cols=c, leaf=f"attention.{leaf}"
        )
        latents = step.batch * step.cached * step.kv_dtype.row_bytes(c)
        # Expanded, `v_up` reads the cached latents a second time: activations, not compulsory.
        fresh = step.tokens if reads_latents else tokens
        inputs, outputs = fresh * c, tokens * h * head_dim
        if not expanded:  # queries into the latent space, or results out of it
            narrow, wide = tokens * h * head_dim, tokens * h * c
            inputs, outputs = (narrow, wide) if reads_latents else (wide, narrow)
        if expanded:
            what = "Keys" if reads_latents else "Values"
            summary = f"{what} of every attended token, rebuilt from its latent"
        else:
            summary = (
                "Queries mapped into the latent space, where attention runs"
                if reads_latents
                else "Results of attention mapped out of the latent space"
            )
        return site.operator(
            f"attention.{leaf}",
            kind="matmul",
            parts=(
                Part(
                    name="gemm",
                    kind="matmul",
                    flops=2 * tokens * h * c * head_dim,
                    weight_bytes=weight.stored_bytes(step),
                    kv_read_bytes=latents if expanded and reads_latents else 0,
                    input_bytes=inputs * step.activation_bytes,
                    output_bytes=outputs * step.activation_bytes,
                    shape=Gemm(m=tokens, n=h * head_dim, k=c),
                ),
            ),
            weights=(weight,),
            summary=summary,
            formula=f"2 {'B (S + T)' if expanded else 'N'} H c {'p' if reads_latents else 'v'}",
            source="arXiv 2405.04434, appendix C",
        )

    def _core(self, site: Site, step: Step) -> Operator:
        h, c, r = self.num_attention_heads, self.kv_lora_rank, self.qk_rope_head_dim
        p, v = self.qk_nope_head_dim, self.v_head_dim
        expanded = step.mla == "expanded"
        cached = step.batch * step.cached
        kv_read = cached * (
            step.kv_dtype.row_bytes(r) if expanded else self.kv_token_bytes(step.kv_dtype)
        )
        if expanded:  # queries, the result and rotary keys of new tokens; rebuilt keys and values
            inputs = step.tokens * (h * (p + r) + r) + (cached + step.tokens) * h * (p + v)
        else:
            inputs = step.tokens * (h * (c + r) + c + r)
        return core(
            site,
            step,
            pairs=attended_pairs(step, None),
            heads=h,
            kv_heads=h if expanded else 1,  # all heads share the latents
            key_dim=p + r if expanded else c + r,
            value_dim=v if expanded else c,
            keys=step.cached + step.new_tokens,
            kv_read_bytes=kv_read,
            input_elements=inputs,
            output_elements=step.tokens * h * (v if expanded else c),
            operations=3 if expanded else 2,  # queries joined, rebuilt keys joined, attention
            formula=f"2 B pairs H {'(p + r + v)' if expanded else '(c + r + c)'}",
            source="arXiv 2405.04434, appendix C",
        )
