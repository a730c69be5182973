"""The gated delta net in PyTorch: in_proj, conv, recurrence, gated_norm, output.

Shapes: B sequences, T new tokens, D hidden, C channels of queries, keys and values, H value heads.
"""

from torch import Tensor, nn

from costmodel.layers.gated_delta_net import GatedDeltaNet
from reference_model.cache import Cache, LayerState, Room
from reference_model.delta_rule import DeltaRecurrence
from reference_model.layers import Linear
from reference_model.leaf import Factory
from reference_model.recurrent import CausalConv, GatedNorm
from reference_model.registry import runs


@runs(GatedDeltaNet)
class GatedDeltaNetLayer(nn.Module):
    """One layer; the output gate z multiplies the normalised output of each head."""

    def __init__(self, factory: Factory, config: GatedDeltaNet) -> None:
        super().__init__()
        self.config = config
        width, heads = factory.hidden_size, config.linear_num_value_heads
        self.widths = [config.channels, config.value_width, heads, heads]
        self.in_proj = Linear(factory, width, sum(self.widths), "attention")
        self.conv = CausalConv(factory, config.channels, config.linear_conv_kernel_dim, bias=False)
        self.recurrence = DeltaRecurrence(factory, config.rule)
        self.gated_norm = GatedNorm(factory, config.linear_value_head_dim, "silu")
        self.output = Linear(factory, config.value_width, width, "attention")

    def new_cache(self, room: Room) -> LayerState:
        """The convolution's last inputs [B, C, K - 1], and the state [B, H, dk, dv]."""
        return LayerState(tensors=[self.conv.new_state(room), self.recurrence.new_state(room)])

    def forward(self, x: Tensor, cache: Cache, index: int) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        conv, state = cache.layers[index].tensors
        qkv, z, beta, decay = self.in_proj(x).split(self.widths, dim=-1)
        mixed = self.recurrence(self.conv(qkv, conv), beta, decay, state)
        normed = self.gated_norm(mixed, z, self.config.linear_value_head_dim)
        out: Tensor = self.output(normed)
        return out
