"""Do both backends choose the same tokens? Whole models, over several steps, on a given routing.

Each backend decodes over a cache of its own, and both are fed plain PyTorch's tokens, so that every
step compares one choice. Random weights make near ties, which rounding to bf16 decides one way or
the other: where the tokens differ, what is kept is how far PyTorch's first logit leads the second,
in standard deviations of the logits.
"""

from typing import Any

import torch

from benchmarks.whole_step import errors, filled_cache, prepared
from reference_model.decode import DecodeStep
from reference_model.routing import set_synthetic_routing
from reference_model.synthetic_routing import Popularity

MODELS = (
    "olmoe-227m-1.2b", "olmoe-1b-7b", "llama-3.1-8b", "qwen3-30b-a3b", "gpt-oss-20b",
    "mixtral-8x7b", "deepseek-v2-lite", "moe-2.5b-60b", "ultramemv2-227m-1.2b", "ultramemv2-1b-7b",
    "ultramem-227m-1.2b", "memory-plus-227m-1.2b", "memory-plus-1.3b", "pkm-lm-16l", "peer-12l-1m",
)  # fmt: skip
"""Presets that fit one H200 in bf16, of every kind."""
BATCH, CACHED, STEPS = 4, 64, 8
Result = dict[str, Any]


def compared(name: str) -> Result:
    """Steps of both backends: the share of equal tokens, the worst error, leads where they differ.

    The error is that of a token's logits, relative to their norm.
    """
    model = prepared(name)
    set_synthetic_routing(model, Popularity(exponent=0.0), tokens=BATCH, seed=3)
    steps = []
    for backend in ("torch", "fused"):
        draws = torch.Generator(device="cuda").manual_seed(5)
        cache = filled_cache(model, BATCH, draws, CACHED, room=STEPS)
        steps.append(DecodeStep(model, cache, graph=False, backend=backend))
    ids = torch.full((BATCH, 1), 7, device="cuda")
    same, worst, leads = 0, 0.0, list[float]()
    for _ in range(STEPS):
        plain, fused = (step(ids).clone() for step in steps)
        ids = plain.argmax(-1)
        differ = (ids != fused.argmax(-1)).flatten()
        same += BATCH - int(differ.sum())
        worst = max(worst, errors(fused, plain)["worst"])
        logits = plain.float().flatten(0, 1)
        first, second = logits.topk(2).values.unbind(-1)
        leads += ((first - second) / logits.std(-1))[differ].tolist()
    return {
        "tokens": STEPS * BATCH,
        "same": same,
        "worst_error": worst,
        "leads_where_other": leads,
    }
