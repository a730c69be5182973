"""Checks and measures the kernels of prefill on one GPU; writes one JSON.

    python -m benchmarks.prefill OUT.json [PHASE ...] [model=NAME ...]

First every tile of the grouped products is compared with float64 and two layers of each model with
float32, in several processes at once, which also compiles the kernels. Then one process measures:
the ceilings (a large copy, an 8192^3 product in bf16), expert layers and memory layers of 8,192
tokens, and whole prefills of models; or the phases named alone. A ratio is the reference time over
the measured median; the reference is model FLOPs over the best rate of the large product, or
compulsory bytes over that of the copy, whichever is longer. A case that fails is kept as its
error's text.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import memory_layer, prefill_experts, prefill_step
from benchmarks.fused_decode import ONLY, ceilings, generator, tried
from benchmarks.memory_weights import Model, Shape
from benchmarks.timing import Timer, add_ratios, circumstances
from benchmarks.whole_step import prepared

PROCESSES = 8
Result = dict[str, Any]


def check_share(rank: int, out: Path) -> None:
    """The checks of one process."""
    results = {
        f"{shape.name}, exponent {exponent}": tried(
            partial(prefill_experts.check, shape, prefill_experts.TOKENS, exponent, rank, PROCESSES)
        )
        for shape, exponent in prefill_experts.CASES
    }
    cases = [(name, *case) for name in prefill_step.MODELS for case in prefill_step.CHECKED]
    for name, batch, new in cases[rank::PROCESSES]:
        check = partial(prefill_step.check, name, batch, new, generator())
        results[f"two layers of {name}, {batch} x {new} tokens"] = tried(check)
    out.write_text(json.dumps(results))


def check_all() -> Result:
    """All checks, in processes that share the card and Triton's cache of compiled kernels."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{rank}.json" for rank in range(PROCESSES)]
        started = [
            subprocess.Popen(  # noqa: S603 - this very script
                [sys.executable, "-m", "benchmarks.prefill", "--share", str(rank), str(path)]
            )
            for rank, path in enumerate(paths)
        ]
        results: Result = {"exit_codes": [process.wait() for process in started]}
        for path in paths:
            for case, found in (json.loads(path.read_text()) if path.exists() else {}).items():
                results.setdefault(case, {}).update(found)
    return results


def measure_experts(timer: Timer) -> Result:
    """Every expert layer."""
    results: Result = {}
    for shape, exponent in prefill_experts.CASES:
        name = f"{shape.name}, exponent {exponent}"
        results[name] = tried(
            partial(prefill_experts.measured, timer, shape, prefill_experts.TOKENS, exponent)
        )
        say = prefill_experts.summary if "products" in results[name] else str
        print(name, say(results[name]), sep="\n", flush=True)  # noqa: T201 - progress
    return results


def measure_memory(timer: Timer) -> Result:
    """Memory layers, and all that their launches may choose."""
    results: Result = {}
    for preset in memory_layer.MODELS:
        model = Model(Shape.of(preset), generator(), count=4)
        case = partial(
            memory_layer.measured, timer, model, prefill_experts.TOKENS, alike=False, others=True
        )
        results[preset] = found = tried(case)
        told = [found.get("error"), found.get("check"), found.get("us")]
        told += [
            {key: value for key, value in way.items() if value is not None}
            for way in found.get("ways", [])
        ]
        told.append(found.get("kernels_without_pdl"))
        print(preset, *told, sep="\n  ", flush=True)  # noqa: T201 - progress
        del model
        torch.cuda.empty_cache()
    return results


def measure_steps(timer: Timer, models: list[str], product_flops_per_s: float) -> Result:
    """Whole prefills of models by both backends."""
    results: Result = {}
    for name in models:
        model = prepared(name).fold()
        for batch, new in prefill_step.PROMPTS:
            case = f"{name}, {batch} x {new} tokens"
            results[case] = tried(
                partial(prefill_step.measure, timer, model, batch, new, generator())
            )
            told = str(results[case])
            if "torch" in results[case]:
                told = prefill_step.summary(case, results[case], product_flops_per_s)
            print(told, flush=True)  # noqa: T201 - progress
        del model
        torch.cuda.empty_cache()
    return results


def main() -> None:
    """Check, measure, write."""
    if sys.argv[1] == "--share":
        check_share(int(sys.argv[2]), Path(sys.argv[3]))
        return
    out = Path(sys.argv[1])
    wanted = [word for word in sys.argv[2:] if not word.startswith(ONLY)]
    named = [word.removeprefix(ONLY) for word in sys.argv[2:] if word.startswith(ONLY)]
    began = time.monotonic()
    report: Result = {"circumstances": circumstances(), "seconds": {}, "ceilings": []}

    def phase(name: str, call: Callable[[], Any]) -> None:
        if wanted and name not in wanted:
            return
        report[name] = tried(call)
        report["seconds"][name] = round(time.monotonic() - began, 1)
        out.write_text(json.dumps(report, indent=1))
        print(name, report["seconds"][name], "s", flush=True)  # noqa: T201 - progress

    phase("checks", check_all)
    report["ceilings"] += [ceilings() for _ in range(3)]
    timer = Timer()
    phase("experts", lambda: measure_experts(timer))
    phase("memory", lambda: measure_memory(timer))
    rate = max(reading["product_flops_per_s"] for reading in report["ceilings"])
    phase("steps", lambda: measure_steps(timer, named or list(prefill_step.MODELS), rate))
    report["ceilings"].append(ceilings())
    report["circumstances_after"] = circumstances()
    add_ratios(report, report["ceilings"])
    out.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
