"""Set how a model routes, by a synthetic popularity or by its own scores; and count its selections.

Under synthetic routing every leaf that selects experts or rows still computes its scores, so that
the step costs what it costs, and then a random draw replaces what the scores would select.
"""

from itertools import accumulate
from typing import Any

import torch

from reference_model.leaf import Selector
from reference_model.model import ReferenceModel
from reference_model.synthetic_routing import Popularity


def selectors(model: ReferenceModel) -> dict[str, Selector]:
    """The leaves that select experts or rows, by path."""
    return {path: leaf for path, leaf in model.leaves().items() if isinstance(leaf, Selector)}


def set_synthetic_routing(
    model: ReferenceModel,
    popularity: Popularity | None,
    *,
    rows: Popularity | None = None,
    tokens: int,
    seed: int = 0,
    alike: bool = False,
) -> None:
    """Draw the selection of `tokens` tokens in every layer from a popularity.

    Each later step uses the same draw, with its tokens as the first rows. A CUDA graph keeps the
    draw that was set before its capture.

    Args:
        model: Its selectors get a `synthetic_choice`.
        popularity: The law to draw from, in an item order of its own for each layer. None: the
            scores decide again.
        rows: The law of table rows where it differs from that of experts; None: the same.
        tokens: The most tokens that a step may have: batch x new tokens.
        seed: Of the draw.
        alike: Whether layers that select as many of equally many have the same draw.
    """
    generator = torch.Generator(device=model.device).manual_seed(seed)
    drawn_before: dict[tuple[object, ...], torch.Tensor | None] = {}
    for leaf in selectors(model).values():
        key = leaf.kind, leaf.population, leaf.draws, leaf.heads, leaf.populations
        if alike and key in drawn_before:
            leaf.synthetic_choice = drawn_before[key]
            continue
        law = rows if rows is not None and leaf.kind == "rows" else popularity
        if law is None:
            leaf.synthetic_choice = None
        elif leaf.kind == "experts":
            leaf.synthetic_choice = law.expert_logits(tokens, leaf.population, generator=generator)
        elif leaf.populations:
            starts = (0, *accumulate(leaf.populations))
            by_head = [
                law.rows(tokens, rows, leaf.draws, generator=generator) + start
                for rows, start in zip(leaf.populations, starts, strict=False)
            ]
            leaf.synthetic_choice = torch.cat(by_head, dim=1)
        else:
            drawn = law.rows(tokens * leaf.heads, leaf.population, leaf.draws, generator=generator)
            leaf.synthetic_choice = leaf.of_heads(drawn.view(tokens, leaf.heads * leaf.draws))
        drawn_before[key] = leaf.synthetic_choice


def renew_rows(model: ReferenceModel, generator: torch.Generator) -> None:
    """Put other rows in place of those that were drawn, each moved within its own population.

    It changes the draws in place, so that a CUDA graph reads the new ones. Rows that were read a
    moment ago come several times faster from host memory, since their addresses are still
    translated; a decode loop reads others in every step.
    """
    for leaf in selectors(model).values():
        choice = leaf.synthetic_choice
        if leaf.kind != "rows" or choice is None:
            continue
        shift = torch.randint(2**40, (1,), generator=generator, device=choice.device)
        sizes = leaf.populations or (leaf.population,) * (leaf.items // leaf.population)
        if len(sizes) == 1:
            choice.add_(shift).remainder_(leaf.population)
            continue
        size = torch.tensor(sizes).repeat_interleave(choice.shape[1] // len(sizes))
        start = torch.tensor((0, *accumulate(sizes))[:-1]).repeat_interleave(
            choice.shape[1] // len(sizes)
        )
        size, start = (each.to(choice.device, non_blocking=True) for each in (size, start))
        choice.sub_(start).add_(shift).remainder_(size).add_(start)


def histograms(model: ReferenceModel) -> dict[str, dict[str, Any]]:
    """How often each expert or row was selected in the last step, for each selector, by path.

    This is the form that `--routing FILE` reads: `counts` lists pairs [accesses, number of items
    with so many], items without any access among them; `trials` counts tokens, or pairs of a token
    and a head; `draws` items are selected in each trial.
    """
    by_path = {}
    for path, leaf in selectors(model).items():
        if leaf.selected is None:
            continue
        accesses = torch.bincount(leaf.selected.flatten(), minlength=leaf.items)
        values, items = accesses.unique(return_counts=True)
        by_path[path] = {
            "population": leaf.items,
            "trials": leaf.selected.numel() // leaf.draws,
            "draws": leaf.draws,
            "counts": [list(pair) for pair in zip(values.tolist(), items.tolist(), strict=True)],
        }
    return by_path
