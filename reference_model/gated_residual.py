"""Gated residual streams: before each sublayer their gated mean, after it a gain for each stream.

Leaves: at the input residual_expand, in each block attention_residual and ffn_residual in place of
norms, at the end final_residual.
Shapes: B sequences, T new tokens, c streams, D hidden, r rank of the gates. The streams of a token
lie side by side: [B, T, c D].
Source: transformers 5.24, `modeling_qwen4_exp`.
"""

import torch
from torch import Tensor, nn

from costmodel.layers.gated_residual import GatedResidual
from reference_model.leaf import NORM_EPS, Factory, Leaf
from reference_model.residual_streams import joined


class Gather(Leaf):
    """What waits joins the streams; their norm, their gated mean, and the gains of what follows."""

    norm: nn.Parameter
    down: nn.Parameter
    up: nn.Parameter
    gains: nn.Parameter | None

    def __init__(self, factory: Factory, config: GatedResidual, *, sublayer: bool = True) -> None:
        super().__init__()
        c, d, r = config.hc_count, factory.hidden_size, config.hc_lowrank
        self.streams = c
        self.register("norm", factory.filled(c, d, value=1.0), "norm")
        self.register("down", factory.normal(r, c * d), "residual")
        self.register("up", factory.normal(c * d, r), "residual")
        if sublayer:
            self.register("gains", factory.normal(c, c * d), "residual")
        else:
            self.gains = None

    def forward(self, stream: Tensor, *adds: Tensor) -> tuple[Tensor, ...]:
        """Streams [B, T, c D] and what waits to the new streams, the mean [B, T, D], gains.

        The gains [B, T, c] are those of the sublayer that reads the mean; the last site has none.
        """
        stream = joined(stream, *adds)
        split = stream.unflatten(-1, self.norm.shape)
        normed = nn.functional.rms_norm(split, split.shape[-1:], None, NORM_EPS) * self.norm
        flat = normed.flatten(-2)
        low = nn.functional.silu(nn.functional.linear(flat, self.down) / self.streams)
        gates = torch.sigmoid(nn.functional.linear(low, self.up)).view_as(normed)
        mean = (gates * normed).mean(dim=-2)
        if self.gains is None:
            return stream, mean
        strength = nn.functional.linear(flat, self.gains) / self.streams
        return stream, mean, 2 * torch.sigmoid(strength)
