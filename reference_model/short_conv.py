"""The gated short convolution of LFM2 in PyTorch: in_proj, conv, output.

Shapes: B sequences, T new tokens, D hidden, K taps.
"""

from torch import Tensor, nn

from costmodel.layers.short_conv import ShortConv
from reference_model.cache import Cache, LayerState, Room
from reference_model.layers import Linear
from reference_model.leaf import Factory
from reference_model.recurrent import CausalConv
from reference_model.registry import runs


class GatedConv(CausalConv):
    """The convolution between its two gates."""

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """Input gate, output gate and input [B, T, 3 D] to [B, T, D]."""
        input_gate, output_gate, value = x.chunk(3, dim=-1)
        return output_gate * self.convolved(input_gate * value, state)


@runs(ShortConv)
class ShortConvLayer(nn.Module):
    """One layer: projection, gated convolution, projection."""

    def __init__(self, factory: Factory, config: ShortConv) -> None:
        super().__init__()
        width, bias = factory.hidden_size, config.conv_bias
        self.in_proj = Linear(factory, width, 3 * width, "attention", bias=bias)
        self.conv = GatedConv(factory, width, config.conv_L_cache, bias=bias)
        self.output = Linear(factory, width, width, "attention", bias=bias)

    def new_cache(self, room: Room) -> LayerState:
        """The last K - 1 inputs of the convolution, [B, D, K - 1]."""
        return LayerState(tensors=[self.conv.new_state(room)])

    def forward(self, x: Tensor, cache: Cache, index: int) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        (state,) = cache.layers[index].tensors
        out: Tensor = self.output(self.conv(self.in_proj(x), state))
        return out
