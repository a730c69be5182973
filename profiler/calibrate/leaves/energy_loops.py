"""Steady loops whose energy a fit divides among time, bytes and FLOPs: a dozen sorts of load.

They are chosen to stay below the power limit: at the limit clocks fall and energy no longer grows
with the work. So the square product is followed by kernels that do nothing, in a longer and a
shorter pause; the fit leaves out what was at the limit all the same. Bytes and FLOPs of a round
follow from its shapes; tensor cores pad few rows to 8. The fit: costmodel/costs/energy_fit.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from costmodel.recordings.energy_loop import EnergyLoop
from costmodel.recordings.measured import Missing, Spread
from profiler.calibrate.graph_timer import capture, warm_up
from profiler.calibrate.operations import normal
from profiler.instruments.energy import measure_energy
from profiler.instruments.nvml import NvmlGpu
from profiler.instruments.spread import rounded
from reference_model.sdpa import attend

BIG = 2**29  # elements of a stream: 1 GiB in bf16
L2_ELEMENTS = (2**20, 2**22, 2**23)  # 2, 8 and 16 MiB, and as much of results
NULL_KERNELS = 512
L2_TIMES = 64
TILE_ROWS = 8  # that tensor cores do at the least
ELEMENT = 2  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One round of a loop, and what it moves and computes."""

    name: str
    round: Callable[[], object]
    bytes_read: int = 0
    bytes_written: int = 0
    l2_bytes: int = 0
    flops: int = 0


def loads(scale: float = 1.0, device: str = "cuda") -> Iterator[Load]:
    """The loads, one after another, so that each frees its memory; `scale` shrinks sizes."""
    big = int(BIG * scale)
    where = torch.device(device)
    tiny = torch.zeros(1, device=where)
    nothing = partial(tiny.add_, 1)
    null = _graph([nothing] * NULL_KERNELS, device)
    yield Load(name=f"{NULL_KERNELS} kernels that do nothing", round=null)
    x = normal(big, device=where)
    yield from _streams(x)
    for elements in L2_ELEMENTS:
        small = normal(int(elements * scale), device=where)
        double = partial(torch.mul, small, 2, out=torch.empty_like(small))
        yield Load(
            name=f"elementwise within L2, {small.nbytes:,} bytes",
            round=_graph([double] * L2_TIMES, device),
            l2_bytes=2 * L2_TIMES * small.nbytes,
        )
    for m in (1, 128):
        yield _skinny(m, int(8192 * scale**0.5) // 64 * 64, where)
    for wide, waits in ((4096, 160), (4096, 480)):
        yield _square(int(wide * scale**0.5) // 64 * 64, [nothing] * waits, where)
    yield _rows(x, where)
    yield _attention(scale, where)


def _streams(x: Tensor) -> Iterator[Load]:
    """A copy of x, its sum, and a fill of as many bytes."""
    y, size = torch.empty_like(x), x.nbytes
    total = torch.empty((), device=x.device, dtype=x.dtype)
    yield Load(name="copy", round=partial(y.copy_, x), bytes_read=size, bytes_written=size)
    yield Load(name="sum", round=partial(torch.sum, x, 0, out=total), bytes_read=size)
    yield Load(name="fill", round=partial(y.fill_, 1.5), bytes_written=size)


def _graph(calls: list[Callable[[], Tensor]], device: str) -> Callable[[], object]:
    if device == "cpu":
        return lambda: [call() for call in calls]
    warm_up(calls[0])
    return capture(calls).replay


def _skinny(m: int, width: int, device: torch.device) -> Load:
    """Products of few rows with four weights in turn, together larger than L2."""
    weights = [normal(width, width, device=device) for _ in range(4)]
    x = normal(m, width, device=device)
    return Load(
        name=f"4 products of {m} rows with weights of {width} x {width}",
        round=lambda: [nn.functional.linear(x, weight) for weight in weights],
        bytes_read=4 * width * width * ELEMENT,
        flops=4 * 2 * -(-m // TILE_ROWS) * TILE_ROWS * width * width,
    )


def _square(width: int, waits: list[Callable[[], Tensor]], device: torch.device) -> Load:
    """A square product, and kernels that do nothing after it."""
    a, b = normal(width, width, device=device), normal(width, width, device=device)
    calls: list[Callable[[], Tensor]] = [partial(torch.mm, a, b, out=torch.empty_like(a))]
    pause = f", then {len(waits)} kernels that do nothing" if waits else ""
    return Load(
        name=f"product of {width} x {width} x {width}{pause}",
        round=_graph(calls + waits, device.type),
        bytes_read=2 * width * width * ELEMENT,
        bytes_written=width * width * ELEMENT,
        flops=2 * width**3,
    )


def _rows(table: Tensor, device: torch.device) -> Load:
    """Weighted sums of random rows of 768 bytes."""
    width, tokens, bag = 384, 4096, 48
    rows = table[: len(table) // width * width].view(-1, width)
    index = torch.randint(len(rows), (tokens, bag), device=device)
    weights = normal(tokens, bag, device=device)
    return Load(
        name=f"sums of {bag} random rows of {width * ELEMENT} bytes, {tokens} times",
        round=lambda: nn.functional.embedding_bag(
            index, rows, per_sample_weights=weights, mode="sum"
        ),
        bytes_read=tokens * bag * width * ELEMENT,
        bytes_written=tokens * width * ELEMENT,
    )


def _attention(scale: float, device: torch.device) -> Load:
    """One token of 48 sequences over 6,000 keys, 24 heads on 6."""
    batch, keys, heads, kv_heads, size = max(1, int(48 * scale)), 6000, 24, 6, 128
    q = normal(batch, 1, heads, size, device=device).transpose(1, 2)
    k, v = (normal(batch, kv_heads, keys, size, device=device) for _ in range(2))
    return Load(
        name=f"decode attention: {batch} x {keys} keys, {heads} heads on {kv_heads}",
        round=lambda: attend(q, k, v, scale=size**-0.5),
        bytes_read=2 * k.nbytes,
        flops=4 * batch * heads * keys * size,
    )


@torch.no_grad()
def measured(load: Load, gpu: NvmlGpu) -> EnergyLoop | Missing:
    """Run a load for seconds; Missing where the GPU has no energy counter.

    Raises:
        NvmlError: The GPU was lost, or its counter went backwards.
    """

    def run(times: int) -> None:
        for _ in range(times):
            load.round()

    energy = measure_energy(gpu, run, torch.cuda.synchronize)
    if isinstance(energy, Missing):
        return energy
    watts = rounded(energy.power_w)
    return EnergyLoop(
        name=load.name,
        bytes_read=load.bytes_read,
        bytes_written=load.bytes_written,
        l2_bytes=load.l2_bytes,
        flops=load.flops,
        round_s=rounded(energy.seconds / energy.steps),
        energy_j=energy.energy_j_per_step,
        power_w=Spread(median=watts, q1=watts, q3=watts, repeats=1, source="nvml"),
        conditions=energy.conditions,
    )
