"""Checks and measures the Triton kernels of decode on one GPU; writes one JSON.

    python -m benchmarks.fused_decode OUT.json [PHASE ...] [model=NAME ...]

First every kernel in every size that is measured is compared with float64, in several processes at
once, which also compiles it. Then one process measures: the ceilings (a large copy, an 8192^3 bf16
product) before, amid and after; dense products; whole steps of six models; expert layers, under
even and uneven routing; transformers; the attention core, and that of latents; small kernels; or
the phases named alone. `model=` leaves out the steps and products of other models. A ratio is the
reference time over the measured median; the reference is compulsory bytes over the best copy rate
of the run. A case that fails is kept as its error's text.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks import (
    attention_core,
    latent_core,
    moe_layer,
    products,
    same_tokens,
    small_kernels,
    transformers_olmoe,
    tuning,
    whole_step,
)
from benchmarks.report import Case, Report, Result, generator, tried
from benchmarks.timing import Timer, kernel_durations_us
from reference_model.kernels.attention_split import Split

TOKENS = (1, 4, 16, 64, 256)
ODD_TOKENS = (3, 7, 33, 100)
EXPONENTS = (1.0, 2.0, 3.0)  # of the uneven routings
PROCESSES = 10


def check_layer(shape: moe_layer.Shape, tokens: int, exponent: float | None) -> Result:
    """An expert layer against float64."""
    draws = generator()
    weights = [moe_layer.Weights.random(shape, draws) for _ in range(2)]
    declared = None if exponent is None else moe_layer.popular(tokens, shape, exponent, draws)
    x = torch.randn(tokens, shape.hidden, device="cuda", generator=draws).bfloat16()
    layers = moe_layer.MoeLayers(shape=shape, tokens=tokens, weights=weights, declared=declared)
    return moe_layer.checked(layers, x)


def check_attention(model: attention_core.Heads, tokens: int) -> Result:
    """Every split of the attention core, with full and with odd lengths."""
    core = attention_core.Core(model, tokens, generator(), 1)
    full = torch.full((tokens,), attention_core.CONTEXT, device="cuda")
    most = attention_core.CONTEXT
    odd = torch.randint(1, most, (tokens,), generator=generator(), device="cuda")
    return {
        f"{split.slices} x {split.block}, {split.stages} stages": {
            "full": core.error(split, full),
            "odd": core.error(split, odd),
        }
        for split in attention_core.splits(tokens, model)
    }


def checks() -> dict[str, Callable[[], Result]]:
    """Every check under its name."""
    named: dict[str, Callable[[], Result]] = {}
    for tokens in reversed(TOKENS):
        for model in attention_core.MODELS:
            name = f"attention, {model.name}, {tokens} tokens"
            named[name] = partial(check_attention, model, tokens)
    for shape in moe_layer.SHAPES:
        for tokens in TOKENS + ODD_TOKENS:
            name = f"layer, {shape.name}, {tokens} tokens"
            named[name] = partial(check_layer, shape, tokens, None)
        for tokens in (64, 256):
            name = f"layer, {shape.name}, {tokens} tokens, exponent 2"
            named[name] = partial(check_layer, shape, tokens, 2.0)
    for tokens in TOKENS:
        for name, check in small_kernels.checks(tokens, generator):
            named[f"{name}, {tokens} tokens"] = check
    for name, batches in whole_step.MODELS.items():
        for batch in batches:
            case = f"two layers of {name}, batch {batch}"
            named[case] = partial(whole_step.check, name, batch, generator())
    named |= dict(products.checks(tuple(whole_step.MODELS)))
    return named


def check_share(rank: int, out: Path) -> None:
    """The checks of one process."""
    share = list(checks().items())[rank::PROCESSES]
    out.write_text(json.dumps({name: tried(check) for name, check in share}))


def check_all() -> Result:
    """All checks, in processes that share the card and Triton's cache of compiled kernels."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{rank}.json" for rank in range(PROCESSES)]
        started = [
            subprocess.Popen(  # noqa: S603 - this very script
                [sys.executable, "-m", "benchmarks.fused_decode", "--share", str(rank), str(path)]
            )
            for rank, path in enumerate(paths)
        ]
        codes = [process.wait() for process in started]
        results: Result = {"exit_codes": codes}
        for path in paths:
            if path.exists():
                results |= json.loads(path.read_text())
    return results


def measure_split(timer: Timer, core: attention_core.Core, split: Split) -> Result:
    """Microseconds of one layer's attention with this split."""
    tiles = core.prepared(split)
    step = partial(core.run, split, tiles, pdl=True)
    return timer.step_us(step, per=len(core.caches), replays=9)


