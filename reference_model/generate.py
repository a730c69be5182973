"""Run a reference model: a prefill of random tokens, then greedy decode steps, each of them timed.

This shows that a model runs, with the parameters and the cache that were predicted. It times a
single run, which is no measurement: that is `sparsecost profile`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import torch
from torch import Tensor

from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Backend, Workload
from reference_model.cache import Cache
from reference_model.decode import DecodeStep, fused_step
from reference_model.model import ReferenceModel, build_model

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """Results of a run; times are wall times of the host, which waits for the device."""

    device: str
    device_name: str
    torch_version: str
    graph: bool
    parameters: int  # a tied or shared tensor once
    cache_held_bytes: int  # of the tokens held at the end
    cache_allocated_bytes: int
    prefill_s: float
    step_s: tuple[float, ...]
    tokens: tuple[int, ...]  # of the first sequence: one of the prefill, one of each step


@torch.no_grad()
def generate(
    config: ModelConfig,
    prefill: Workload,
    last: Workload,
    *,
    device: str,
    graph: bool,
    say: Callable[[str], None],
) -> Generated:
    """Run a prefill of random tokens, then greedy decode steps.

    Args:
        config: The model, built with random weights.
        prefill: The first step; its backend says whose kernels run.
        last: The last decode step: its context says how many steps there are, its backend whose
            kernels run.
        device: `cpu` or `cuda`.
        graph: Whether to decode by replays of a CUDA graph.
        say: Gets a line before each stage.
    """
    batch, context, held = last.batch, prefill.new_tokens, last.context + 1
    say(f"building {config.name}")
    model = build_model(
        config, device=device, dtype=DTYPES[last.formats.default.name], seed=SEED
    ).fold()
    cache = model.new_cache(batch, held)
    draw = torch.Generator(device).manual_seed(SEED)
    shape = (batch, context)
    prompt = torch.randint(config.vocab_size, shape, generator=draw, device=device)

    model.set_mla(prefill.mla_mode)
    run_prefill = _prefill(model, cache, prompt, prefill.backend)
    say(f"prefill: {batch:,} x {context:,} tokens")
    if device == "cuda":
        run_prefill()  # kernels are loaded, and plans made for this shape
    ids, prefill_s = _timed(run_prefill, device)
    del run_prefill  # and the rooms of its kernels
    say(f"decode: {held - context:,} {'replays of a graph' if graph else 'eager steps'}")
    model.set_mla(last.mla_mode)
    step = DecodeStep(model, cache, graph=graph, greedy=True, backend=last.backend)
    step.ids.copy_(ids)  # from here on a step feeds itself
    step_s, tokens = [], [ids[0, 0]]
    for _ in range(held - context):
        logits, seconds = _timed(step, device)
        step_s.append(seconds)
        tokens.append(step.ids[0, 0].clone())
    assert logits.isfinite().all(), "a logit is not a number"
    return Generated(
        device=device,
        device_name=_device_name(device),
        torch_version=torch.__version__,
        graph=graph,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        cache_held_bytes=cache.held_bytes(held),
        cache_allocated_bytes=cache.allocated_bytes(),
        prefill_s=prefill_s,
        step_s=tuple(step_s),
        tokens=tuple(int(token) for token in tokens),
    )


def _prefill(
    model: ReferenceModel, cache: Cache, prompt: Tensor, backend: Backend
) -> Callable[[], Tensor]:
    """What runs a prompt of every sequence, and returns each one's most likely token [B, 1]."""
    step = fused_step(model, cache, prompt) if backend == "fused" else partial(model, prompt, cache)

    def run() -> Tensor:
        cache.length = 0
        logits: Tensor = step()
        return logits.argmax(-1)

    return run


def _timed(work: Callable[[], Tensor], device: str) -> tuple[Tensor, float]:
    """The result of `work`, and its wall time in seconds until the device has finished."""
    _wait(device)
    start = perf_counter()
    result = work()
    _wait(device)
    return result, perf_counter() - start


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"
