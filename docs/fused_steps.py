"""The tables of docs/fused_backend.md: what benchmarks/fused_decode_h200.json holds."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from costmodel.inputs.catalog import load_model
from docs.markdown import markdown

FILE = Path(__file__).parents[1] / "benchmarks" / "fused_decode_h200.json"
BATCHES = (1, 4, 16, 64, 256)
MOST = 0.75  # of the tokens, in the fullest expert of an uneven routing
SHAPES = ("OLMoE-1B-7B", "Qwen3-30B-A3B", "gpt-oss-20b")


@cache
def _run() -> Mapping[str, Any]:
    run: Mapping[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return run


def fused_steps() -> str:
    """Whole decode steps: milliseconds of both backends, the reference time, the ratio."""
    head = (
        "model", "batch", "fused, ms", "torch, ms", "reference, ms", "reference / fused",
        "kernels a layer",
    )  # fmt: skip
    rows = []
    for name, step in _run()["steps"].items():
        model, _, batch = name.partition(", batch ")
        rows.append((
            load_model(model).name, batch, _ms(step["us"]), _ms(step["torch_us"]),
            f"{step['reference_us'] / 1e3:.3f}", f"{step['ratio']:.2f}",
            f"{step['kernels_a_layer']:.0f}",
        ))  # fmt: skip
    return markdown(head, rows)


def fused_regions() -> str:
    """Kernel microseconds of a layer, by leaf and region, with every launch by itself."""
    cases = [("olmoe-1b-7b", 1), ("olmoe-1b-7b", 64), ("llama-3.1-8b", 16), ("llama-3.1-8b", 256)]
    rows = []
    for model, batch in cases:
        step = _run()["steps"][f"{model}, batch {batch}"]
        layers = load_model(model).num_hidden_layers
        of_layer = {
            leaf: part["us"] / layers
            for leaf, part in step["regions_without_pdl"].items()
            if part["kernels"] >= layers
        }
        parts = ", ".join(f"`{leaf}` {us:.1f}" for leaf, us in of_layer.items())
        rows.append(
            (f"{load_model(model).name}, batch {batch}", parts, f"{sum(of_layer.values()):.0f}")
        )
    return markdown(("case", "kernels, us", "sum, us"), rows, text=2)


def fused_experts() -> str:
    """Expert layers: dense time of as many weight bytes over their time, by tokens."""
    layers = _run()["layers"]
    rows = [
        (
            shape,
            *(f"{layers[f'{shape}, {tokens} tokens']['dense_ratio']:.2f}" for tokens in BATCHES),
        )
        for shape in SHAPES
    ]
    return markdown(
        ("experts as in", "1 token", *(f"{tokens} tokens" for tokens in BATCHES[1:])), rows
    )


def fused_transformers() -> str:
    """OLMoE-1B-7B beside transformers' model, in milliseconds, by batch."""
    run = _run()
    others = run["transformers"]
    rows = [
        (
            "this backend",
            *(_ms(run["steps"][f"olmoe-1b-7b, batch {batch}"]["us"]) for batch in BATCHES),
        ),
        ("PyTorch, leaf by leaf", *(
            _ms(run["steps"][f"olmoe-1b-7b, batch {batch}"]["torch_us"]) for batch in BATCHES
        )),
        *(
            (f"transformers {others['transformers']}, {words}", *(
                _ms(others[f"{key}, batch {batch}"]) for batch in BATCHES
            ))
            for key, words in (("graph", "as a graph"), ("compiled", "compiled, as a graph"))
        ),
    ]  # fmt: skip
    return markdown(("decode step, ms", *(f"batch {batch}" for batch in BATCHES)), rows)


def fused_values() -> dict[str, str]:
    """Numbers of the page's sentences."""
    run = _run()
    copies = [reading["copy_bytes_per_s"] / 1e12 for reading in run["ceilings"]]
    checks = [check for name, check in run["checks"].items() if name.startswith("two layers")]
    uneven = [
        layer["ratio"]
        for name, layer in run["layers"].items()
        if "exponent" in name
        and layer["fullest_tokens"] >= MOST * int(name.partition(", ")[2].split()[0])
    ]
    return {
        "fused_copy": f"{max(copies):.2f}",
        "fused_copies": ", ".join(f"{copy:.2f}" for copy in copies),
        "fused_uneven_least": f"{min(uneven):.2f}",
        "fused_checks": str(len(checks)),
        "fused_error": f"{max(check['fused_to_float32']['worst'] for check in checks):.4f}",
        "torch_error": f"{max(check['torch_to_float32']['worst'] for check in checks):.4f}",
    }


def _ms(spread: Mapping[str, float]) -> str:
    return f"{spread['median'] / 1e3:.3f}"


TABLES: dict[str, Callable[[], str]] = {
    "fused_steps": fused_steps,
    "fused_regions": fused_regions,
    "fused_experts": fused_experts,
    "fused_transformers": fused_transformers,
}
