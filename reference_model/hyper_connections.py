"""Hyper-connections: before each sublayer the streams collapse, after it they are mixed.

Leaves: at the input residual_expand, in each block attention_residual and ffn_residual before the
norms, at the end final_residual.
Shapes: B sequences, T new tokens, c streams, D hidden. The streams of a token lie side by side:
[B, T, c D].
Source: arXiv 2512.24880; transformers 5.24, `modeling_deepseek_v4`.
"""

import torch
from torch import Tensor, nn

from costmodel.layers.hyper_connections import HyperConnections
from reference_model.leaf import NORM_EPS, Factory, Leaf
from reference_model.residual_streams import joined

LEAST = 1e-6  # of weights, and added to sums of rows and columns


class Connect(Leaf):
    """What waits joins the streams; the weights that mix them; their collapse.

    In a single pass what waits ends with the weights [B, T, c] that the site before made; before
    the first site there are none, and it reads the first stream.
    """

    weight: nn.Parameter  # all three where the site makes weights
    bias: nn.Parameter
    scale: nn.Parameter

    def __init__(
        self, factory: Factory, config: HyperConnections, *, sublayer: bool = True
    ) -> None:
        super().__init__()
        c = config.hc_mult
        self.streams, self.rounds, self.sublayer = c, config.hc_sinkhorn_iters, sublayer
        self.single_pass = config.single_pass
        if self.single_pass and not sublayer:
            return
        made = (2 + c) * c if sublayer else c
        self.register("weight", factory.normal(made, c * factory.hidden_size), "residual")
        self.register("bias", factory.filled(made, value=0.0), "residual")
        self.register("scale", factory.filled(3 if sublayer else 1, value=1.0), "residual")

    def forward(self, stream: Tensor, *adds: Tensor) -> tuple[Tensor, ...]:
        """Streams [B, T, c D] and what waits to the new streams, their collapse [B, T, D], weights.

        The weights are those by which the sublayer's output joins: of each stream [B, T, c], and
        of the streams among themselves [B, T, c, c]; in a single pass, also those by which the next
        site collapses. At the end of the model there are none.
        """
        before = adds[-1] if adds and adds[-1].shape[-1] == self.streams else None
        stream = joined(stream, *adds)
        if not self.sublayer and self.single_pass:
            return stream, self._collapsed(stream, before)
        read, *weights = self._weights(stream)
        if self.single_pass:
            return stream, self._collapsed(stream, before), *weights, read
        return stream, self._collapsed(stream, read), *weights

    def _collapsed(self, stream: Tensor, read: Tensor | None) -> Tensor:
        """Streams [B, T, c D] times their weights [B, T, c], added up: [B, T, D]."""
        split = stream.unflatten(-1, (self.streams, -1))
        if read is None:
            read = torch.zeros_like(split[..., 0])
            read[..., 0] = 1
        out: Tensor = (read[..., None] * split).sum(-2)
        return out

    def _weights(self, stream: Tensor) -> tuple[Tensor, ...]:
        """Those to collapse by [B, T, c]; before a sublayer, those by which its output joins."""
        c, dtype = self.streams, stream.dtype
        root = torch.rsqrt(stream.float().square().mean(-1, keepdim=True) + NORM_EPS)
        made = nn.functional.linear(stream, self.weight).float() * root
        scale, bias = self.scale.float(), self.bias.float()
        read = (torch.sigmoid(made[..., :c] * scale[0] + bias[:c]) + LEAST).to(dtype)
        if not self.sublayer:
            return (read,)
        placed = 2 * torch.sigmoid(made[..., c : 2 * c] * scale[1] + bias[c : 2 * c])
        rows = (made[..., 2 * c :] * scale[2] + bias[2 * c :]).unflatten(-1, (c, c))
        return read, placed.to(dtype), self._sinkhorn(rows).to(dtype)

    def _sinkhorn(self, rows: Tensor) -> Tensor:
        """Numbers [..., c, c] to matrices whose rows and columns sum to about 1."""
        mixing = rows.softmax(-1) + LEAST
        mixing = mixing / (mixing.sum(-2, keepdim=True) + LEAST)
        for _ in range(self.rounds - 1):
            mixing = mixing / (mixing.sum(-1, keepdim=True) + LEAST)
            mixing = mixing / (mixing.sum(-2, keepdim=True) + LEAST)
        return mixing
