"""A workload: one step of B sequences, and the conventions under which it is counted.

Text that a user types becomes a workload in `parse.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass as record
from dataclasses import replace
from typing import Annotated, Literal, TypeAlias

from pydantic import ConfigDict, Field, SkipValidation
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError, shown
from costmodel.inputs.model import ModelConfig
from costmodel.layers.dtype import BF16, Dtype, default_kv_dtype
from costmodel.layers.formats import ONE_BF16, Formats, Storage
from costmodel.layers.mesh import ONE_GPU, AskedMesh, Mesh
from costmodel.layers.numbers import Count
from costmodel.layers.operator import Step
from costmodel.layers.placement import IN_HBM, Placement
from costmodel.routing.popularity import Routing, Uniform

Phase: TypeAlias = Literal["decode", "prefill"]
AttentionFlops: TypeAlias = Literal["causal", "full"]
Logits: TypeAlias = Literal["last", "all"]
Mla: TypeAlias = Literal["absorbed", "expanded"]
MlaCache: TypeAlias = Literal["latent", "expanded"]
WindowCache: TypeAlias = Literal["window", "whole"]
Fp32Math: TypeAlias = Literal["fp32", "tf32"]
Backend: TypeAlias = Literal["torch", "fused"]

CHECKPOINT = "checkpoint"  # the formats of the model's own checkpoint
MAX_BATCH = 2**20
MAX_CONTEXT = 2**27
MAX_NEW_TOKENS = 2**24
DEFAULT_CONTEXT: Mapping[Phase, int] = {"decode": 2048, "prefill": 0}
DEFAULT_NEW_TOKENS: Mapping[Phase, int] = {"decode": 1, "prefill": 2048}

_CONFIG = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)


@record(frozen=True, slots=True, kw_only=True)
class OfCheckpoint:
    """The formats of a workload are to be those of each model's checkpoint."""

    required: bool  # else: only where the model's file is a user's and states them
    kv_dtype: (
        Dtype | None
    )  # that of the cache if it was given; None: the checkpoint's, or the usual


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class Workload:
    """One decode or prefill step.

    The defaults of `context` and `new_tokens` are those of a decode step.

    Attributes:
        phase: decode (one new token per sequence) or prefill (a whole prompt).
        batch: B, sequences.
        context: S, tokens already cached per sequence.
        new_tokens: T, new tokens per sequence.
        formats: The storage formats of weights and tables. Activations, norms and biases stay in 16
            bits, or in 32 beside fp32 weights.
        kv_dtype: The storage format of the KV cache.
        of_checkpoint: Given where a model's checkpoint decides the formats: see `of_model`.
        storage: The checkpoint whose formats these are; None: they were given.
        routing: The popularity of experts and table rows.
        attention_flops: causal counts the query-key pairs that exist, full the whole square.
        logits: Computed of the last token of each sequence, or of all new tokens.
        fp32_math: How the matrix units multiply fp32: in full, or rounded to TF32.
        mla: How latent attention runs; None: absorbed in decode, expanded in prefill and wherever
            the cache is expanded.
        mla_cache: What latent attention keeps of a token: its latent and rotary key, or the keys
            and values of all heads.
        window_cache: What a layer with a sliding window keeps: its window, or the whole sequence,
            as engines do that give all layers the same number of tokens. Reads end at the window.
        backend: The implementation whose kernel launches are counted.
        placement: Where tables that are read by rows stand: all in HBM, unless told otherwise.
        mesh: The GPUs, and how model and sequences are divided over them: one, unless told
            otherwise. What of it is to be chosen is chosen for each model and GPU.
    """

    phase: Phase = "decode"
    batch: Annotated[int, Field(ge=1, le=MAX_BATCH)] = 1  # B
    context: Annotated[int, Field(ge=0, le=MAX_CONTEXT)] = DEFAULT_CONTEXT["decode"]  # S
    new_tokens: Annotated[int, Field(ge=1, le=MAX_NEW_TOKENS)] = DEFAULT_NEW_TOKENS["decode"]  # T
    formats: SkipValidation[Formats] = ONE_BF16
    kv_dtype: Dtype = BF16
    of_checkpoint: SkipValidation[OfCheckpoint | None] = None
    storage: SkipValidation[Storage | None] = None
    routing: SkipValidation[Routing] = Uniform()
    attention_flops: AttentionFlops = "causal"
    logits: Logits = "last"
    fp32_math: Fp32Math = "fp32"
    mla: Mla | None = None
    mla_cache: MlaCache = "latent"
    window_cache: WindowCache = "window"
    backend: Backend = "torch"
    placement: SkipValidation[Placement] = IN_HBM
    mesh: SkipValidation[Mesh | AskedMesh] = ONE_GPU

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

    def of_model(self, model: ModelConfig) -> "Workload":
        """The workload with the formats that the model's checkpoint decides, if it is to decide.

        Raises:
            InputError: The checkpoint's formats were asked for, and the model states none.
        """
        asked = self.of_checkpoint
        if asked is None:
            return self
        storage = model.storage
        if storage is None and asked.required:
            raise InputError(
                f"dtype='{CHECKPOINT}': needs a model that states how its checkpoint is stored,"
                f" which {shown(model.name)} does not"
            )
        if storage is None or not (asked.required or storage.by_default):
            return replace(self, of_checkpoint=None)
        cache = asked.kv_dtype or storage.kv_dtype or default_kv_dtype(storage.weights.default)
        return replace(
            self, formats=storage.weights, kv_dtype=cache, of_checkpoint=None, storage=storage
        )

    @property
    def dtype_label(self) -> str:
        """The formats of the weights as a user writes them."""
        asked = self.of_checkpoint
        if self.storage is not None or (asked is not None and asked.required):
            return CHECKPOINT
        return self.formats.label

    @property
    def dtype_described(self) -> str:
        """The formats of the weights in words; of a checkpoint, where it states them."""
        return self.formats.described if self.storage is None else self.storage.origin

    def step(
        self,
        *,
        batch: Count | None = None,
        context: Count | None = None,
        new_tokens: Count | None = None,
        routing: Routing | None = None,
    ) -> Step:
        """The step as formulas take it; arrays, and another routing, may replace the fields."""
        assert self.of_checkpoint is None, "`of_model` comes first"
        b = self.batch if batch is None else batch
        t = self.new_tokens if new_tokens is None else new_tokens
        return Step(
            batch=b,
            new_tokens=t,
            cached=self.context if context is None else context,
            tokens=b * t,
            formats=self.formats,
            kv_dtype=self.kv_dtype,
            routing=self.routing if routing is None else routing,
            attention_flops=self.attention_flops,
            logits=self.logits,
            mla=self.mla_mode,
            mla_cache=self.mla_cache,
            window_cache=self.window_cache,
            placement=self.placement,
            activation_bytes=4 if self.formats.default.name == "fp32" else 2,
        )
