"""A leaf: the module that does one operator, its parameters tagged with their group.

The path of a leaf in the model is the path of its operator in the cost model, and its parameters
and buffers are those that the operator states. `backend` names the implementation; other backends
replace the computation of a leaf without changing its path, its parameters or its callers.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Literal

import torch
from torch import Tensor, nn

from costmodel.layers.operator import Group

NORM_EPS = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Factory:
    """Where and how parameters are made: on `device`, in `dtype`, never by way of host memory."""

    device: torch.device
    dtype: torch.dtype
    hidden_size: int  # D, which sets the standard deviation of linear layers
    generator: torch.Generator | None = None

    @property
    def linear_std(self) -> float:
        """Standard deviation of a linear layer: sqrt(2 / (5 D)).

        Source: UltraMemV2, arXiv 2508.18756, appendix A.
        """
        return sqrt(2 / (5 * self.hidden_size))

    def normal(self, *shape: int, std: float | None = None) -> nn.Parameter:
        """A parameter drawn from a normal distribution; `std` defaults to that of linear layers."""
        made = torch.empty(*shape, device=self.device, dtype=self.dtype)
        if self.device.type != "meta":  # torch would load its compiler to draw nothing
            made.normal_(0.0, self.linear_std if std is None else std, generator=self.generator)
        return nn.Parameter(made)

    def filled(self, *shape: int, value: float) -> nn.Parameter:
        """A parameter of one value: norms, biases."""
        return nn.Parameter(torch.full(shape, value, device=self.device, dtype=self.dtype))

    def uniform(self, *shape: int) -> nn.Parameter:
        """A parameter drawn evenly from 0 to 1: Tucker cores."""
        made = torch.empty(*shape, device=self.device, dtype=self.dtype)
        return nn.Parameter(made.uniform_(0.0, 1.0, generator=self.generator))


class Leaf(nn.Module):
    """One operator. `groups` gives the group of each parameter, as the cost model counts them."""

    backend = "torch"

    def __init__(self) -> None:
        super().__init__()
        self.groups: dict[str, Group] = {}

    def own(self, name: str, parameter: nn.Parameter, group: Group) -> None:
        """Register a parameter under its group."""
        self.register_parameter(name, parameter)
        self.groups[name] = group

    def fold(self) -> None:
        """Prepare for inference, once; most leaves have nothing to prepare."""


class Chooser(Leaf):
    """A leaf that chooses: `draws` of `population` experts or table rows for a token and head.

    `declared` replaces the choice, not the computation: logits [N, E] whose top k are the experts,
    or rows [N, H m]. `chosen` holds the indices [N, H draws] of the last step.
    """

    def __init__(
        self, kind: Literal["experts", "rows"], *, population: int, draws: int, heads: int = 1
    ) -> None:
        super().__init__()
        self.kind, self.population, self.draws, self.heads = kind, population, draws, heads
        self.declared: Tensor | None = None
        self.chosen: Tensor | None = None


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """RMSNorm over the last axis; the mean is taken in float32."""
    return nn.functional.rms_norm(x, weight.shape, weight, NORM_EPS)
