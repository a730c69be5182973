"""Rotary position embedding (RoPE): rotate pairs of a head's elements by angles of the position.

Element i of the first half of the rotated part and element i of its second half are a pair. All
models use base 10,000 here, since frequencies do not change what a step costs.
Source: RoFormer, arXiv 2104.09864.
"""

from functools import lru_cache

import torch
from torch import Tensor

BASE = 10_000.0
GROWTH = 0.1  # of queries with the logarithm of their position, arXiv 2501.19399


@lru_cache(maxsize=64)
def _inverse_frequencies(dim: int, device: torch.device) -> Tensor:
    exponents = torch.arange(0, dim - 1, 2, device=device, dtype=torch.float32) / dim
    return 1.0 / BASE**exponents


def angles(positions: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines [T, dim // 2] in float32 for positions [T]; an odd element has no pair."""
    radians = positions.to(torch.float32)[:, None] * _inverse_frequencies(dim, positions.device)
    return radians.cos(), radians.sin()


def growth(positions: Tensor, floor_scale: int) -> Tensor:
    """What multiplies the queries at positions [T], in float32 [T], where nothing is rotated.

    1 + 0.1 log(1 + floor((p + 1) / floor_scale)) for position p. Source: transformers,
    models/llama4/modeling_llama4.py.
    """
    passed = (positions + 1).div(floor_scale, rounding_mode="floor")
    return 1 + GROWTH * torch.log1p(passed.to(torch.float32))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate heads x [B, T, H, d] by `cos` and `sin` [T, r / 2]: their first r elements."""
    half = cos.shape[-1]
    cos, sin = cos[:, None].to(x.dtype), sin[:, None].to(x.dtype)
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], dim=-1)
