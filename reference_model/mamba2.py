"""Mamba-2 in PyTorch: in_proj, conv, recurrence, gated_norm, output.

Shapes: B sequences, T new tokens, H heads of P, G groups, N state size, c tokens of a chunk. The
recurrence is done in float32, or in float64 where the model is. Source: arXiv 2405.21060.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from costmodel.layers.mamba2 import Mamba2
from reference_model.cache import Cache, LayerState, Room
from reference_model.layers import Linear
from reference_model.leaf import Factory, Leaf
from reference_model.recurrent import (
    CausalConv,
    GatedNorm,
    add_outer,
    before,
    chunks,
    keep,
    state_zeros,
    to_float,
)
from reference_model.registry import runs


class Tokens(NamedTuple):
    """What c new tokens bring to the heads, and to the groups of heads."""

    x: Tensor  # [B, H, c, P], times their step sizes
    b: Tensor  # [B, G, c, N]
    read: Tensor  # [B, G, c, N]
    decay: Tensor  # [B, H, c, 1], a logarithm


class StateSpace(Leaf):
    """Step sizes, the recurrence over the state of each head, and the skip."""

    A_log: nn.Parameter
    D: nn.Parameter
    dt_bias: nn.Parameter

    def __init__(self, factory: Factory, config: Mamba2) -> None:
        super().__init__()
        self.config = config
        for name, value in (("A_log", 0.0), ("D", 1.0), ("dt_bias", 0.0)):
            self.register(name, factory.filled(config.mamba_n_heads, value=value), "attention")

    def new_state(self, room: Room) -> Tensor:
        """Zeros [B, H, P, N]."""
        c = self.config
        return state_zeros(room, c.mamba_n_heads, c.mamba_d_head, c.mamba_d_state)

    def forward(self, xbc: Tensor, dt: Tensor, state: Tensor) -> Tensor:
        """Inputs, B and C [B, T, C], step sizes [B, T, H] to [B, T, H P]; overwrites the state."""
        c = self.config
        groups = c.mamba_n_groups * c.mamba_d_state
        x, b, read = to_float(xbc).split([c.inner, groups, groups], dim=-1)
        x = x.unflatten(-1, (-1, c.mamba_d_head)).transpose(1, 2)  # [B, H, T, P]
        b = b.unflatten(-1, (-1, c.mamba_d_state)).transpose(1, 2)  # [B, G, T, N]
        read = read.unflatten(-1, (-1, c.mamba_d_state)).transpose(1, 2)
        size = nn.functional.softplus(to_float(dt + self.dt_bias)).transpose(1, 2)[..., None]
        decay = -to_float(self.A_log).exp()[:, None, None] * size  # [B, H, T, 1], a logarithm
        tokens = Tokens(size * x, b, read, decay)
        if xbc.shape[1] == 1 and not torch.is_grad_enabled():
            y = self._one_token_in_place(tokens, state)
        else:
            y, h = self._computed(tokens, before(state))
            keep(state, h)
        y = y + to_float(self.D)[:, None, None] * x
        joined: Tensor = y.transpose(1, 2).flatten(2).to(xbc.dtype)
        return joined

    def _computed(self, tokens: Tokens, h: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs [B, H, T, P] and new state of the new tokens."""
        c, length = self.config, tokens.x.shape[2]
        if length == 1:
            return self._one_token(tokens, h)
        outs = []
        for part in chunks(length, c.mamba_chunk_size):
            out, h = self._one_chunk(Tokens(*(t[:, :, part] for t in tokens)), h)
            outs.append(out)
        return torch.cat(outs, dim=2), h

    def _of_heads(self, x: Tensor) -> Tensor:
        """[B, G, ..] to [B, H, ..]: the heads of a group share it."""
        return x.repeat_interleave(self.config.mamba_n_heads // x.shape[1], dim=1)

    def _one_token(self, tokens: Tokens, h: Tensor) -> tuple[Tensor, Tensor]:
        """Output [B, H, 1, P] and new state of one token; h is [B, H, P, N]."""
        x, b, read, decay = tokens
        h = h * decay.exp() + x.transpose(2, 3) @ self._of_heads(b)
        return self._of_heads(read) @ h.transpose(2, 3), h

    def _one_token_in_place(self, tokens: Tokens, h: Tensor) -> Tensor:
        """The output of `_one_token`; the state h itself becomes the new one."""
        x, b, read, decay = tokens
        h.mul_(decay.exp())
        add_outer(h, x, self._of_heads(b))
        out: Tensor = self._of_heads(read) @ h.transpose(2, 3)
        return out

    def _one_chunk(self, tokens: Tokens, h: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs [B, H, c, P] and new state of c tokens; h is [B, H, P, N]."""
        x, b, read, decay = tokens
        total = decay.cumsum(dim=2)
        between = (total - total.transpose(2, 3)).tril().exp().tril()  # [B, H, c, c], from j to i
        met = self._of_heads(read @ b.transpose(2, 3)) * between
        out = met @ x + (self._of_heads(read) @ h.transpose(2, 3)) * total.exp()
        last = total[:, :, -1:]
        fresh = (x * (last - total).exp()).transpose(2, 3) @ self._of_heads(b)
        return out, h * last.exp() + fresh


@runs(Mamba2)
class Mamba2Layer(nn.Module):
    """One layer; its output is gated by z, then normalised in each group."""

    def __init__(self, factory: Factory, config: Mamba2) -> None:
        super().__init__()
        self.config = c = config
        width = factory.hidden_size
        self.widths = [c.inner, c.channels, c.mamba_n_heads]
        self.in_proj = Linear(factory, width, sum(self.widths), "attention", bias=c.mamba_proj_bias)
        self.conv = CausalConv(factory, c.channels, c.mamba_d_conv, bias=c.mamba_conv_bias)
        self.recurrence = StateSpace(factory, c)
        weight = c.inner if c.mamba_rms_norm else None
        self.gated_norm = GatedNorm(factory, weight, "silu", gate_first=True)
        self.output = Linear(factory, c.inner, width, "attention", bias=c.mamba_proj_bias)

    def new_cache(self, room: Room) -> LayerState:
        """The convolution's last inputs [B, C, K - 1], and the state [B, H, P, N]."""
        return LayerState(tensors=[self.conv.new_state(room), self.recurrence.new_state(room)])

    def forward(self, x: Tensor, cache: Cache, index: int) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        conv, state = cache.layers[index].states
        z, xbc, dt = self.in_proj(x).split(self.widths, dim=-1)
        mixed = self.recurrence(self.conv(xbc, conv), dt, state)
        group = self.config.inner // self.config.mamba_n_groups
        out: Tensor = self.output(self.gated_norm(mixed, z, group))
        return out
