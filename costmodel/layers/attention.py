"""Grouped-query attention: windows and chunks, QK-norm, biases, sinks, gates.

Letters: N = B T tokens, S cached tokens, D hidden, H query heads, K key-value heads, d head size,
dv that of values, dr rotated elements of a head, W window, pairs of a query and a key. A layer may
take its keys as values, or read the keys and values of an earlier layer. Source of the shapes: GQA,
arXiv 2305.13245; windows, Mistral 7B, arXiv 2310.06825; QK-norm, OLMoE, arXiv 2409.02060 (over all
heads) and Qwen3, arXiv 2505.09388 (per head); sinks, the gpt-oss model card, arXiv 2508.10925;
output gates, arXiv 2505.06708; K = V, norms of values and shared caches, Gemma 3n and Gemma 4 in
transformers 5.24 (`modeling_gemma3n`, `modeling_gemma4`); queries that grow with the position,
arXiv 2501.19399; chunks, Llama 4 in transformers, models/llama4/modeling_llama4.py (`chunked.py`).
"""

from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError
from costmodel.layers.attention_core import attended_pairs, core, pairs_letter, read_tokens
from costmodel.layers.attention_rope import heads_of, rope
from costmodel.layers.base import Count, MixerKind, Width
from costmodel.layers.chunked import chunk_pairs, chunk_pairs_letter, chunk_read_tokens
from costmodel.layers.letters import Letter, sum_of
from costmodel.layers.mesh import Mesh
from costmodel.layers.numbers import Number, smaller
from costmodel.layers.operator import Operator, Part, Step
from costmodel.layers.primitives import (
    SIGMOID,
    linear,
)
from costmodel.layers.site import Site
from costmodel.strict import STRICT

