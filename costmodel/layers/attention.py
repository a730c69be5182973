"""Grouped-query attention: windows and chunks, QK-norm, biases, sinks, gates.

Letters: N = B T tokens, S cached tokens, D hidden, H query heads, K key-value heads, d head size,
dr rotated elements of a head, W window, pairs of a query and a key. Source of the shapes: GQA,
arXiv 2305.13245; windows, Mistral 7B, arXiv 2310.06825; QK-norm, OLMoE, arXiv 2409.02060 (over all
heads) and Qwen3, arXiv 2505.09388 (per head); sinks, the gpt-oss model card, arXiv 2508.10925;
output gates, arXiv 2505.06708; queries that grow with the position, arXiv 2501.19399; chunks, Llama
4 in transformers, models/llama4/modeling_llama4.py (`chunked.py`).
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError
from costmodel.layers.base import Count, MixerKind, Width
from costmodel.layers.chunked import chunk_pairs, chunk_pairs_letter, chunk_read_tokens
from costmodel.layers.kernel_shape import Attend
from costmodel.layers.letters import Letter, sum_of
from costmodel.layers.numbers import Number, larger, smaller
from costmodel.layers.operator import Operator, Part, Step, Weight
from costmodel.layers.primitives import (
    L2_NORM,
    RMS_NORM,
    ROTARY,
    SIGMOID,
    SOFTCAP,
    SOFTMAX,
    linear,
    vector,
)
from costmodel.layers.site import Site
from costmodel.strict import STRICT

QkNorm = Literal["none", "head", "full", "head_unweighted"]
Tokens = Annotated[int, Field(ge=1, le=2**31)]


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


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Attention(MixerKind):
    """Attention of H query heads over K key-value heads (MHA: K = H, MQA: K = 1)."""

    kind: Literal["gqa"] = "gqa"
    num_attention_heads: Count  # H
    num_key_value_heads: Count  # K
    head_dim: Width  # d
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
        """All of them; of a window the last W, unless windows are kept whole.

        Of chunks of C the last C: the slots of a finished chunk are written over one by one.
        """
        most = self.sliding_window or self.attention_chunk_size
        return tokens if most is None or step.window_cache == "whole" else smaller(tokens, most)

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """H, K, d, dr, pairs."""
        del operator
        return (
            Letter("H", self.num_attention_heads, "query heads"),
            Letter("K", self.num_key_value_heads, "key-value heads"),
            Letter("d", self.head_dim, "head size"),
            Letter("dr", self._rotated, "rotated elements of a head"),
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
    def _rotated(self) -> int:
        """Elements of a head that the rotary embedding turns."""
        return self.head_dim if self.rotary_dim is None else self.rotary_dim

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """qkv, rope, core, (gate), output."""
        h, k, d = self.num_attention_heads, self.num_key_value_heads, self.head_dim
        n = step.tokens
        queries, heads = (2 * h, "(2 H + 2 K)") if self.output_gate else (h, "(H + 2 K)")
        kv_bytes = self.kv_token_bytes(step)
        pairs, cached = self._reach(step)
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
                pairs=pairs,
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
        """QK-norm, rotary embedding and the cache write: one pass over queries and keys.

        Leaves out: the factor that queries grow by, one logarithm a token.
        """
        h, k, d = self.num_attention_heads, self.num_key_value_heads, self.head_dim
        n, a = step.tokens, step.activation_bytes
        rotated, normed = self._rotated, self.qk_norm != "none"
        parts: list[Part] = []
        weights: tuple[Weight, ...] = ()
        per_element = L2_NORM if self.qk_norm == "head_unweighted" else RMS_NORM
        if normed:
            if self.qk_norm != "head_unweighted":
                q_width, k_width = (d, d) if self.qk_norm == "head" else (h * d, k * d)
                weights = (vector("q_norm", "norm", q_width), vector("k_norm", "norm", k_width))
            parts.append(
                Part(
                    name="qk_norm",
                    kind="norm",
                    flops=per_element * n * (h + k) * d,
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
        if self.floor_scale is not None:
            parts.append(
                Part(
                    name="query_scale",
                    kind="elementwise",
                    flops=n * h * d,
                    inner_input_bytes=n * h * d * a,
                    inner_output_bytes=n * h * d * a,
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
                normed and f"{per_element} N (H + K) d",
                rotated > 0 and f"{ROTARY} N (H + K) dr",
                self.floor_scale is not None and "N H d",
            ),
            source="RoPE arXiv 2104.09864; QK-norm arXiv 2409.02060, 2505.09388",
        )
