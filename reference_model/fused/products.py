"""Dense products of a step: which kernel does one is read from a table of measurements.

Four ways: `rows`, a block a few rows of the weight without the matrix unit (it can take the norm
before it and the residual add behind it along); `split`, the reduction split among blocks (with the
residual add); `tiles`, the expert kernel with one expert; cuBLAS.
`products_h200.json` holds the microseconds of each on an H200 by size and tokens, as
`python -m benchmarks.fused_decode` measures them. A size that is not in it follows the rule that
most of its sizes follow. Steps of many tokens leave all their products to cuBLAS.
"""

import json
from dataclasses import dataclass
from functools import cache
from math import log2
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from reference_model.fused.plan import Plan
from reference_model.kernels.experts import described, down
from reference_model.kernels.linear import linear
from reference_model.kernels.linear_split import MOST, SplitTile, linear_split
from reference_model.kernels.tiles import dense_tile, many
from reference_model.leaf import NORM_EPS

Way = Literal["rows", "split", "tiles", "cublas"]
TABLE = Path(__file__).parent / "products_h200.json"


class Weighted(Protocol):
    """A leaf with a weight [outputs, inputs], and a `bias` or None where it has the attribute."""

    @property
    def weight(self) -> Tensor:
        """[outputs, inputs]."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How a product is done, and the sizes of its blocks as far as its kernel has them."""

    way: Way
    rows: int = 2
    warps: int = 4
    depth: int = 0
    stages: int = 0
    splits: int = 0

    @property
    def split_tile(self) -> SplitTile:
        """The tile of the way `split`."""
        return SplitTile(self.rows, self.splits, self.depth, self.stages, self.warps)


@cache
def choices() -> dict[tuple[int, int], dict[int, Choice]]:
    """By outputs and inputs: the choice of each number of tokens that was measured."""
    table: dict[tuple[int, int], dict[int, Choice]] = {}
    for entry in json.loads(TABLE.read_text())["products"]:
        by_tokens = table.setdefault((entry["outputs"], entry["inputs"]), {})
        by_tokens[entry["tokens"]] = Choice(**entry["choice"])
    return table


def chosen(outputs: int, inputs: int, tokens: int) -> Choice:
    """How to multiply `tokens` vectors of `inputs` elements by a weight [outputs, inputs].

    Of a measured size, the choice of the nearest measured number of tokens of the same kind: one
    token, as many as a block of `split` holds, more.
    """
    if many(tokens):
        return Choice("cublas")
    by_tokens = choices().get((outputs, inputs), {})
    near = [measured for measured in by_tokens if _kind(measured) == _kind(tokens)]
    if not near:
        return Choice("rows" if tokens == 1 else "cublas")
    return by_tokens[min(near, key=lambda measured: abs(log2(measured / tokens)))]


def _kind(tokens: int) -> tuple[bool, bool]:
    return tokens == 1, tokens <= MOST


def launch_product(
    plan: Plan,
    path: str,
    x: Tensor,
    leaf: Weighted,
    out: Tensor | None,
    *,
    gamma: Tensor | None = None,
    waits: bool = False,
) -> None:
    """Compute out [T, N] = norm(x [T, D]) weight^T + bias; without `out`, add it to the stream.

    The norm is taken where `gamma` is given, which needs the way `rows`. What goes to the stream is
    added by the kernel itself, or waits (`plan.wait`): always where `waits` says so.
    """
    weight, bias = leaf.weight, getattr(leaf, "bias", None)
    outputs, inputs = weight.shape
    tokens = x.shape[0]
    choice = chosen(outputs, inputs, tokens)
    if gamma is not None and choice.way != "rows":
        choice = Choice("rows")
    if waits:
        out = plan.wait()
    if choice.way in ("rows", "split"):
        to, residual = (plan.stream, plan.stream) if out is None else (out, None)
        common = {"bias": bias, "residual": residual, "pdl": plan.pdl}
        if choice.way == "split":
            split = choice.split_tile
            plan.launch(
                path, linear_split, x, described(weight, split), to, split,
                plan.split_buffers(outputs, split, tokens), **common,
            )  # fmt: skip
        else:
            plan.launch(
                path, linear, x, weight, to, gamma=gamma, eps=NORM_EPS, rows=choice.rows,
                warps=choice.warps, **common,
            )  # fmt: skip
        return
    if out is None:
        out = plan.wait()
    if choice.way == "tiles":
        tile = dense_tile(tokens, inputs)
        tiles = described(weight, tile)
        plan.launch(path, down, x, tiles, out, tile, tokens=tokens, bias=bias, pdl=plan.pdl)
    else:
        launch_cublas(plan, path, x, leaf, out)


def launch_cublas(plan: Plan, path: str, x: Tensor, leaf: Weighted, out: Tensor) -> None:
    """Compute out [T, N] = x [T, D] weight^T + bias by PyTorch."""
    weight, bias = leaf.weight, getattr(leaf, "bias", None)
    if bias is None:
        plan.launch(path, torch.mm, x, weight.T, out=out)
    else:
        plan.launch(path, torch.addmm, bias, x, weight.T, out=out)
