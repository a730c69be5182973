"""Synthetic routing: experts or table rows drawn from a popularity law instead of by scores.

Experts: the log of the popularity plus Gumbel noise replaces the router's logits, and the top k of
such logits are k draws without replacement (the Gumbel top-k trick, arXiv 1903.06059). Rows: row
indices are drawn, since logits of a million rows a token would take too much memory.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

REDRAWS = 64  # rounds; at exponent 1, 768 of a million rows need about 30
NOISE_ELEMENTS = 2**24  # that are made at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Popularity:
    """Zipf's law: item i has weight (i + 1)^-exponent; exponent 0 is uniform.

    Each call draws which expert or row is item 0, 1, ...: layers differ in what is popular.
    """

    exponent: float

    def expert_logits(self, tokens: int, experts: int, *, generator: torch.Generator) -> Tensor:
        """Logits [N, E] in float32 whose top-k is a draw of k experts without replacement."""
        device = generator.device
        order = torch.randperm(experts, generator=generator, device=device)
        log_weight = -self.exponent * torch.log(order.float() + 1)
        uniform = torch.rand(tokens, experts, generator=generator, device=device)
        return log_weight - torch.log(-torch.log(uniform.clamp_min(1e-20)))

    def rows(self, tokens: int, rows: int, draws: int, *, generator: torch.Generator) -> Tensor:
        """Row indices [N, draws] out of `rows`, drawn by weight, all different within a token.

        Each draw inverts the cumulative distribution, which is summed in float64. Draws that repeat
        an earlier one of the same token are redrawn, which is drawing without replacement. Where
        popularity is so steep that a token still has repeats after `REDRAWS` rounds, the Gumbel
        top-k over all rows completes its draws. At the end a random permutation says which row has
        which rank.
        """
        device = generator.device
        log_weight = (
            -self.exponent * torch.arange(1, rows + 1, device=device, dtype=torch.float64).log()
        )
        cumulative = log_weight.exp().cumsum(0)
        cumulative /= cumulative[-1].clone()
        row_of_rank = torch.randperm(rows, generator=generator, device=device)
        ranks = _drawn_ranks(cumulative, tokens, draws, generator)
        repeat = _repeats(ranks)
        for _ in range(REDRAWS):
            if not repeat.any():
                break
            ranks = torch.where(repeat, _drawn_ranks(cumulative, tokens, draws, generator), ranks)
            repeat = _repeats(ranks)
        unfinished = repeat.any(1).nonzero()[:, 0]
        for chunk in unfinished.split(max(1, NOISE_ELEMENTS // rows)):
            noise = torch.rand(
                len(chunk), rows, generator=generator, device=device, dtype=torch.float64
            )
            keys = log_weight - (-noise.clamp_min_(1e-300).log()).log()
            keys.scatter_(1, ranks[chunk], torch.inf)  # what is drawn stays
            ranks[chunk] = keys.topk(draws, dim=1).indices
        return row_of_rank[ranks]


def _drawn_ranks(cumulative: Tensor, tokens: int, draws: int, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(
        tokens, draws, generator=generator, device=cumulative.device, dtype=torch.float64
    )
    return torch.searchsorted(cumulative, uniform).clamp_max(cumulative.numel() - 1)


def _repeats(ranks: Tensor) -> Tensor:
    """True for each of `ranks` [N, draws] that stands further left in the same line."""
    ordered, place = ranks.sort(dim=1, stable=True)
    repeat = torch.zeros_like(ranks, dtype=torch.bool)
    return repeat.scatter_(1, place[:, 1:], ordered[:, 1:] == ordered[:, :-1])