def measure_attention(timer: Timer) -> Result:
    """The attention core: every split, the best one's ratio, PyTorch's own where it has one."""
    results: Result = {}
    for model in attention_core.MODELS:
        for tokens in TOKENS:
            layers = attention_core.layers_for(model, tokens)
            core = attention_core.Core(model, tokens, generator(), layers)

            cases = {
                f"{split.slices} x {split.block}, {split.stages} stages": tried(
                    partial(measure_split, timer, core, split)
                )
                for split in attention_core.splits(tokens, model)
            }
            core.lengths.fill_(attention_core.CONTEXT - 1)
            usual = attention_core.splits(tokens, model)[0]
            fewer = tried(partial(measure_split, timer, core, usual))
            good = {name: case for name, case in cases.items() if "median" in case}
            best = min(good, key=lambda name: good[name]["median"]) if good else None
            results[f"{model.name}, {tokens} tokens"] = {
                "bytes": core.layer_bytes,
                "best": best,
                "us": None if best is None else good[best],
                "torch_us": tried(partial(small_kernels.sdpa, timer, core)),
                "splits": cases,
                "usual_split_one_key_fewer_us": fewer,
            }
            del core
            torch.cuda.empty_cache()
    return results


def measure_layer(
    timer: Timer, shape: moe_layer.Shape, weights: list[moe_layer.Weights],
    tokens: int, exponent: float | None,
) -> Result:  # fmt: skip
    """One expert layer: time, ratios, the dense yardstick, and what its kernels last."""
    draws = generator()
    declared = None if exponent is None else moe_layer.popular(tokens, shape, exponent, draws)
    x = torch.randn(tokens, shape.hidden, device="cuda", generator=draws).bfloat16()
    stream = torch.zeros_like(x)
    layers = moe_layer.MoeLayers(shape=shape, tokens=tokens, weights=weights, declared=declared)
    distinct, fullest = layers.distinct(x)
    turns = max(1, 12 // shape.layers)
    us = timer.step_us(lambda: layers.chain(x, stream, turns), per=turns * shape.layers)
    rows = max(1, round(tokens * shape.top_k / distinct))
    whole = round(distinct)
    dense = timer.step_us(
        moe_layer.dense_chain(shape, weights, whole, rows), per=shape.layers / distinct * whole
    )
    layers.pdl = False
    durations = kernel_durations_us(lambda: layers.chain(x, stream, 1))
    return {
        "distinct_experts": distinct,
        "fullest_tokens": fullest,
        "us": us,
        "bytes": distinct * 6 * shape.hidden * shape.width,
        "dense_us": dense,
        "dense_rows": rows,
        "dense_ratio": dense["median"] / us["median"],
        "kernels_without_pdl": durations,
    }


def measure_layers(timer: Timer) -> Result:
    """All shapes and token counts, evenly routed; uneven at 64 and 256 tokens."""
    results: Result = {}
    for shape in moe_layer.SHAPES:
        draws = generator()
        weights = [moe_layer.Weights.random(shape, draws) for _ in range(shape.layers)]
        cases: list[tuple[int, float | None]] = [(tokens, None) for tokens in TOKENS]
        uneven: list[tuple[int, float | None]] = [
            (tokens, exponent) for tokens in (64, 256) for exponent in EXPONENTS
        ]
        for tokens, exponent in cases + uneven:
            note = "" if exponent is None else f", exponent {exponent}"
            results[f"{shape.name}, {tokens} tokens{note}"] = tried(
                partial(measure_layer, timer, shape, weights, tokens, exponent)
            )
        del weights
        torch.cuda.empty_cache()
    return results


def measure_steps(timer: Timer, models: list[str], case: Case) -> None:
    """Whole steps of models by both backends."""
    for name in models:
        model = whole_step.prepared(name)
        for batch in whole_step.MODELS[name]:
            measure = partial(whole_step.measure, timer, model, batch, generator())
            case(f"{name}, batch {batch}", measure)
        del model
        torch.cuda.empty_cache()


def compare_tokens(models: list[str], case: Case) -> None:
    """Whether both backends choose the same tokens."""
    for name in models:
        case(name, partial(same_tokens.compared, name))


def main() -> None:
    """Check, measure, write."""
    if sys.argv[1] == "--share":
        check_share(int(sys.argv[2]), Path(sys.argv[3]))
        return
    report = Report(sys.argv[1:])
    models = report.models or list(whole_step.MODELS)
    report.phase("checks", lambda _: check_all())
    report.read_ceilings(3)
    timer = Timer()
    report.phase("products", lambda _: products.measured(timer, tuple(models)))
    alone = report.data.get("products")
    if "tuning" in report.wanted and isinstance(alone, list):
        report.phase("tuning", lambda _: tuning.tuned(timer, alone, models))
    report.phase("steps", partial(measure_steps, timer, models))
    report.phase("tokens", partial(compare_tokens, report.models or list(same_tokens.MODELS)))
    report.phase("layers", lambda _: measure_layers(timer))
    report.phase("transformers", lambda _: transformers_olmoe.measured(timer))
    report.read_ceilings()
    report.phase("attention", lambda _: measure_attention(timer))
    report.phase("latent", lambda _: latent_core.measured(timer, generator()))
    report.phase("small", lambda _: small_kernels.measured(timer, generator, TOKENS))
    report.end()


if __name__ == "__main__":
    main()
