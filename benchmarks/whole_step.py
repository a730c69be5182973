"""Whole decode steps of models by both backends: times, the reference time, and whether they agree.

A model has random weights and is routed by a uniform draw, as in a profile; its cache is full of
random keys and values. The reference is the step's compulsory bytes, with the distinct experts and
rows that this very step touched, over the run's copy rate, or its FLOPs over the run's rate of a
large product, whichever is longer. Choosing the token from its logits is not included.
"""

from dataclasses import replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.autograd.profiler import record_function
from torch.profiler import ProfilerActivity, profile

from benchmarks.timing import Timer, kernel_durations_us
from costmodel.costs.operators import build_operators
from costmodel.costs.totals import totals
from costmodel.inputs.catalog import load_model
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.base import MemoryKind
from costmodel.validation.recorded_routing import RecordedRouting
from profiler.instruments.kernels import STEP_ANNOTATION, sums_by_path
from reference_model.cache import Cache
from reference_model.decode import DecodeStep
from reference_model.fused.step import FusedStep
from reference_model.model import ReferenceModel, build_model
from reference_model.routing import selectors, set_synthetic_routing
from reference_model.synthetic_routing import Popularity

SHORT = 700  # cached tokens of checks with many sequences
CONTEXT = 2048  # cached tokens; the new one attends to itself too
MODELS: dict[str, tuple[int, ...]] = {
    "olmoe-1b-7b": (1, 4, 16, 64, 256),
    "llama-3.1-8b": (1, 4, 16, 64, 256),
    "qwen3-30b-a3b": (1, 4, 16, 64),
    "gpt-oss-20b": (1, 4, 16, 64),
    "olmoe-227m-1.2b": (1, 64),
    "deepseek-v2-lite": (1, 4, 16, 64),
    "ultramemv2-1b-7b": (1, 4, 16, 64, 256),
    "ultramemv2-227m-1.2b": (1, 4, 16, 64, 256),
    "memory-plus-227m-1.2b": (1, 4, 16, 64, 256),
}
"""The models, and the batches of each."""
ENDS = ("embed", "final_norm", "lm_head", "{final_norm,lm_head}")
FILL = 2**28  # elements drawn at once
Result = dict[str, Any]


def shortened(config: ModelConfig, layers: int = 2) -> ModelConfig:
    """The same layers, fewer of them; an override and memory layers of some stay on the first."""
    overrides = tuple(replace(override, layers="0") for override in config.overrides[:1])
    memory = tuple(_first(one) for one in config.memory)
    return replace(config, num_hidden_layers=layers, overrides=overrides, memory=memory)


def _first(memory: Any) -> MemoryKind:  # noqa: ANN401 - any dataclass of a memory layer
    """The same memory layer on the first layer alone, unless all layers have one."""
    kept: MemoryKind = memory if memory.layers == "all" else replace(memory, layers="0")
    return kept


def filled_cache(
    model: ReferenceModel, batch: int, generator: torch.Generator, context: int = CONTEXT,
    *, room: int = 1,
) -> Cache:  # fmt: skip
    """A cache of random tokens, with room for some more."""
    cache = model.new_cache(batch, context + room)
    for layer in cache.kv_layers:
        for tensor in layer.tensors:
            for piece in tensor.view(-1).split(FILL):
                piece.normal_(generator=generator)
    cache.length = context
    return cache


def prepared(name_or: str | ModelConfig, dtype: torch.dtype = torch.bfloat16) -> ReferenceModel:
    """A model on the GPU with random weights."""
    config = load_model(name_or) if isinstance(name_or, str) else name_or
    return build_model(config, device="cuda", dtype=dtype, seed=11)


def errors(fused: Tensor, plain: Tensor) -> Result:
    """Of the fused step's logits [B, 1, V] against others, token by token."""
    wanted = plain.double().flatten(0, 1)
    by_token = (fused.double().flatten(0, 1) - wanted).norm(dim=-1) / wanted.norm(dim=-1)
    same = fused.argmax(-1) == plain.argmax(-1)
    return {
        "median": by_token.median().item(),
        "worst": by_token.max().item(),
        "same_token": same.double().mean().item(),
    }


def check(name: str, batch: int, generator: torch.Generator) -> Result:
    """Two layers and the head of both backends against float32, on a given routing."""
    config = shortened(load_model(name))
    model = prepared(config)
    exact = prepared(config, torch.float32)
    for parameter, from_ in zip(exact.parameters(), model.parameters(), strict=True):
        parameter.data.copy_(from_)
    context = CONTEXT if batch <= 16 else SHORT  # noqa: PLR2004 - float32 caches are large
    cache = filled_cache(model, batch, generator, context)
    ids = torch.randint(config.vocab_size, (batch, 1), generator=generator, device="cuda")
    for each in (model, exact):
        set_synthetic_routing(each, Popularity(exponent=0.0), tokens=batch, seed=3)
    wide = exact.new_cache(batch, context + 1)
    for layer, from_layer in zip(wide.kv_layers, cache.kv_layers, strict=True):
        for tensor, from_tensor in zip(layer.tensors, from_layer.tensors, strict=True):
            tensor.copy_(from_tensor)
    wide.length = context
    truth = DecodeStep(exact, wide, graph=False)(ids).clone()
    plain = DecodeStep(model, cache, graph=False)(ids).clone()
    step = DecodeStep(model, cache, graph=False, backend="fused")
    fused = step(ids).clone()
    again = step(ids).clone()
    return {
        "fused_to_float32": errors(fused, truth),
        "torch_to_float32": errors(plain, truth),
        "fused_to_torch": errors(fused, plain),
        "same_bits_twice": bool(torch.equal(fused, again)),
        "own_scores": check_own_scores(model, cache, ids),
    }


