"""Whole prefills of models by both backends: times, what they reach of the GPU, and agreement.

A model has random weights and is routed by a uniform draw, as in a profile. Its prompt of 8,192
tokens begins an empty cache. FLOPs are the model's own, with causal attention.
"""

from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import Timer, kernel_durations_us
from benchmarks.whole_step import (
    ENDS,
    errors,
    prepared,
    region_us,
    shortened,
    touched,
)
from costmodel.costs.operators import build_operators
from costmodel.costs.totals import totals
from costmodel.inputs.catalog import load_model
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.validation.recorded_routing import RecordedRouting
from reference_model.cache import Cache
from reference_model.decode import fused_step
from reference_model.fused.step import FusedStep
from reference_model.fused.support import model_refusal
from reference_model.kernels.oracles import error
from reference_model.model import ReferenceModel
from reference_model.routing import selectors, set_synthetic_routing
from reference_model.synthetic_routing import Popularity

MODELS = (
    "olmoe-1b-7b",
    "llama-3.1-8b",
    "ultramemv2-227m-1.2b",
    "ultramemv2-1b-7b",
    "qwen3-30b-a3b",
)
PROMPTS = ((1, 8192), (4, 2048))
"""Sequences, and tokens of each."""
CHECKED = ((1, 700), (3, 211), (2, 17))
"""The same for checks: experts in order, and short prompts by the kernels of decode steps."""
Result = dict[str, Any]


@torch.no_grad()
def plain(model: ReferenceModel, ids: Tensor) -> tuple[Tensor, Cache]:
    """Logits and cache of PyTorch's own kernels."""
    cache = model.new_cache(*ids.shape)
    logits: Tensor = model(ids, cache)
    return logits, cache


def check(name: str, batch: int, new: int, draws: torch.Generator) -> Result:
    """Two layers and the head of both backends against float32, on a given routing."""
    config = shortened(load_model(name))
    if (reason := model_refusal(config, new=new)) is not None:
        return {"refused": reason}
    model, exact = prepared(config), prepared(config, torch.float32)
    for parameter, from_ in zip(exact.parameters(), model.parameters(), strict=True):
        parameter.data.copy_(from_)
    ids = torch.randint(config.vocab_size, (batch, new), generator=draws, device="cuda")
    for each in (model, exact):
        set_synthetic_routing(each, Popularity(exponent=0.0), tokens=ids.numel(), seed=3)
    truth, true_cache = plain(exact, ids)
    logits, cache = plain(model, ids)
    own_cache = model.new_cache(batch, new)
    step = fused_step(model, own_cache, ids)
    fused = step().clone()
    return {
        "fused_to_float32": errors(fused, truth),
        "torch_to_float32": errors(logits, truth),
        "fused_cache": _cache_errors(own_cache, true_cache),
        "torch_cache": _cache_errors(cache, true_cache),
        "same_bits_twice": bool(torch.equal(fused, step())),
        "own_scores": _own_scores(model, own_cache, ids),
    }


def _cache_errors(cache: Cache, truth: Cache) -> list[float]:
    return [
        error(tensor, wanted)
        for layer, true_layer in zip(cache.kv_layers, truth.kv_layers, strict=True)
        for tensor, wanted in zip(layer.tensors, true_layer.tensors, strict=True)
    ]


def _own_scores(model: ReferenceModel, cache: Cache, ids: Tensor) -> float | None:
    """The share of tokens whose experts are torch.topk of the kernel's own logits."""
    if not any(leaf.kind == "experts" for leaf in selectors(model).values()):
        return None
    set_synthetic_routing(model, None, tokens=ids.numel())
    step = fused_step(model, cache, ids)
    step()
    last = len(step.routings) - 1
    (router, chosen), routing = step.selections[last], step.routings[last]
    wanted = routing.logits.topk(router.draws, dim=-1).indices
    exact = (wanted.sort(-1).values == chosen.long().sort(-1).values).all(-1)
    return exact.double().mean().item()


def flops_and_bytes(
    config: ModelConfig, batch: int, new: int, routing: RecordedRouting
) -> tuple[float, float]:
    """Model FLOPs and compulsory bytes of a prefill that touches so many experts and rows."""
    workload = Workload(phase="prefill", batch=batch, context=0, new_tokens=new)
    step = workload.step(routing=routing)
    sums = totals(build_operators(config, step))
    return float(sums.flops), float(sums.compulsory_bytes)


def measure(
    timer: Timer, model: ReferenceModel, batch: int, new: int, draws: torch.Generator
) -> Result:
    """Both backends' prefill as a graph, and their logits against each other."""
    config = model.config
    ids = torch.randint(config.vocab_size, (batch, new), generator=draws, device="cuda")
    set_synthetic_routing(model, Popularity(exponent=0.0), tokens=ids.numel(), seed=3)
    cache = model.new_cache(batch, new)

    @torch.no_grad()
    def run() -> Tensor:
        cache.length = 0
        logits: Tensor = model(ids, cache)
        return logits

    logits = run().clone()
    flops, bytes_ = flops_and_bytes(config, batch, new, touched(model))
    common = {"flops": flops, "bytes": bytes_}
    result: Result = {"torch": {"us": timer.step_us(run, replays=5), **common}}
    if (reason := model_refusal(config, new=new)) is not None:
        return result | {"refused": reason}
    step = fused_step(model, cache, ids)
    result["logits_to_torch"] = errors(step(), logits)
    result["fused"] = {"us": timer.step_us(step, replays=9), **common}
    if step.memories:
        alone = FusedStep(model, cache, ids, branches=False)
        result["without_branches_us"] = timer.step_us(alone, replays=9)
        del alone
    result["regions"] = region_us(step)
    result["kernels"] = kernel_durations_us(step)
    of_layers = [r["kernels"] for leaf, r in result["regions"].items() if leaf not in ENDS]
    result["kernels_a_layer"] = sum(of_layers) / config.num_hidden_layers
    return result


def summary(name: str, result: Result, product_flops_per_s: float) -> str:
    """The times as lines for a reader."""
    lines = [name]
    for backend in ("torch", "fused"):
        if backend in result:
            us, flops = result[backend]["us"]["median"], result[backend]["flops"]
            ratio = flops / product_flops_per_s / (us * 1e-6)
            lines.append(f"  {backend}: {us / 1e3:8.2f} ms, {ratio:.3f} of the product's rate")
    lines += [
        f"    {region['us']:10.1f} us {region['kernels']:5d} kernels  {leaf}"
        for leaf, region in result.get("regions", {}).items()
    ]
    lines += [str(result[key]) for key in ("logits_to_torch", "refused") if key in result]
    return "\n".join(lines)