QkNorm = Literal["none", "head", "full", "head_unweighted"]
Tokens = Annotated[int, Field(ge=1, le=2**31)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Attention(MixerKind):
    """Attention of H query heads over K key-value heads (MHA: K = H, MQA: K = 1)."""

    kind: Literal["gqa"] = "gqa"
    num_attention_heads: Count  # H
    num_key_value_heads: Count  # K
    head_dim: Width  # d
    v_head_dim: Width | None = None  # dv; default: d
    # "head": weights of d; "full": weights of H d and K d; "head_unweighted": none, of each head
    qk_norm: QkNorm = "none"
    rotary_dim: Annotated[int, Field(ge=0)] | None = None  # rotated elements of a head; default: d
    sliding_window: Tokens | None = None  # keys seen, itself in
    attention_chunk_size: Tokens | None = None  # a token sees those of its chunk up to itself
    floor_scale: Tokens | None = None  # queries grow with each so many tokens before them
    attention_bias: bool = False  # of the query, key and value projections
    output_bias: bool = False
    sinks: bool = False  # a learnt score a head
    softcap: bool = False  # scores are kept within a bound, by a tanh
    output_gate: bool = False  # a sigmoid for each element of the result, of a wider projection
    attention_k_eq_v: bool = False  # a key before its norm and rotation is the value, too
    value_norm: bool = False  # an RMSNorm of each value head, without a weight
    shared_kv: bool = False  # reads keys and values of the last earlier layer that has such ones
    reads_of_other: ClassVar[tuple[str, str]] = (
        "shared_kv",
        "keys and values of its own and equal num_key_value_heads, head sizes and window",
    )

    def __post_init__(self) -> None:
        """Heads must group evenly; a head cannot be rotated beyond its size."""
        if self.num_attention_heads % self.num_key_value_heads:
            raise InputError(
                f"num_attention_heads={self.num_attention_heads}: is not a multiple of"
                f" num_key_value_heads={self.num_key_value_heads}"
            )
        if self.rotary_dim is not None and self.rotary_dim > self.head_dim:
            raise InputError(f"rotary_dim={self.rotary_dim}: exceeds head_dim={self.head_dim}")
        if self.sliding_window is not None and self.attention_chunk_size is not None:
            raise InputError(
                f"attention_chunk_size={self.attention_chunk_size}: a layer with a sliding_window"
                " has no chunks"
            )
        if self.attention_k_eq_v and self.value_dim != self.head_dim:
            raise InputError(
                f"v_head_dim={self.v_head_dim}: differs from head_dim={self.head_dim}, though keys"
                " are values (attention_k_eq_v)"
            )
        for field in ("attention_k_eq_v", "value_norm"):
            if self.shared_kv and getattr(self, field):
                raise InputError(f"{field}=True: is of a layer's own values; shared_kv has none")

    def split(self, mesh: Mesh) -> Self:
        """H / tp query heads; K / tp key-value heads, or one that tp / K GPUs have alike."""
        tp, k = mesh.tp, self.num_key_value_heads
        if k % tp and tp % k:
            raise InputError(
                f"tp={tp}: is neither a divisor nor a multiple of num_key_value_heads={k}"
            )
        heads = mesh.of_tp(self.num_attention_heads, "num_attention_heads")
        return replace(self, num_attention_heads=heads, num_key_value_heads=max(k // tp, 1))

    @property
    def value_dim(self) -> int:
        """dv, the size of a value head."""
        return self.head_dim if self.v_head_dim is None else self.v_head_dim

    @property
    def reads_other_cache(self) -> bool:
        """Whether it has no keys and values of its own."""
        return self.shared_kv

    def can_read(self, other: MixerKind) -> bool:
        """Whether it could attend to the keys and values of another layer: of equal shapes."""
        return isinstance(other, Attention) and not other.shared_kv and _cached(self, other)

    def kv_token_bytes(self, step: Step) -> int:
        """One key of d and one value of dv for each of K heads; 0 if they are another layer's.

        Raises:
            InputError: The format of the cache is a layout of latents.
        """
        return 0 if self.shared_kv else self._read_token_bytes(step)

    def _read_token_bytes(self, step: Step) -> int:
        """Bytes of a cached token's keys and values, be they this layer's or another's."""
        if step.kv_dtype.rotary_bits:
            raise InputError(
                f"kv_dtype={step.kv_dtype.label}: is a layout of latents (MLA); layers of kind"
                f" {self.kind!r} keep keys and values"
            )
        key, value = map(step.kv_dtype.row_bytes, (self.head_dim, self.value_dim))
        return self.num_key_value_heads * (key + value)

    def kept_tokens(self, tokens: Number, step: Step) -> Number:
        """All of them; of a window the last W, unless windows are kept whole.

        Of chunks of C the last C: the slots of a finished chunk are written over one by one.
        """
        most = self.sliding_window or self.attention_chunk_size
        return tokens if most is None or step.window_cache == "whole" else smaller(tokens, most)

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """H, K, d, dv where it differs, dr, pairs."""
        del operator
        apart = self.value_dim != self.head_dim
        return (
            Letter("H", self.num_attention_heads, "query heads"),
            Letter("K", self.num_key_value_heads, "key-value heads"),
            Letter("d", self.head_dim, f"{'key ' if apart else ''}head size"),
            *([Letter("dv", self.value_dim, "value head size")] if apart else []),
            Letter("dr", self.rotated, "rotated elements of a head"),
            self._pairs_letter(step),
        )

    def _pairs_letter(self, step: Step) -> Letter:
        if self.attention_chunk_size is not None:
            return chunk_pairs_letter(step, self.attention_chunk_size)
        return pairs_letter(step, self.sliding_window)

    def _reach(self, step: Step) -> tuple[Number, Number]:
        """Query-key pairs of a sequence and head, and the cached tokens that a step reads."""
        if self.attention_chunk_size is not None:
            chunk = self.attention_chunk_size
            return chunk_pairs(step, chunk), chunk_read_tokens(step, chunk)
        window = self.sliding_window
        return attended_pairs(step, window), read_tokens(step, window)

    @property
    def rotated(self) -> int:
        """Elements of a head that the rotary embedding turns."""
        return self.head_dim if self.rotary_dim is None else self.rotary_dim

    @property
    def value_letter(self) -> str:
        """The letter of a value head's size."""
        return "d" if self.value_dim == self.head_dim else "dv"

    @property
    def new_elements(self) -> int:
        """Elements of the keys and values that a new token brings: K (d + dv), or 0."""
        return 0 if self.shared_kv else self.num_key_value_heads * (self.head_dim + self.value_dim)

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """qkv, rope, core, (gate), output."""
        h, k, d, dv = (
            self.num_attention_heads,
            self.num_key_value_heads,
            self.head_dim,
            self.value_dim,
        )
        n = step.tokens
        pairs, cached = self._reach(step)
        return [
            self.qkv(site, step),
            rope(self, site, step),
            core(
                site,
                step,
                pairs=pairs,
                heads=h,
                kv_heads=k,
                key_dim=d,
                value_dim=dv,
                keys=cached + step.new_tokens,
                kv_read_bytes=step.batch * cached * self._read_token_bytes(step),
                input_elements=n * (h * d + k * (d + dv)),
                output_elements=n * h * dv,
                sinks=self.sinks,
                softcap=self.softcap,
                formula=f"2 B pairs H (d + {self.value_letter})",
                source="arXiv 2305.13245; windows: arXiv 2310.06825",
            ),
            *((self.gate(site, step),) if self.output_gate else ()),
            self.output(site, step),
        ]

    def output(self, site: Site, step: Step) -> Operator:
        """Of all heads' results back to the hidden size."""
        h, dv = self.num_attention_heads, self.value_dim
        return linear(
            "attention.output",
            site,
            step,
            inputs=h * dv,
            outputs=site.hidden_size,
            group="attention",
            bias=self.output_bias,
            summary="Projection of all heads' results back to the hidden size",
            formula=sum_of(f"2 N H {self.value_letter} D", self.output_bias and "N D"),
            source="arXiv 2305.13245",
        )

    def qkv(self, site: Site, step: Step) -> Operator:
        """One matrix for the queries (and gates of the result), the keys and the values.

        Keys that are values are projected once; shared ones not at all.
        """
        h, k, d, dv = (
            self.num_attention_heads,
            self.num_key_value_heads,
            self.head_dim,
            self.value_dim,
        )
        own_keys = not self.shared_kv
        own_values = own_keys and not self.attention_k_eq_v
        rows = [h * (d + dv) if self.output_gate else h * d]
        rows += [k * d] if own_keys else []
        rows += [k * dv] if own_values else []
        if dv == d:
            counted = heads_of(1 + self.output_gate, own_keys + own_values, "d")
        else:
            counted = heads_of(1, int(own_keys), "d")
            if self.output_gate or own_values:
                counted = f"({counted} + {heads_of(int(self.output_gate), int(own_values), 'dv')})"
        gates = ", and gates of the result" if self.output_gate else ""
        if own_values:
            what = f"Queries, keys and values of the new tokens{gates}, in one projection"
        elif own_keys:
            what = f"Queries and keys of the new tokens{gates}, in one projection; keys are values"
        else:
            what = f"Queries of the new tokens{gates}; keys and values are an earlier layer's"
        return linear(
            "attention.qkv",
            site,
            step,
            inputs=site.hidden_size,
            outputs=sum(rows),
            group="attention",
            bias=self.attention_bias,
            matrix_rows=tuple(rows),
            summary=what,
            formula=sum_of(f"2 N D {counted}", self.attention_bias and f"N {counted}"),
            source="arXiv 2305.13245",
        )

    def gate(self, site: Site, step: Step) -> Operator:
        """The result of every head times the sigmoid of its gate: 4 FLOPs an element."""
        elements = step.tokens * self.num_attention_heads * self.value_dim
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
            formula=f"{SIGMOID + 1} N H {self.value_letter}",
            source="arXiv 2505.06708",
        )


def _cached(one: Attention, other: Attention) -> bool:
    """Whether the caches of two layers hold tokens of equal shapes, and equally many."""
    fields = (
        "num_key_value_heads",
        "head_dim",
        "value_dim",
        "sliding_window",
        "attention_chunk_size",
    )
    return all(getattr(one, field) == getattr(other, field) for field in fields)
