"""What recurrent mixers share: a causal convolution, a norm behind a gate, chunks, float32 states.

Shapes: B sequences, T new tokens, C channels, K taps of the convolution.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from reference_model.cache import Room
from reference_model.leaf import NORM_EPS, Factory, Leaf

Gate = Literal["silu", "sigmoid"]
_GATES: dict[Gate, Callable[[Tensor], Tensor]] = {
    "silu": nn.functional.silu,
    "sigmoid": torch.sigmoid,
}


def state_zeros(room: Room, *shape: int) -> Tensor:
    """Zeros [B, *shape] in float32, or in float64 where the model is."""
    return replace(room, dtype=torch.promote_types(room.dtype, torch.float32)).zeros(*shape)


def to_float(x: Tensor) -> Tensor:
    """The tensor in the format of states."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def before(state: Tensor) -> Tensor:
    """The state before a step; a copy where gradients may need it after the step overwrites it."""
    return state.clone() if torch.is_grad_enabled() else state


def keep(state: Tensor, new: Tensor) -> None:
    """Overwrite the state, at its address; gradients end here."""
    state.copy_(new.detach())


def add_outer(state: Tensor, left: Tensor, right: Tensor) -> None:
    """Add the outer product of two vectors of each head to its state [B, H, a, b], in place.

    Without gradients a decode step works on the state itself, since every copy that L2 cannot hold
    would cross to memory once more. `left` is [B, H, 1, a], `right` [B, H, 1, b].
    """
    heads = state.view(-1, *state.shape[2:])
    torch.baddbmm(heads, left.flatten(0, 1).mT, right.flatten(0, 1), out=heads)


def chunks(length: int, size: int) -> Iterator[slice]:
    """Slices of a prompt: whole chunks, and a shorter one of the rest."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


class CausalConv(Leaf):
    """A convolution of each channel over its last K tokens, and an activation of its output."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, factory: Factory, channels: int, taps: int, *, bias: bool) -> None:
        super().__init__()
        self.register("weight", factory.normal(channels, taps, std=taps**-0.5), "attention")
        if bias:
            self.register("bias", factory.filled(channels, value=0.0), "attention")
        else:
            self.bias = None

    def new_state(self, room: Room) -> Tensor:
        """The last K - 1 inputs, [B, C, K - 1]: zeros before the first token."""
        channels, taps = self.weight.shape
        return room.zeros(channels, taps - 1)

    def convolved(self, x: Tensor, state: Tensor) -> Tensor:
        """[B, T, C] to [B, T, C]; the state gets the last inputs."""
        joined = torch.cat([state, x.transpose(1, 2)], dim=-1)
        keep(state, joined[..., x.shape[1] :])
        weight = self.weight[:, None]
        out = nn.functional.conv1d(joined, weight, self.bias, groups=len(weight))
        return out.transpose(1, 2)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """[B, T, C] to [B, T, C], with a SiLU."""
        return nn.functional.silu(self.convolved(x, state))


class GatedNorm(Leaf):
    """RMSNorm of [..., groups, width] and a gate: of its output, or with `gate_first` its input."""

    weight: nn.Parameter | None

    def __init__(
        self, factory: Factory, weight: int | None, gate: Gate, *, gate_first: bool = False
    ) -> None:
        super().__init__()
        self.gate, self.gate_first = _GATES[gate], gate_first
        if weight is None:
            self.weight = None
        else:
            self.register("weight", factory.filled(weight, value=1.0), "norm")

    def forward(self, x: Tensor, z: Tensor, width: int) -> Tensor:
        """Normalise each `width` elements of x [B, T, X] and gate them by z [B, T, X]."""
        if self.gate_first or self.weight is None:
            x = x * self.gate(z)
        if self.weight is None:
            return x
        groups = x.unflatten(-1, (-1, width))
        scale = self.weight.view(-1, width)  # one for all groups, or one for each
        normed = (nn.functional.rms_norm(groups, (width,), eps=NORM_EPS) * scale).flatten(-2)
        return normed if self.gate_first else normed * self.gate(z)
