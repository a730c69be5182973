"""Multi-head, grouped-query and multi-query attention: windows, QK-norm, biases, sinks, gates.

Letters: N = B T tokens, S cached tokens, D hidden, H query heads, K key-value heads, d head size,
dr rotated elements of a head, W window, pairs of a query and a key. Source of the shapes: GQA,
arXiv 2305.13245; windows, Mistral 7B, arXiv 2310.06825; QK-norm, OLMoE, arXiv 2409.02060 (over all
heads) and Qwen3, arXiv 2505.09388 (per head); sinks, the gpt-oss model card, arXiv 2508.10925;
output gates, arXiv 2505.06708.
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError
from costmodel.layers.attention_core import attended_pairs, core, pairs_letter, read_tokens
from costmodel.layers.base import Count, MixerKind, Width
from costmodel.layers.letters import Letter, sum_of
from costmodel.layers.numbers import Number, smaller
from costmodel.layers.operator import Operator, Part, Step, Weight
from costmodel.layers.primitives import (
    RMS_NORM,
    ROTARY,
    SIGMOID,
    linear,
    vector,
)
from costmodel.layers.site import Site
from costmodel.strict import STRICT

QkNorm = Literal["none", "head", "full"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Attention(MixerKind):
    """Attention of H query heads over K key-value heads (MHA: K = H, MQA: K = 1)."""

    kind: Literal["gqa"] = "gqa"
    num_attention_heads: Count  # H
    num_key_value_heads: Count  # K
    head_dim: Width  # d
    qk_norm: QkNorm = "none"  # "head": weights of d; "full": weights of H d and K d
    rotary_dim: Annotated[int, Field(ge=0)] | None = None  # rotated elements of a head; default: d
    sliding_window: Annotated[int, Field(ge=1, le=2**31)] | None = None  # keys seen, itself in
    attention_bias: bool = False  # of the query, key and value projections
    output_bias: bool = False
    sinks: bool = False  # a learnt score a head
    softcap: bool = False  # scores are kept within a bound, by a tanh
    output_gate: bool = False  # a sigmoid for each element of the result, of a wider projection

    def __post_init__(self) -> None:
        """Heads must group evenly; a head cannot be rotated beyond its size."""
        if self.num_attention_heads % self.num_key_value_heads:
            raise InputError(
                f"num_attention_heads={self.num_attention_heads}: is not a multiple of"
                f" num_key_value_heads={self.num_key_value_heads}"
            )
        if self.rotary_dim is not None and self.rotary_dim > self.head_dim:
            raise InputError(f"rotary_dim={self.rotary_dim}: exceeds head_dim={self.head_dim}")

    def kv_token_bytes(self, step: Step) -> int:
        """2 K vectors of d: one key and one value a head.

        Raises:
            InputError: The format of the cache is a layout of latents.
        """
        if step.kv_dtype.rotary_bits:
            raise InputError(
                f"kv_dtype={step.kv_dtype.label}: is a layout of latents (MLA); layers of kind"
                f" {self.kind!r} keep keys and values"
            )
        return 2 * self.num_key_value_heads * step.kv_dtype.row_bytes(self.head_dim)

    def kept_tokens(self, tokens: Number, step: Step) -> Number:
        """All of them; of a window the last W, unless windows are kept whole."""
        if self.sliding_window is None or step.window_cache == "whole":
            return tokens
        return smaller(tokens, self.sliding_window)

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """H, K, d, dr, pairs."""
        del operator
        return (
            Letter("H", self.num_attention_heads, "query heads"),
            Letter("K", self.num_key_value_heads, "key-value heads"),
            Letter("d", self.head_dim, "head size"),
            Letter("dr", self._rotated, "rotated elements of a head"),
            pairs_letter(step, self.sliding_window),
        )

    @property
    def _rotated(self) -> int:
        """Elements of a head that the rotary embedding turns."""
        return self.head_dim if self.rotary_dim is None else self.rotary_dim

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """qkv, rope, core, (gate), output."""
        h, k, d = self.num_attention_heads, self.num_key_value_heads, self.head_dim
        n = step.tokens
        queries, heads = (2 * h, "(2 H + 2 K)") if self.output_gate else (h, "(H + 2 K)")
        kv_bytes = self.kv_token_bytes(step)
        cached = read_tokens(step, self.sliding_window)
        return [
            linear(
                "attention.qkv",
                site,
                step,
                inputs=site.hidden_size,
                outputs=(queries + 2 * k) * d,
                group="attention",
                bias=self.attention_bias,
                matrix_rows=(queries * d, k * d, k * d),
                summary="Queries, keys and values of the new tokens"
                + (
                    ", and gates of the result, in one projection"
                    if self.output_gate
                    else ", in one projection"
                ),
                formula=sum_of(f"2 N D {heads} d", self.attention_bias and f"N {heads} d"),
                source="arXiv 2305.13245",
            ),
            self._rope(site, step, kv_bytes),
            core(
                site,
                step,
                pairs=attended_pairs(step, self.sliding_window),
                heads=h,
                kv_heads=k,
                key_dim=d,
                value_dim=d,
                keys=cached + step.new_tokens,
                kv_read_bytes=step.batch * cached * kv_bytes,
                input_elements=n * (h + 2 * k) * d,
                output_elements=n * h * d,
                sinks=self.sinks,
                softcap=self.softcap,
                formula="2 B pairs H (d + d)",
                source="arXiv 2305.13245; windows: arXiv 2310.06825",
            ),
            *((self._gate(site, step),) if self.output_gate else ()),
            linear(
                "attention.output",
                site,
                step,
                inputs=h * d,
                outputs=site.hidden_size,
                group="attention",
                bias=self.output_bias,
                summary="Projection of all heads' results back to the hidden size",
                formula=sum_of("2 N H d D", self.output_bias and "N D"),
                source="arXiv 2305.13245",
            ),
        ]

    def _gate(self, site: Site, step: Step) -> Operator:
        """The result of every head times the sigmoid of its gate: 4 FLOPs an element."""
        elements = step.tokens * self.num_attention_heads * self.head_dim
        passed = elements * step.activation_bytes
        return site.operator(
            "attention.gate",
            kind="elementwise",
            parts=(
                Part(
                    name="gate",
                    kind="elementwise",
                    flops=(SIGMOID + 1) * elements,
                    input_bytes=2 * passed,
                    output_bytes=passed,
                    operations=2,
                ),
            ),
            summary="The result of every head times the sigmoid of its gate",
            formula=f"{SIGMOID + 1} N H d",
            source="arXiv 2505.06708",
        )

    def _rope(self, site: Site, step: Step, kv_bytes: int) -> Operator:
        """QK-norm, rotary embedding and the cache write: one pass over queries and keys."""
        h, k, d = self.num_attention_heads, self.num_key_value_heads, self.head_dim
        n, a = step.tokens, step.activation_bytes
        rotated, normed = self._rotated, self.qk_norm != "none"
        parts: list[Part] = []
        weights: tuple[Weight, ...] = ()
        if normed:
            q_width, k_width = (d, d) if self.qk_norm == "head" else (h * d, k * d)
            weights = (vector("q_norm", "norm", q_width), vector("k_norm", "norm", k_width))
            parts.append(
                Part(
                    name="qk_norm",
                    kind="norm",
                    flops=RMS_NORM * n * (h + k) * d,
                    weight_bytes=sum(w.stored_bytes(step) for w in weights),
                    inner_input_bytes=n * (h + k) * d * a,
                    inner_output_bytes=n * (h + k) * d * a,
                    operations=2,  # of queries and of keys
                )
            )
        if rotated:
            parts.append(
                Part(
                    name="rotary",
                    kind="elementwise",
                    flops=ROTARY * n * (h + k) * rotated,
                    inner_input_bytes=n * (h + k) * d * a,
                    inner_output_bytes=n * (h + k) * d * a,
                    operations=2,
                )
            )
        kept = self.kept_tokens(step.new_tokens, step)
        parts.append(
            Part(
                name="cache_write",
                kind="elementwise",
                kv_written_bytes=step.batch * kept * kv_bytes,
                input_bytes=n * (h + 2 * k) * d * a,
                output_bytes=n * (h + 2 * k) * d * a,
            )
        )
        return site.operator(
            "attention.rope",
            kind="elementwise",
            parts=tuple(parts),
            weights=weights,
            summary=f"{'Norm and rotation' if normed else 'Rotation'} of queries and keys,"
            " and the write of new keys and values to the cache",
            formula=sum_of(
                normed and f"{RMS_NORM} N (H + K) d", rotated > 0 and f"{ROTARY} N (H + K) dr"
            ),
            source="RoPE arXiv 2104.09864; QK-norm arXiv 2409.02060, 2505.09388",
        )
