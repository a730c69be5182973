"""A workload: one step of B sequences, and the conventions under which it is counted."""

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
Backend: TypeAlias = Literal["torch", "fused"]

MAX_BATCH = 2**20
MAX_CONTEXT = 2**27
MAX_NEW_TOKENS = 2**24

_CONFIG = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class Workload:
    """One decode or prefill step.

    `context` is S, the tokens already cached per sequence; `new_tokens` is T, per sequence. Their
    defaults are those of a decode step: a prefill states its own.
    `dtype` stores weights and tables, `kv_dtype` the cache; activations, norms and biases stay in
    16 bits (32 with fp32). `mla` defaults to absorbed for decode and expanded for prefill.
    `backend` names the implementation whose kernel launches are counted.
    """

    phase: Phase = "decode"
    batch: Annotated[int, Field(ge=1, le=MAX_BATCH)] = 1  # B
    context: Annotated[int, Field(ge=0, le=MAX_CONTEXT)] = 2048  # S
    new_tokens: Annotated[int, Field(ge=1, le=MAX_NEW_TOKENS)] = 1  # T
    dtype: Dtype = DTYPES["bf16"]
    kv_dtype: Dtype = DTYPES["bf16"]
    routing: SkipValidation[Routing] = Uniform()
    attention_flops: AttentionFlops = "causal"
    logits: Logits = "last"
    mla: Mla | None = None
    backend: Backend = "torch"

    def __post_init__(self) -> None:
        """A decode step adds one token to each sequence."""
        if self.phase == "decode" and self.new_tokens != 1:
            raise InputError(f"new_tokens={self.new_tokens}: is 1 in a decode step")

    @property
    def mla_mode(self) -> Mla:
        """The chosen mode, or the phase's usual one."""
        return self.mla or ("absorbed" if self.phase == "decode" else "expanded")

    def step(
        self,
        *,
        batch: Count | None = None,
        context: Count | None = None,
        new_tokens: Count | None = None,
        routing: Routing | None = None,
    ) -> Step:
        """The step as formulas see it; arrays may take the place of B, S, T and the routing."""
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
            activation_bytes=4 if self.dtype.name == "fp32" else 2,
        )
