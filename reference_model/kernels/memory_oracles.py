"""What each kernel of a memory layer must compute, in float64 and plain PyTorch.

As with routers, a choice is judged by the kernel's own scores: from given scores it is exact. So
what decides a choice is computed here in float32 and in the kernel's order, each multiply-add with
one rounding; float64 would put scores that are equal in float32 into another order.
"""

import torch
from torch import Tensor

from reference_model.kernels.memory import MemorySizes, MemoryWeights


def best(scores: Tensor, count: int) -> Tensor:
    """Indices of the best scores of the last axis, best first; equal ones in index order.

    NaN counts as plus infinity.
    """
    ordered = torch.where(scores.isnan(), torch.inf, scores)
    return ordered.sort(dim=-1, descending=True, stable=True).indices[..., :count]


def _queries(projected: Tensor, sizes: MemorySizes) -> Tensor:
    """Halves of queries [T, 2, q, Dk]."""
    width = 2 * sizes.queries * sizes.key_dim
    queries: Tensor = projected[:, :width].double().unflatten(-1, (2, sizes.queries, -1))
    return queries


def key_scores(projected: Tensor, sizes: MemorySizes, keys: Tensor) -> Tensor:
    """Scores [T, 2, H, r, n] of both halves of the queries, as they are projected."""
    queries = _queries(projected, sizes).expand(-1, -1, sizes.ranks, -1)
    return torch.einsum("tsrk,shrnk->tshrn", queries, keys.double())


def norm_factors(projected: Tensor, sizes: MemorySizes, eps: float) -> Tensor:
    """What the norm multiplies the halves of the queries by, [T, 2, q]."""
    return torch.rsqrt(_queries(projected, sizes).square().mean(-1) + eps)


def _multiply_add(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The float32 nearest to a b + c, but for rounding in float64 first."""
    return (a.double() * b.double() + c.double()).float()


def merged(scores: Tensor, merge: Tensor | None, factors: Tensor) -> Tensor:
    """One score a key, [T, 2, H, n]: the sum over the ranks [T, 2, H, r, n] by merge [2, H, r].

    The factors [T, 2, q] of the norm are part of it where there are several. A product key has one
    score.
    """
    if merge is None:
        return scores[:, :, :, 0]
    shares = merge[None].expand(scores.shape[0], -1, -1, -1)
    if factors.shape[-1] > 1:
        shares = shares * factors.float()[:, :, None]
    total = torch.zeros_like(scores[:, :, :, 0])
    for rank in range(scores.shape[3]):
        total = _multiply_add(scores[:, :, :, rank], shares[..., rank, None], total)
    return total


def grid(sides: Tensor, cores: Tensor | None) -> Tensor:
    """Scores [T, H, f f] of all points of the grid by the sum of the cores, or sums of two."""
    lines, columns = sides.unbind(1)  # [T, H, r, f] each
    if cores is None:
        return (lines[:, :, 0, :, None] + columns[:, :, 0, None]).flatten(-2)
    ranks = lines.shape[2]
    summed = torch.zeros_like(cores[0], dtype=torch.float32)
    for core in cores:
        summed = summed + core.float()
    total = torch.zeros_like(lines[:, :, 0, :, None] * columns[:, :, 0, None])
    for b in range(ranks):
        left = torch.zeros_like(lines[:, :, 0])
        for a in range(ranks):
            left = _multiply_add(lines[:, :, a], summed[None, :, a, b, None], left)
        total = _multiply_add(left[..., None], columns[:, :, b, None], total)
    return total.flatten(-2)


def chosen_sides(scores: Tensor, places: Tensor, factors: Tensor) -> Tensor:
    """Scores [T, 2, H, r, f] of the keys at `places` [T, 2, H, f], of the normed query."""
    ranks = scores.shape[3]
    index = places.long()[:, :, :, None].expand(-1, -1, -1, ranks, -1)
    return scores.double().gather(-1, index) * factors[:, :, None, :, None]


def by_core(sides: Tensor, cores: Tensor) -> Tensor:
    """Scores [T, H, c, f f] of all points of the grid by core, in float64."""
    lines, columns = sides.double().unbind(1)
    return torch.einsum("thai,chab,thbj->thcij", lines, cores.double(), columns).flatten(-2)


def rows_at(
    points: Tensor, places: Tensor, sizes: MemorySizes, permutation: Tensor | None
) -> Tensor:
    """Virtual rows [T, H m] of points [T, H, m] of the grids of `places` [T, 2, H, f]."""
    lines, columns = places.long().unbind(1)
    i = lines.gather(-1, points // sizes.kept)
    j = columns.gather(-1, points % sizes.kept)
    at = i * sizes.keys + j
    if sizes.own_rows:
        heads = torch.arange(sizes.heads, device=at.device)
        at = at + heads[:, None] * sizes.keys**2
    return (at if permutation is None else permutation[at]).flatten(1)


def weights_at(points: Tensor, scores: Tensor) -> Tensor:
    """Scores [T, H m, c] of points [T, H, m] of the scores by core [T, H, c, f f]."""
    index = points[:, :, None].expand(-1, -1, scores.shape[2], -1)
    return scores.gather(-1, index).transpose(2, 3).flatten(1, 2)


def summed_rows(
    projected: Tensor, sizes: MemorySizes, weights: MemoryWeights, rows: Tensor, scores: Tensor
) -> Tensor:
    """Sum [T, g Dv] of virtual rows [T, H m], weighed by core [T, H m, c] and by pre-values."""
    virtual = rows.long()
    at = (virtual // sizes.expansion + weights.offset) % weights.values.shape[0]
    shares = scores.double()
    if weights.pre_values is not None:
        x = projected[:, 2 * sizes.queries * sizes.key_dim :].double()
        shares = shares * torch.einsum("tmp,tp->tm", weights.pre_values[at].double(), x)[..., None]
    slices = weights.values[at].double().unflatten(-1, (sizes.cores, -1))
    weighed = (slices * shares[..., None]).flatten(-2)  # [T, H m, Dv]
    member = torch.nn.functional.one_hot(virtual % sizes.sums, sizes.sums).double()
    return torch.einsum("tmg,tmv->tgv", member, weighed).flatten(1)
