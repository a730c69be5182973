"""A model run for real: prefill of random tokens, then greedy decode steps, each of them timed.

The smallest proof that a reference model lives. It times one run; it is no profile.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from reference_model.decode import DecodeStep
from reference_model.model import build_model

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """What a run showed; times are wall times of the host, which waits for the device."""

    device: str
    device_name: str
    torch_version: str
    graph: bool
    parameters: int  # a tied or shared tensor once
    cache_held_bytes: int  # by the tokens held at the end
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
    """Run `prefill` on random tokens, then greedy decode steps up to `last`."""
    batch, context, held = last.batch, prefill.new_tokens, last.context + 1
    say(f"building {config.name}")
    model = build_model(config, device=device, dtype=DTYPES[last.dtype.name], seed=SEED).fold()
    cache = model.new_cache(batch, held)
    draw = torch.Generator(device).manual_seed(SEED)
    shape = (batch, context)
    prompt = torch.randint(config.vocab_size, shape, generator=draw, device=device)

    def fill() -> Tensor:
        cache.length = 0
        logits: Tensor = model(prompt, cache)
        return logits.argmax(-1)

    say(f"prefill: {batch:,} x {context:,} tokens")
    model.set_mla(prefill.mla_mode)
    if device == "cuda":
        fill()  # kernels are loaded, and plans made for this shape
    ids, prefill_s = _timed(fill, device)
    say(f"decode: {held - context:,} {'replays of a graph' if graph else 'eager steps'}")
    model.set_mla(last.mla_mode)
    step = DecodeStep(model, cache, graph=graph, greedy=True)
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


def _timed(work: Callable[[], Tensor], device: str) -> tuple[Tensor, float]:
    """What the work returns, and its wall time until the device has done it."""
    _wait(device)
    start = perf_counter()
    out = work()
    _wait(device)
    return out, perf_counter() - start


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"