def check_own_scores(model: ReferenceModel, cache: Cache, ids: Tensor) -> Result:
    """Routing by the kernel's own logits: torch.topk of those must choose the same experts.

    What memory layers choose is checked by `benchmarks.memory_layer`.
    """
    if not any(leaf.kind == "experts" for leaf in selectors(model).values()):
        return {}
    set_synthetic_routing(model, None, tokens=ids.shape[0])
    step = DecodeStep(model, cache, graph=False, backend="fused")
    step(ids)
    assert step.fused is not None
    count = len(step.fused.routings)
    (router, chosen), routing = step.fused.selections[count - 1], step.fused.routings[-1]
    wanted = routing.logits.topk(router.draws, dim=-1).indices
    exact = (wanted.sort(-1).values == chosen.long().sort(-1).values).all(-1)
    return {"tokens": ids.shape[0], "topk_exact": exact.double().mean().item()}


def touched(model: ReferenceModel) -> RecordedRouting:
    """Distinct experts and rows that the last step touched in a layer, means over layers."""
    counts: dict[str, list[int]] = {"experts": [], "rows": []}
    for leaf in selectors(model).values():
        assert leaf.selected is not None
        counts[leaf.kind].append(len(leaf.selected.unique()))
    return RecordedRouting(**{kind: fmean(some) if some else None for kind, some in counts.items()})


def compulsory(config: ModelConfig, batch: int, routing: RecordedRouting) -> tuple[float, float]:
    """Compulsory bytes and model FLOPs of a step that touches so many experts and rows a layer."""
    workload = Workload(batch=batch, context=CONTEXT)
    step = workload.step(routing=routing)
    sums = totals(build_operators(config, step))
    return float(sums.compulsory_bytes), float(sums.flops)


def measure(timer: Timer, model: ReferenceModel, batch: int, generator: torch.Generator) -> Result:
    """Both backends' step as a graph, and their logits against each other over all layers."""
    config = model.config
    cache = filled_cache(model, batch, generator)
    ids = torch.randint(config.vocab_size, (batch, 1), generator=generator, device="cuda")
    set_synthetic_routing(model, Popularity(exponent=0.0), tokens=batch, seed=3)
    plain_step = DecodeStep(model, cache, graph=False)
    plain = plain_step(ids).clone()
    step = DecodeStep(model, cache, graph=False, backend="fused")
    fused = step(ids).clone()
    assert step.fused is not None
    routing = touched(model)
    bytes_, flops = compulsory(config, batch, routing)
    us = timer.step_us(step.fused)
    alone = FusedStep(model, cache, step.ids, branches=False) if step.fused.memories else None
    without = FusedStep(model, cache, step.ids, pdl=False)
    result: Result = {
        "us": us,
        "bytes": bytes_,
        "flops": flops,
        "distinct_experts": routing.experts,
        "distinct_rows": routing.rows,
        "logits_to_torch": errors(fused, plain),
        "without_branches_us": None if alone is None else timer.step_us(alone),
        "without_pdl_us": timer.step_us(without),
        "kernels_without_pdl": kernel_durations_us(without),
        "regions_without_pdl": region_us(without),
    }
    of_layers = [
        region["kernels"]
        for leaf, region in result["regions_without_pdl"].items()
        if leaf not in ENDS
    ]
    result["kernels_a_layer"] = sum(of_layers) / config.num_hidden_layers
    del without
    result["torch_us"] = torch_us(timer, plain_step)
    return result


@torch.no_grad()
def torch_us(timer: Timer, step: DecodeStep) -> Result:
    """The same step by PyTorch's own kernels."""

    def run() -> None:
        step()

    return timer.step_us(run, replays=9)


def region_us(step: FusedStep) -> Result:
    """Kernel microseconds and launches of each kind of region, over all layers of an eager step."""
    with (
        step.within(record_function),
        profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as trace,
    ):
        with record_function(STEP_ANNOTATION):
            step()
        torch.cuda.synchronize()
    events: Any = trace.profiler
    (sums,) = sums_by_path(events.kineto_results.events(), set(step.regions))
    result: Result = {}
    for path, seconds in sums.seconds.items():
        leaf = path.split(".", 2)[2] if path.startswith("layers.") else path
        kind = result.setdefault(leaf, {"us": 0.0, "kernels": 0})
        kind["us"] = round(kind["us"] + seconds * 1e6, 1)
        kind["kernels"] += sums.launches[path]
    return result
