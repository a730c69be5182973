"""LAUREL: a low-rank residual beside attention. Leaves: left, right, norm, join.

Shapes: B sequences, T new tokens, D hidden, r its rank.
"""

from math import sqrt

from torch import Tensor, nn

from costmodel.layers.laurel import Laurel
from reference_model.layers import Linear
from reference_model.leaf import Factory, Leaf, rms_norm
from reference_model.registry import runs


class ResidualNorm(Leaf):
    """RMSNorm of the projection, added to what was projected."""

    weight: nn.Parameter

    def __init__(self, factory: Factory) -> None:
        super().__init__()
        self.register("weight", factory.filled(factory.hidden_size, value=1.0), "norm")

    def forward(self, x: Tensor, projected: Tensor) -> Tensor:
        """Both [B, T, D] to [B, T, D]."""
        return x + rms_norm(projected, self.weight)


class MeanJoin(Leaf):
    """Stream, attention's output and the residual, added and divided by sqrt(2)."""

    def forward(self, stream: Tensor, attended: Tensor, residual: Tensor) -> Tensor:
        """All [B, T, D] to the stream [B, T, D]."""
        return (stream + attended + residual) * sqrt(0.5)


@runs(Laurel)
class LaurelLayer(nn.Module):
    """The residual of one block."""

    def __init__(self, factory: Factory, config: Laurel) -> None:
        super().__init__()
        d, rank = factory.hidden_size, config.laurel_rank
        self.left = Linear(factory, d, rank, "residual")
        self.right = Linear(factory, rank, d, "residual")
        self.norm = ResidualNorm(factory)
        self.join = MeanJoin()

    def forward(self, stream: Tensor, x: Tensor, attended: Tensor) -> Tensor:
        """The stream after attention.

        Args:
            stream: Before attention, [B, T, D].
            x: Its norm, which attention read.
            attended: Attention's output.
        """
        residual = self.norm(x, self.right(self.left(x)))
        joined: Tensor = self.join(stream, attended, residual)
        return joined
