"""Kimi delta attention in PyTorch: in_proj, conv, (two gates), recurrence, gated_norm, output.

Shapes: B sequences, T new tokens, D hidden, H heads of d, X = H d.
"""

from torch import Tensor, nn

from costmodel.layers.kimi_delta_attention import KimiDeltaAttention
from reference_model.cache import Cache, LayerState, Room
from reference_model.delta_rule import DeltaRecurrence
from reference_model.layers import Linear
from reference_model.leaf import Factory
from reference_model.recurrent import CausalConv, GatedNorm
from reference_model.registry import runs


@runs(KimiDeltaAttention)
class KimiDeltaLayer(nn.Module):
    """One layer; the output gate multiplies the normalised output of each head."""

    def __init__(self, factory: Factory, config: KimiDeltaAttention) -> None:
        super().__init__()
        self.config = c = config
        width = factory.hidden_size
        self.widths = [c.channels, c.num_heads, c.gate_width, c.gate_width]
        self.in_proj = Linear(factory, width, sum(self.widths), "attention")
        self.conv = CausalConv(factory, c.channels, c.short_conv_kernel_size, bias=False)
        if not c.full_rank_gates:
            self.forget_gate = Linear(factory, c.head_dim, c.width, "attention")
            self.output_gate = Linear(factory, c.head_dim, c.width, "attention")
        self.recurrence = DeltaRecurrence(factory, c.rule)
        self.gated_norm = GatedNorm(factory, c.head_dim, "sigmoid")
        self.output = Linear(factory, c.width, width, "attention")

    def new_cache(self, room: Room) -> LayerState:
        """The convolution's last inputs [B, 3 X, K - 1], and the state [B, H, d, d]."""
        return LayerState(tensors=[self.conv.new_state(room), self.recurrence.new_state(room)])

    def forward(self, x: Tensor, cache: Cache, index: int) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        conv, state = cache.layers[index].tensors
        qkv, beta, decay, z = self.in_proj(x).split(self.widths, dim=-1)
        qkv = self.conv(qkv, conv)
        if not self.config.full_rank_gates:
            decay, z = self.forget_gate(decay), self.output_gate(z)
        mixed = self.recurrence(qkv, beta, decay, state)
        out: Tensor = self.output(self.gated_norm(mixed, z, self.config.head_dim))
        return out
