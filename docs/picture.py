"""The README's picture as SVG: an MoE over a memory model, in bytes and in measured time."""

import math
from pathlib import Path

from costmodel.costs.step import step_costs
from costmodel.inputs.workload import Backend, Workload
from docs.pair_measurements import (
    GROUPED_PAIR,
    LARGE,
    USUAL_CONTEXT,
    Lack,
    Pair,
    decode,
    measured_share,
    model_of,
)

FILE = Path(__file__).with_name("picture.svg")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 430, 70, 290, 70, 60
LAST, HIGHEST = 9, 7.0  # batch 2^9, ratio 7
SPARSE = "#CC79A7"  # Okabe-Ito, as all colours here
CONTEXTS = {512: "#56B4E9", 2048: "#0072B2", 8192: "#009E73"}
FEW_HEADS = "#E69F00"
TIMES: dict[tuple[Pair, Backend], tuple[str, str]] = {  # colour, and what the legend says
    (LARGE, "torch"): ("#D55E00", "torch"),
    (LARGE, "fused"): ("#000000", "fused"),
    (GROUPED_PAIR, "fused"): (FEW_HEADS, "fused, 4 KV heads"),
}
MEASURED = (1, 4, 16, 64, 256)
NAME_HEIGHT = 17
TITLE = "A decode step: OLMoE-1B-7B over UltraMemV2-1B/7B, in HBM bytes and in time"
READING = "Above 1x UltraMemV2 needs less. Below 1x it needs more."
CIRCUMSTANCES = (
    "bf16, uniform routing,",
    "multi-head attention in both,",
    "but for 4 KV heads in orange;",
    "time: one H200, 2,048 tokens, a",
    "CUDA graph; torch: PyTorch's",
    "own kernels, leaf by leaf",
)


def byte_ratio(batch: int, context: int | None, pair: Pair = LARGE) -> float:
    """Bytes of the MoE over bytes of the memory model; without KV cache where `context` is None."""
    moe, memory = (
        step_costs(model_of(name), Workload(batch=batch, context=context or 0).step()).totals
        for name in (pair.moe, pair.memory)
    )
    if context is None:
        return float((moe.weight_bytes + moe.row_bytes) / (memory.weight_bytes + memory.row_bytes))
    return float(moe.compulsory_bytes / memory.compulsory_bytes)


def time_ratios(pair: Pair, backend: Backend) -> dict[int, float]:
    """Measured time of the MoE over that of the memory model, by batch, at 2,048 tokens.

    Empty where the backend was not recorded.
    """
    shares = {batch: measured_share(pair, backend, decode(batch), "graph_s") for batch in MEASURED}
    return {batch: share for batch, share in shares.items() if not isinstance(share, Lack)}


def x(power: float) -> float:
    """Pixels of a batch of 2^power."""
    return LEFT + (WIDTH - LEFT - RIGHT) * power / LAST


def y(value: float) -> float:
    """Pixels of a ratio."""
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / HIGHEST


def lines() -> str:
    """A line over batches for each context, named at its right end, the names kept apart."""
    drawn: list[tuple[Pair, int | None, str, str, str]] = [
        (LARGE, None, SPARSE, "8 4", "bytes: weights and table rows alone"),
        (GROUPED_PAIR, USUAL_CONTEXT, FEW_HEADS, "8 4", "bytes: 2,048 tokens, 4 KV heads"),
        *((LARGE, s, c, "", f"bytes: with KV cache of {s:,} tokens") for s, c in CONTEXTS.items()),
    ]
    batches = sorted({round(2 ** (step / 6)) for step in range(6 * LAST + 1)})
    parts, name_y = [], 0.0
    for pair, context, colour, dash, label in drawn:
        points = [(x(math.log2(batch)), y(byte_ratio(batch, context, pair))) for batch in batches]
        name_y = max(points[-1][1] + 4, name_y + NAME_HEIGHT)
        parts.append(
            f'<polyline points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}" fill="none"'
            f' stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dash}"/>'
            f'<text x="{x(LAST) + 8:.0f}" y="{name_y:.0f}" fill="{colour}">{label}</text>'
        )
    for (pair, backend), (colour, words) in TIMES.items():
        if time_ratios(pair, backend):
            name_y += NAME_HEIGHT
            parts.append(
                f'<circle cx="{x(LAST) + 24:.0f}" cy="{name_y - 4:.0f}" r="5" fill="{colour}"/>'
                f'<text x="{x(LAST) + 34:.0f}" y="{name_y:.0f}" fill="{colour}">'
                f"time, measured, {words}</text>"
            )
    return "".join(parts)


def dots() -> str:
    """The ratios of measured times by each backend, each dot with its number."""
    parts = []
    for (pair, backend), (colour, _) in TIMES.items():
        for batch, quotient in time_ratios(pair, backend).items():
            place = x(batch.bit_length() - 1), y(quotient)
            below = (
                17 if backend == "torch" else -8 if pair == LARGE else -23
            )  # apart from the others
            parts.append(
                f'<circle cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="6" fill="{colour}"/>'
                f'<text x="{place[0] + 9:.0f}" y="{place[1] + below:.0f}" fill="{colour}">'
                f"{quotient:.2f}</text>"
            )
    return "".join(parts)


def picture() -> str:
    """The whole SVG."""
    grid = "".join(
        f'<line x1="{LEFT}" x2="{x(LAST):.0f}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="#ddd"/>'
        f'<text x="{LEFT - 10}" y="{y(v) + 4:.0f}" text-anchor="end">{v}x</text>'
        for v in range(int(HIGHEST) + 1)
    ) + "".join(
        f'<text x="{x(p):.0f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{2**p}</text>'
        for p in range(LAST + 1)
    )
    even = f'<line x1="{LEFT}" x2="{x(LAST):.0f}" y1="{y(1):.1f}" y2="{y(1):.1f}" stroke="#333"/>'
    circumstances = "".join(
        f'<text x="{x(LAST) + 8:.0f}" y="{y(HIGHEST) + 4 + NAME_HEIGHT * i:.0f}">{line}</text>'
        for i, line in enumerate(CIRCUMSTANCES)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="13" fill="#333">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
        f'<text x="{LEFT - 40}" y="26" font-size="16">{TITLE}</text>'
        f'<text x="{LEFT - 40}" y="47">{READING}</text>'
        f"{grid}{even}{lines()}{dots()}{circumstances}"
        f'<text x="{(LEFT + x(LAST)) / 2:.0f}" y="{HEIGHT - 18}" text-anchor="middle">'
        "batch, in sequences</text></svg>\n"
    )
