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
from functools import partial
from pathlib import Path

import torch

from benchmarks import memory_layer, prefill_experts, prefill_step
from benchmarks.memory_weights import Model, Shape
from benchmarks.report import Case, Report, Result, generator, tried
from benchmarks.timing import Timer
from benchmarks.whole_step import prepared

PROCESSES = 8


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


def measure_experts(timer: Timer, case: Case) -> None:
    """Every expert layer."""
    for shape, exponent in prefill_experts.CASES:
        name = f"{shape.name}, exponent {exponent}"
        measure = partial(prefill_experts.measured, timer, shape, prefill_experts.TOKENS, exponent)
        found = case(name, measure)
        say = prefill_experts.summary if "products" in found else str
        print(name, say(found), sep="\n", flush=True)  # noqa: T201 - progress


def measure_memory(timer: Timer, case: Case) -> None:
    """Memory layers, and all that their launches may choose."""
    for preset in memory_layer.MODELS:
        model = Model(Shape.of(preset), generator(), count=4)
        measure = partial(
            memory_layer.measured, timer, model, prefill_experts.TOKENS, alike=False, others=True
        )
        found = case(preset, measure)
        told = [found.get("error"), found.get("check"), found.get("us")]
        told += [
            {key: value for key, value in way.items() if value is not None}
            for way in found.get("ways", [])
        ]
        told.append(found.get("kernels_without_pdl"))
        print(preset, *told, sep="\n  ", flush=True)  # noqa: T201 - progress
        del model
        torch.cuda.empty_cache()


def measure_steps(timer: Timer, models: list[str], product_flops_per_s: float, case: Case) -> None:
    """Whole prefills of models by both backends."""
    for name in models:
        model = prepared(name).fold()
        for batch, new in prefill_step.PROMPTS:
            label = f"{name}, {batch} x {new} tokens"
            measure = partial(prefill_step.measure, timer, model, batch, new, generator())
            found = case(label, measure)
            told = str(found)
            if "torch" in found:
                told = prefill_step.summary(label, found, product_flops_per_s)
            print(told, flush=True)  # noqa: T201 - progress
        del model
        torch.cuda.empty_cache()


def main() -> None:
    """Check, measure, write."""
    if sys.argv[1] == "--share":
        check_share(int(sys.argv[2]), Path(sys.argv[3]))
        return
    report = Report(sys.argv[1:])
    models = report.models or list(prefill_step.MODELS)
    report.phase("checks", lambda _: check_all())
    report.read_ceilings(3)
    timer = Timer()
    report.phase("experts", partial(measure_experts, timer))
    report.phase("memory", partial(measure_memory, timer))
    rate = max(reading["product_flops_per_s"] for reading in report.data["ceilings"])
    report.phase("steps", partial(measure_steps, timer, models, rate))
    report.end()


if __name__ == "__main__":
    main()
