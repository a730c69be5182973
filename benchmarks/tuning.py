"""Which way does each dense product best, within whole steps of models: the table of choices.

Alone in a chain a product is timed beside copies of itself, and what is best there is often not
best between attention and experts: kernels overlap, and a step's caches are cold. So products are
tried in their step, one after another, each with the choices so far for the others. A choice
replaces the usual one only if the step's median falls by more than MARGIN.
"""

from dataclasses import asdict
from typing import Any

import torch

from benchmarks import products, whole_step
from benchmarks.timing import Timer
from reference_model.cache import Cache
from reference_model.fused import products as by_size
from reference_model.fused.products import Choice
from reference_model.fused.step import FusedStep
from reference_model.model import ReferenceModel
from reference_model.routing import set_synthetic_routing
from reference_model.synthetic_routing import Popularity

MARGIN = 0.002  # of the step's time
ONE = ((2, 4), (1, 4), (4, 4), (2, 8), (4, 8))  # rows and warps of one token
FEW = ((2, 4), (1, 2))  # of four
FEW_TOKENS = 4
TRIED = 3  # of the split ways: those that are fastest alone
Result = dict[str, Any]


def candidates(size: products.Size, tokens: int, alone: dict[str, float]) -> list[Choice]:
    """The ways that are tried for a product; `alone` are microseconds of ways in a chain."""
    if tokens == 1:
        return [Choice("rows", rows, warps) for rows, warps in ONE]
    ways = list(products.ways(size, tokens))
    chosen = [way for way in ways if way.way in ("cublas", "tiles")]
    if not size.gated and tokens == FEW_TOKENS:
        chosen += [Choice("rows", rows, warps) for rows, warps in FEW]
    ranked = sorted(
        (way for way in ways if way.way == "split"),
        key=lambda way: alone.get(products.name_of(way), 1e9),
    )
    return chosen + ranked[:TRIED]


def step_us(
    timer: Timer,
    model: ReferenceModel,
    cache: Cache,
    ids: torch.Tensor,
) -> float:
    """Median microseconds of the step with the choices as they stand."""
    return timer.step_us(FusedStep(model, cache, ids), replays=7)["median"]


def tuned(timer: Timer, alone: list[Result], models: list[str]) -> Result:
    """Tune these models at each of their batches; entries of the table, and all that was tried.

    All models begin with an empty table; some of them tune only the sizes that the table lacks.
    """
    table = by_size.choices()
    if models == list(whole_step.MODELS):
        table.clear()
    known = set(table)
    timings = {(e["outputs"], e["inputs"], e["gated"], e["tokens"]): e["us"] for e in alone}
    entries: list[Result] = []
    for name in models:
        model = whole_step.prepared(name)
        for tokens in whole_step.MODELS[name]:
            draws = torch.Generator(device="cuda").manual_seed(11)
            cache = whole_step.filled_cache(model, tokens, draws)
            cache.make_static(cache.length)
            ids = torch.zeros(tokens, 1, dtype=torch.int64, device="cuda")
            set_synthetic_routing(model, Popularity(exponent=0.0), tokens=tokens, seed=3)
            best_us = step_us(timer, model, cache, ids)
            for size in products.sizes((name,)):
                key = size.outputs, size.inputs
                if key in known:
                    continue
                spot = table.setdefault(key, {})
                tried: dict[str, float | str] = {"usual": best_us}
                best = None
                times = timings.get((size.outputs, size.inputs, size.gated, tokens), {})
                for choice in candidates(size, tokens, times):
                    spot[tokens] = choice
                    try:
                        us = step_us(timer, model, cache, ids)
                    except Exception as error:  # noqa: BLE001 - that choice's result
                        tried[str(asdict(choice))] = f"{type(error).__name__}: {error}"[:200]
                        continue
                    tried[products.name_of(choice)] = us
                    if us < best_us * (1 - MARGIN):
                        best, best_us = choice, us
                if best is None:
                    spot.pop(tokens)
                    best = by_size.chosen(size.outputs, size.inputs, tokens)
                spot[tokens] = best
                entries.append({
                    "model": name, "outputs": size.outputs, "inputs": size.inputs,
                    "tokens": tokens, "choice": asdict(best), "step_us": tried,
                })  # fmt: skip
            del cache
            torch.cuda.empty_cache()
        del model
        torch.cuda.empty_cache()
    return {"products": entries}
