"""A leaf: the module that runs one operator, and says to which group each parameter belongs.

The path of a leaf in the model (`layers.3.moe.router`) is the path of its operator in the cost
model, and the leaf has the parameters and buffers that the operator states. A test compares both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import torch
from torch import Tensor, nn

from costmodel.layers.formats import Group

NORM_EPS = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Factory:
    """Makes random parameters directly on `device`, in `dtype`, without a copy in host memory."""

    device: torch.device
    dtype: torch.dtype
    hidden_size: int  # D; the standard deviation of linear layers follows from it
    generator: torch.Generator | None = None

    @property
    def linear_std(self) -> float:
        """Standard deviation of a linear layer: sqrt(2 / (5 D)).

        Source: UltraMemV2, arXiv 2508.18756, appendix A.
        """
        return sqrt(2 / (5 * self.hidden_size))

    def normal(self, *shape: int, std: float | None = None) -> nn.Parameter:
        """A parameter drawn from a normal distribution; `std` defaults to that of linear layers."""
        tensor = torch.empty(*shape, device=self.device, dtype=self.dtype)
        if self.device.type != "meta":  # torch would load its compiler to draw nothing
            tensor.normal_(0.0, self.linear_std if std is None else std, generator=self.generator)
        return nn.Parameter(tensor)

    def filled(self, *shape: int, value: float) -> nn.Parameter:
        """A parameter whose elements all have one value: the weight of a norm, a bias."""
        return nn.Parameter(torch.full(shape, value, device=self.device, dtype=self.dtype))

    def uniform(self, *shape: int) -> nn.Parameter:
        """A parameter drawn uniformly from 0 to 1: Tucker cores."""
        tensor = torch.empty(*shape, device=self.device, dtype=self.dtype)
        return nn.Parameter(tensor.uniform_(0.0, 1.0, generator=self.generator))


class Leaf(nn.Module):
    """A module that runs one operator; `groups` names the cost model's group of each parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: dict[str, Group] = {}

    def register(self, name: str, parameter: nn.Parameter, group: Group) -> None:
        """Add a parameter to the module, and note the group in which the cost model counts it."""
        self.register_parameter(name, parameter)
        self.groups[name] = group

    def fold(self) -> None:
        """Compute once what inference would else compute in every step; most leaves have nothing.

        Calling it again changes nothing.
        """


class Selector(Leaf):
    """A leaf that selects experts (a router) or table rows (a memory layer's retrieval).

    For each of N tokens and each of H heads it selects `draws` of a `population`, which all heads
    have in common. Where each head has a population of its own (`population_per_head`), the indices
    of the second head's items follow those of the first, and so on; `populations` states them
    where they differ in size.

    Attributes:
        synthetic_choice: Replaces the selection, never the computation before it: for experts,
            logits [N, E] of which the top k are selected; for rows, their indices [N, H draws].
            May hold more than N tokens. None: the leaf's own scores decide.
        selected: The indices [N, H draws] that the last step selected; None before the first.
    """

    def __init__(
        self,
        kind: Literal["experts", "rows"],
        *,
        population: int,
        draws: int,
        heads: int = 1,
        population_per_head: bool = False,
        populations: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.kind, self.population, self.draws, self.heads = kind, population, draws, heads
        self.population_per_head = population_per_head
        self.populations = populations
        self.synthetic_choice: Tensor | None = None
        self.selected: Tensor | None = None

    @property
    def items(self) -> int:
        """Experts or rows in all: of the population, or of the populations of all heads."""
        if self.populations:
            return sum(self.populations)
        return self.population * (self.heads if self.population_per_head else 1)

    def of_heads(self, choice: Tensor) -> Tensor:
        """Indices [N, H draws] within each head's population to indices of all items, as shaped."""
        if not self.population_per_head:
            return choice
        starts = torch.arange(0, self.items, self.population, device=choice.device)
        by_head: Tensor = choice.unflatten(1, (self.heads, -1)) + starts[:, None]
        return by_head.flatten(1)


@torch.no_grad()
def joined(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Parameters [N_i, ..] as one tensor [sum N_i, ..] that shares their memory.

    One product can then take the weights of several leaves. Parameters that do not lie behind one
    another yet are moved into a new tensor; they stay the same objects.
    """
    first, rows = parameters[0], sum(len(parameter) for parameter in parameters)
    address, neighbours = first.data_ptr(), True
    for parameter in parameters:
        neighbours &= parameter.is_contiguous() and parameter.data_ptr() == address
        neighbours &= parameter.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        address += parameter.nbytes
    if neighbours:
        return first.detach().as_strided((rows, *first.shape[1:]), first.stride())
    whole = torch.cat([parameter.detach() for parameter in parameters])
    for parameter, part in zip(parameters, whole.split([len(p) for p in parameters]), strict=True):
        parameter.data = part
    return whole


def rms_norm(x: Tensor, weight: Tensor | None) -> Tensor:
    """RMSNorm of x [..., D] with a weight [D] or none; squares are averaged in float32."""
    return nn.functional.rms_norm(x, x.shape[-1:], weight, NORM_EPS)
