"""The tables of docs/fused_backend.md: what the files benchmarks/*_h200.json hold.

`fused_steps_h200.json` has later runs of `benchmarks.fused_decode`: a case that one of them has is
shown as it measured it, with that run's own ceilings.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from costmodel.inputs.catalog import load_model
from docs.markdown import markdown

FOLDER = Path(__file__).parents[1] / "benchmarks"
BATCHES = (1, 4, 16, 64, 256)
MOST = 0.75  # of the tokens, in the fullest expert of an uneven routing
MEMORY_MODELS = ("ultramemv2-227m-1.2b", "ultramemv2-1b-7b")
MEMORY_TOKENS = (1, 16, 64, 256, 1024)
SHAPES = ("OLMoE-1B-7B", "Qwen3-30B-A3B", "gpt-oss-20b")


@cache
def _read(name: str) -> Mapping[str, Any]:
    run: Mapping[str, Any] = json.loads((FOLDER / f"{name}_h200.json").read_text(encoding="utf-8"))
    return run


def _run() -> Mapping[str, Any]:
    return _read("fused_decode")


@cache
def _steps() -> Mapping[str, Any]:
    """Every whole step by its latest run."""
    steps = dict(_run()["steps"])
    for run in _read("fused_steps")["runs"]:
        steps |= run["steps"]
    return steps


def fused_decode_steps() -> Iterator[tuple[str, int, float, str]]:
    """Model, batch, seconds and file of every whole step, by its latest run."""
    latest = {name for run in _read("fused_steps")["runs"] for name in run["steps"]}
    for name, step in _steps().items():
        model, _, batch = name.partition(", batch ")
        file = "fused_steps" if name in latest else "fused_decode"
        source = f"{FOLDER.name}/{file}_h200.json"
        yield model, int(batch), step["us"]["median"] / 1e6, source


def fused_steps() -> str:
    """Whole decode steps: milliseconds of both backends, the reference time, the ratio."""
    head = (
        "model", "batch", "fused, ms", "torch, ms", "reference, ms", "reference / fused",
        "kernels a layer",
    )  # fmt: skip
    rows = []
    for name, step in _steps().items():
        model, _, batch = name.partition(", batch ")
        rows.append((
            load_model(model).name, batch, _ms(step["us"]), _ms(step["torch_us"]),
            f"{step['reference_us'] / 1e3:.3f}", f"{step['ratio']:.2f}",
            f"{step['kernels_a_layer']:.0f}",
        ))  # fmt: skip
    return markdown(head, rows)


def fused_regions() -> str:
    """Kernel microseconds of a layer, by leaf and region, with every launch by itself."""
    cases = [
        ("olmoe-1b-7b", 1), ("olmoe-1b-7b", 64), ("llama-3.1-8b", 16), ("llama-3.1-8b", 256),
        ("ultramemv2-1b-7b", 4), ("ultramemv2-1b-7b", 64),
    ]  # fmt: skip
    rows = []
    for model, batch in cases:
        step = _steps()[f"{model}, batch {batch}"]
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


def pair_speeds() -> str:
    """OLMoE-1B-7B's time over UltraMemV2-1B/7B's, both fused, at each batch."""
    speeds = [
        _steps()[f"olmoe-1b-7b, batch {batch}"]["us"]["median"]
        / _steps()[f"ultramemv2-1b-7b, batch {batch}"]["us"]["median"]
        for batch in BATCHES
    ]
    return ", ".join(f"{speed:.2f}" for speed in speeds[:-1]) + f" and {speeds[-1]:.2f}"


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
        "pair_fused_speeds": pair_speeds(),
        "fused_copy": f"{max(copies):.2f}",
        "fused_copies": ", ".join(f"{copy:.2f}" for copy in copies),
        "fused_uneven_least": f"{min(uneven):.2f}",
        "fused_checks": str(len(checks)),
        "fused_error": f"{max(check['fused_to_float32']['worst'] for check in checks):.4f}",
        "torch_error": f"{max(check['torch_to_float32']['worst'] for check in checks):.4f}",
    }


def _ms(spread: Mapping[str, float]) -> str:
    return f"{spread['median'] / 1e3:.3f}"


def fused_memory() -> str:
    """One memory layer: microseconds, with random tokens and with tokens that are all alike."""
    cases: dict[str, Any] = {}
    for run in _read("memory_layer")["runs"]:
        cases |= run["cases"]
    rows = []
    for model in MEMORY_MODELS:
        name = load_model(model).name
        for tokens in MEMORY_TOKENS:
            case = cases[f"{name}, {tokens} tokens"]
            alike = cases.get(f"{name}, {tokens} tokens, all alike")
            rows.append((
                name, str(tokens), f"{case['us']['median']:.1f}",
                "-" if alike is None else f"{alike['us']['median']:.1f}",
                f"{case['reference_us']:.1f}",
            ))  # fmt: skip
    head = "layer of", "tokens", "us", "us, all tokens alike", "reference, us"
    return markdown(head, rows)


def fused_latent() -> str:
    """The core of latent attention: microseconds, what joining the slices adds, the reference."""
    run = _read("latent_core")
    copy = max(reading["copy_bytes_per_s"] for reading in run["ceilings"])
    rows = []
    for name, case in run["latent"].items():
        heads, _, batch = name.partition(" heads, batch ")
        split = case["splits"][case["used"]]
        core = split["core_us"]["median"]
        join = (
            split["core_and_values_us"]["median"] - core - case["values_of_one_slice_us"]["median"]
        )
        rows.append(
            (heads, batch, f"{core:.1f}", f"{join:.1f}", f"{case['bytes'] / copy * 1e6:.1f}")
        )
    return markdown(("heads", "batch", "core, us", "join, us", "cache at the copy rate, us"), rows)


def fused_prefill() -> str:
    """Prefills of 8,192 tokens: milliseconds of both backends, share of the product's rate."""
    rows = []
    for name, case in _read("prefill")["steps"].items():
        if "fused" not in case:
            continue
        model, _, prompts = name.partition(", ")
        fused, plain = case["fused"], case["torch"]
        rows.append((
            load_model(model).name, prompts.removesuffix(" tokens"), _ms(fused["us"]),
            _ms(plain["us"]), f"{fused['ratio']:.2f}", f"{plain['ratio']:.2f}",
        ))  # fmt: skip
    head = "model", "prompts x tokens", "fused, ms", "torch, ms", "fused, of the rate", "torch"
    return markdown(head, rows)


def fused_tokens() -> str:
    """Tokens that both backends choose alike, and how near the others were."""
    rows = [
        (
            load_model(name).name, f"{case['same']} of {case['tokens']}",
            f"{max(case['leads_where_other'], default=0):.2f}", f"{case['worst_error']:.3f}",
        )
        for name, case in _read("same_tokens")["tokens"].items()
    ]  # fmt: skip
    head = "model", "same token", "widest lead where other", "worst error of a token's logits"
    return markdown(head, rows)


TABLES: dict[str, Callable[[], str]] = {
    "fused_steps": fused_steps,
    "fused_regions": fused_regions,
    "fused_experts": fused_experts,
    "fused_transformers": fused_transformers,
    "fused_memory": fused_memory,
    "fused_latent": fused_latent,
    "fused_prefill": fused_prefill,
    "fused_tokens": fused_tokens,
}
