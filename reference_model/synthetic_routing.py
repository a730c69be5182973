"""Routings that are declared rather than scored: uniform, or Zipf over experts or table rows.

A leaf that chooses keeps its real computation, for its cost, and its choice is then replaced.
Experts: log-popularity plus Gumbel noise stands in for the logits, so that top-k draws k experts
without replacement. Rows: declared row indices stand in for the retrieved ones.
Source: the Gumbel top-k trick, arXiv 1903.06059.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

REDRAWS = 64  # rounds; at exponent 1, 768 of a million rows need about 30
NOISE_ELEMENTS = 2**24  # that are made at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Popularity:
    """Item i, in an order of its own for each layer, has weight (i + 1)^-exponent; 0 is uniform."""

    exponent: float

    def expert_logits(self, tokens: int, experts: int, *, generator: torch.Generator) -> Tensor:
        """Logits [N, E] in float32 whose top-k is a draw of k experts without replacement."""
        device = generator.device
        order = torch.randperm(experts, generator=generator, device=device)
        log_weight = -self.exponent * torch.log(order.float() + 1)
        uniform = torch.rand(tokens, experts, generator=generator, device=device)
        return log_weight - torch.log(-torch.log(uniform.clamp_min(1e-20)))

    def rows(self, tokens: int, rows: int, draws: int, *, generator: torch.Generator) -> Tensor:
        """Row indices [N, draws], different within a token: draws by weight, repeats redrawn.

        Redrawing repeats until the set is full is drawing without replacement; where popularity is
        so steep that new rows come seldom, Gumbel noise on all rows finishes a token. A rank is the
        inverse of the Zipf distribution function, summed in float64; ranks are then scattered over
        the rows by a random permutation.
        """
        device = generator.device
        log_weight = (
            -self.exponent * torch.arange(1, rows + 1, device=device, dtype=torch.float64).log()
        )
        cumulative = log_weight.exp().cumsum(0)
        cumulative /= cumulative[-1].clone()
        scatter = torch.randperm(rows, generator=generator, device=device)
        found = _drawn(cumulative, tokens, draws, generator)
        repeat = _repeats(found)
        for _ in range(REDRAWS):
            if not repeat.any():
                break
            found = torch.where(repeat, _drawn(cumulative, tokens, draws, generator), found)
            repeat = _repeats(found)
        unfinished = repeat.any(1).nonzero()[:, 0]
        for some in unfinished.split(max(1, NOISE_ELEMENTS // rows)):
            noise = torch.rand(
                len(some), rows, generator=generator, device=device, dtype=torch.float64
            )
            keys = log_weight - (-noise.clamp_min_(1e-300).log()).log()
            keys.scatter_(1, found[some], torch.inf)  # what is drawn stays
            found[some] = keys.topk(draws, dim=1).indices
        return scatter[found]


def _drawn(cumulative: Tensor, tokens: int, draws: int, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(
        tokens, draws, generator=generator, device=cumulative.device, dtype=torch.float64
    )
    return torch.searchsorted(cumulative, uniform).clamp_max(cumulative.numel() - 1)


def _repeats(found: Tensor) -> Tensor:
    """Of equal numbers in a row of `found`, all but the first."""
    ordered, place = found.sort(dim=1, stable=True)
    repeat = torch.zeros_like(found, dtype=torch.bool)
    return repeat.scatter_(1, place[:, 1:], ordered[:, 1:] == ordered[:, :-1])
