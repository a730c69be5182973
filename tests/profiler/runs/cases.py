"""Tiny cases for the tests of what is measured, and a look at what a step gives."""

from typing import Any

import torch
from torch import Tensor

from costmodel.inputs.model import ModelConfig
from costmodel.layers.operator import Step
from costmodel.recordings.case_workload import CaseWorkload
from profiler.runs.case import PreparedCase
from reference_model.cache import Cache
from reference_model.model import ReferenceModel
from tests.reference_model.tiny import MODELS, made
from tests.steps import make_step

torch.set_num_threads(1)  # tiny tensors lose more to handing work over than they gain

SEED = 5
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
DECODE: dict[str, Any] = {"phase": "decode", "batch": 3, "context": 6, "new_tokens": 1}
PREFILL: dict[str, Any] = {"phase": "prefill", "batch": 2, "context": 0, "new_tokens": 7}


def work(**fields: Any) -> CaseWorkload:  # noqa: ANN401 - any field of a workload
    """A decode step in float32 under uniform routing, unless told otherwise."""
    return CaseWorkload(**({**DECODE, "dtype": "fp32", "routing": "uniform"} | fields))


def model_of(config: ModelConfig | str, dtype: str = "fp32") -> ReferenceModel:
    if isinstance(config, str):
        config = MODELS[config]
    return made(config, dtype=DTYPES[dtype]).fold()


def case_of(config: ModelConfig | str, *, seed: int = SEED, **fields: Any) -> PreparedCase:  # noqa: ANN401
    workload = work(**fields)
    return PreparedCase(model_of(config, workload.dtype), workload, seed)


def step_of(given: CaseWorkload) -> Step:
    """The step as the cost model prices it; attention's whole square, as it is counted."""
    return make_step(
        batch=given.batch,
        new_tokens=given.new_tokens,
        cached=given.context,
        dtype=given.dtype,
        kv_dtype=given.dtype,
        attention_flops="full",
        mla="absorbed" if given.phase == "decode" else "expanded",
    )


def logits_of(case: PreparedCase) -> Tensor:
    """The logits of one more run."""
    seen: list[Tensor] = []
    head = case.model.leaves()["lm_head"]
    handle = head.register_forward_hook(lambda _leaf, _inputs, out: seen.append(out.clone()))
    case.run()
    handle.remove()
    (result,) = seen
    return result


def cached(case: PreparedCase) -> list[Tensor]:
    """The tensors of the cache: keys and values, then states."""
    pairs = [(layer.keys, layer.values) for layer in case.cache.kv_layers]
    kept = [tensor for pair in pairs for tensor in pair if tensor is not None]
    return [*kept, *states_of(case.cache)]


def states_of(cache: Cache) -> list[Tensor]:
    """The tensors of all fixed states: of layers with a recurrence, then of memory layers."""
    return [state for kept in (*cache.layers, *cache.memories.values()) for state in kept.states]
