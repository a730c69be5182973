"""Which experts and rows a model chooses, by popularity or by its scores; and what it chose.

`declare` before a step, graphs included when it comes before their capture, lets every layer choose
by a popularity; the scores are still computed, for their cost. `histograms` counts a step's choices
in the form that `--routing FILE` reads.
"""

from typing import Any

import torch

from reference_model.leaf import Chooser
from reference_model.model import ReferenceModel
from reference_model.synthetic_routing import Popularity


def choosers(model: ReferenceModel) -> dict[str, Chooser]:
    """The leaves that choose, by path."""
    return {path: leaf for path, leaf in model.leaves().items() if isinstance(leaf, Chooser)}


def declare(
    model: ReferenceModel, popularity: Popularity | None, *, tokens: int, seed: int = 0
) -> None:
    """Let `tokens` tokens choose by `popularity` in every layer; None: by the scores again."""
    generator = torch.Generator(device=model.device).manual_seed(seed)
    for leaf in choosers(model).values():
        if popularity is None:
            leaf.declared = None
        elif leaf.kind == "experts":
            leaf.declared = popularity.expert_logits(tokens, leaf.population, generator=generator)
        else:
            rows = popularity.rows(
                tokens * leaf.heads, leaf.population, leaf.draws, generator=generator
            )
            leaf.declared = rows.view(tokens, leaf.heads * leaf.draws)


def histograms(model: ReferenceModel) -> dict[str, dict[str, Any]]:
    """For each choosing leaf, how often the last step chose its experts or rows.

    `counts` lists [accesses, experts or rows with as many], those never chosen among them; `trials`
    counts tokens, or pairs of a token and a head.
    """
    found = {}
    for path, leaf in choosers(model).items():
        if leaf.chosen is None:
            continue
        accesses = torch.bincount(leaf.chosen.flatten(), minlength=leaf.population)
        values, items = accesses.unique(return_counts=True)
        found[path] = {
            "population": leaf.population,
            "trials": leaf.chosen.numel() // leaf.draws,
            "draws": leaf.draws,
            "counts": [list(pair) for pair in zip(values.tolist(), items.tolist(), strict=True)],
        }
    return found
