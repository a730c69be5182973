"""Tensors of kernel tests: random inputs, and outputs filled with what must not stay."""

import torch
from torch import Tensor

EXACT = 2e-6  # relative error of float32 kernels against float64


def normal(generator: torch.Generator, *shape: int, std: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=generator) * std


def poisoned(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """An output that shows every element which no one wrote: NaN, or -1."""
    value = float("nan") if dtype.is_floating_point else -1
    return torch.full(shape, value, dtype=dtype)
