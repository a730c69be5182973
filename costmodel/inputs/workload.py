"""A workload: one step of B sequences, and the conventions under which it is counted.

Text that a user types becomes a workload in `parse.py`.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import ConfigDict, Field, SkipValidation
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError
from costmodel.layers.dtype import DTYPES, Dtype
from costmodel.layers.numbers import Count
from costmodel.layers.operator import Step
from costmodel.routing.popularity import Routing, Uniform

Phase: TypeAlias = Literal["decode", "prefill"]
AttentionFlops: TypeAlias = Literal["causal", "full"]
Logits: TypeAlias = Literal["last", "all"]
Mla: TypeAlias = Literal["absorbed", "expanded"]
MlaCache: TypeAlias = Literal["latent", "expanded"]
WindowCache: TypeAlias = Literal["window", "whole"]
Backend: TypeAlias = Literal["torch", "fused"]

MAX_BATCH = 2**20
MAX_CONTEXT = 2**27
MAX_NEW_TOKENS = 2**24
DEFAULT_CONTEXT: Mapping[Phase, int] = {"decode": 2048, "prefill": 0}
DEFAULT_NEW_TOKENS: Mapping[Phase, int] = {"decode": 1, "prefill": 2048}

_CONFIG = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class Workload:
    """One decode or prefill step.

    The defaults of `context` and `new_tokens` are those of a decode step.

    Attributes:
        phase: decode (one new token per sequence) or prefill (a whole prompt).
        batch: B, sequences.
        context: S, tokens already cached per sequence.
        new_tokens: T, new tokens per sequence.
        dtype: The storage format of weights and tables. Activations, norms and biases stay in 16
            bits, or in 32 beside fp32 weights.
        kv_dtype: The storage format of the KV cache.
        routing: The popularity of experts and table rows.
        attention_flops: causal counts the query-key pairs that exist, full the whole square.
        logits: Computed of the last token of each sequence, or of all new tokens.
        mla: How latent attention runs; None: absorbed in decode, expanded in prefill and wherever
            the cache is expanded.
        mla_cache: What latent attention keeps of a token: its latent and rotary key, or the keys
            and values of all heads.
        window_cache: What a layer with a sliding window keeps: its window, or the whole sequence,
            as engines do that give all layers the same number of tokens. Reads end at the window.
        backend: The implementation whose kernel launches are counted.
    """

    phase: Phase = "decode"
    batch: Annotated[int, Field(ge=1, le=MAX_BATCH)] = 1  # B
    context: Annotated[int, Field(ge=0, le=MAX_CONTEXT)] = DEFAULT_CONTEXT["decode"]  # S
    new_tokens: Annotated[int, Field(ge=1, le=MAX_NEW_TOKENS)] = DEFAULT_NEW_TOKENS["decode"]  # T
    dtype: Dtype = DTYPES["bf16"]
    kv_dtype: Dtype = DTYPES["bf16"]
    routing: SkipValidation[Routing] = Uniform()
    attention_flops: AttentionFlops = "causal"
    logits: Logits = "last"
    mla: Mla | None = None
    mla_cache: MlaCache = "latent"
    window_cache: WindowCache = "window"
    backend: Backend = "torch"

    def __post_init__(self) -> None:
        """A decode step adds one token to each sequence; an expanded cache holds no latents."""
        if self.phase == "decode" and self.new_tokens != 1:
            raise InputError(f"new_tokens={self.new_tokens}: is 1 in a decode step")
        if self.mla_cache == "expanded":
            if self.mla == "absorbed":
                raise InputError(
                    "mla='absorbed': attends to latents, which mla_cache='expanded' does not keep"
                )
            if self.kv_dtype.rotary_bits:
                raise InputError(
                    f"kv_dtype={self.kv_dtype.label}: is a layout of latents, which"
                    " mla_cache='expanded' does not keep"
                )

    @property
    def mla_mode(self) -> Mla:
        """How latent attention runs: the mode given, or else the default of phase and cache."""
        absorbs = self.phase == "decode" and self.mla_cache == "latent"
        return self.mla or ("absorbed" if absorbs else "expanded")

    @property
    def caches_as_run(self) -> bool:
        """Whether the reference models keep their caches so: of MLA latents, of windows no more."""
        return self.mla_cache == "latent" and self.window_cache == "window"

    def step(
        self,
        *,
        batch: Count | None = None,
        context: Count | None = None,
        new_tokens: Count | None = None,
        routing: Routing | None = None,
    ) -> Step:
        """The step as formulas take it; arrays, and another routing, may replace the fields."""
        b = self.batch if batch is None else batch
        t = self.new_tokens if new_tokens is None else new_tokens
        return Step(
            batch=b,
            new_tokens=t,
            cached=self.context if context is None else context,
            tokens=b * t,
            dtype=self.dtype,
            kv_dtype=self.kv_dtype,
            routing=self.routing if routing is None else routing,
            attention_flops=self.attention_flops,
            logits=self.logits,
            mla=self.mla_mode,
            mla_cache=self.mla_cache,
            window_cache=self.window_cache,
            activation_bytes=4 if self.dtype.name == "fp32" else 2,
        )
