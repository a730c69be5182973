"""The dense feed-forward layer: gate_up (two projections in one, with the activation), down."""

from torch import Tensor, nn

from costmodel.layers.ffn import DenseFfn
from reference_model.layers import Linear
from reference_model.leaf import Factory
from reference_model.registry import runs


@runs(DenseFfn)
class FeedForward(nn.Module):
    """Computes down(act(gate x) * (up x)), or down(act(up x)) without a gate."""

    attribute = "ffn"

    def __init__(self, factory: Factory, config: DenseFfn) -> None:
        super().__init__()
        width = config.intermediate_size
        self.gate_up = Linear(
            factory,
            factory.hidden_size,
            2 * width if config.gated else width,
            "ffn",
            bias=config.bias,
            activation=config.activation,
            gated=config.gated,
        )
        self.down = Linear(factory, width, factory.hidden_size, "ffn", bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        out: Tensor = self.down(self.gate_up(x))
        return out
