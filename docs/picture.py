"""The README's picture, from the cost model and the H200 recordings: `python docs/picture.py`."""

import json
import math
from pathlib import Path

from costmodel.costs.predict import step_costs
from costmodel.inputs.catalog import load_model
from costmodel.inputs.workload import Workload

DOCS = Path(__file__).parent
MOE, MEMORY = load_model("olmoe-1b-7b"), load_model("ultramemv2-1b-7b")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 430, 70, 290, 60, 60
LAST, HIGHEST = 9, 7.0  # batch 2^9, ratio 7
CONTEXTS = {512: "#56B4E9", 2048: "#0072B2", 8192: "#009E73"}  # Okabe-Ito
MEASURED = (1, 4, 16, 64, 256)
DRAWN = ("decode", 2048, "uniform")


def ratio(batch: int, context: int | None) -> float:
    """Bytes of the MoE over bytes of the memory model; without KV cache where `context` is None."""
    moe, memory = (
        step_costs(model, Workload(batch=batch, context=context or 0).step()).totals
        for model in (MOE, MEMORY)
    )
    if context is None:
        return float((moe.weight_bytes + moe.row_bytes) / (memory.weight_bytes + memory.row_bytes))
    return float(moe.compulsory_bytes / memory.compulsory_bytes)


def x(power: float) -> float:
    """Pixels of a batch of 2^power."""
    return LEFT + (WIDTH - LEFT - RIGHT) * power / LAST


def y(value: float) -> float:
    """Pixels of a ratio."""
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / HIGHEST


def curves() -> str:
    """A line over batches for each question, named at its right end, the names kept apart."""
    asked: list[tuple[int | None, str, str, str]] = [
        (None, "#CC79A7", "8 4", "weights and rows alone"),
        *((s, c, "", f"with KV cache of {s:,} tokens") for s, c in CONTEXTS.items()),
    ]
    batches = sorted({round(2 ** (step / 6)) for step in range(6 * LAST + 1)})
    found, free = [], 0.0
    for context, colour, dash, label in asked:
        points = [(x(math.log2(b)), y(ratio(b, context))) for b in batches]
        free = max(points[-1][1] + 4, free + 17)
        found.append(
            f'<polyline points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}" fill="none"'
            f' stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dash}"/>'
            f'<text x="{x(LAST) + 8:.0f}" y="{free:.0f}" fill="{colour}">{label}</text>'
        )
    return "".join(found)


def graph_seconds(name: str) -> dict[int, float]:
    """Recorded times of a decode step as a CUDA graph, by batch."""
    path = DOCS.parent / "recordings" / f"h200-{name}.json"
    recorded = json.loads(path.read_text(encoding="utf-8"))
    found = {}
    for case in recorded["cases"]:
        work = case["workload"]
        if case["runs"] and (work["phase"], work["context"], work["routing"]) == DRAWN:
            found[work["batch"]] = case["runs"]["time"]["step"]["graph_s"]["median"]
    return found


def measured() -> str:
    """The ratio of decode times at context 2,048, as points."""
    moe, memory = (graph_seconds(name) for name in ("olmoe-1b-7b", "ultramemv2-1b-7b"))
    found = []
    for batch in MEASURED:
        quotient = moe[batch] / memory[batch]
        place = x(batch.bit_length() - 1), y(quotient)
        found.append(
            f'<circle cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="6" fill="#D55E00"/>'
            f'<text x="{place[0] + 9:.0f}" y="{place[1] + 17:.0f}" fill="#D55E00">'
            f"{quotient:.2f}</text>"
        )
    return "".join(found)


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
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="13" fill="#333">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
        f'<text x="{LEFT - 40}" y="26" font-size="16">A decode step: HBM bytes of OLMoE-1B-7B over'
        " those of UltraMemV2-1B/7B,</text>"
        f'<text x="{LEFT - 40}" y="46" font-size="16">and (<tspan fill="#D55E00">dots</tspan>) the'
        " same ratio of time, measured on an H200 at 2,048 cached tokens</text>"
        f"{grid}{even}{curves()}{measured()}"
        f'<text x="{(LEFT + x(LAST)) / 2:.0f}" y="{HEIGHT - 15}" text-anchor="middle">batch'
        " (bf16, uniform routing; times: PyTorch's own kernels, CUDA graph)</text></svg>\n"
    )


if __name__ == "__main__":
    (DOCS / "picture.svg").write_text(picture(), encoding="utf-8")
