"""The mixer with a fixed state in PyTorch: update, output."""

import torch
from costmodel.layers.decay_mixer import DecayMixer  # type: ignore[import-not-found]  # see checks
from torch import Tensor, nn

from reference_model.cache import Cache, LayerState, Room
from reference_model.layers import Linear
from reference_model.leaf import Factory, Leaf
from reference_model.registry import runs


class Update(Leaf):
    """h = a h + x, token by token; the last h stays."""

    decay: nn.Parameter

    def __init__(self, factory: Factory) -> None:
        super().__init__()
        self.register("decay", factory.filled(factory.hidden_size, value=0.5), "attention")

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """[B, T, D] and the state [B, D] to [B, T, D]."""
        outputs = []
        for index in range(x.shape[1]):
            state.copy_(self.decay * state + x[:, index])
            outputs.append(state.clone())
        return torch.stack(outputs, dim=1)


@runs(DecayMixer)
class DecayLayer(nn.Module):
    """The two leaves of a layer."""

    def __init__(self, factory: Factory, config: DecayMixer) -> None:
        super().__init__()
        width = factory.hidden_size
        self.update = Update(factory)
        self.output = Linear(factory, width, width, "attention", bias=config.output_bias)

    def new_cache(self, room: Room) -> LayerState:
        """One vector [B, D]."""
        width: int = self.update.decay.shape[0]
        return LayerState(tensors=[room.zeros(width)])

    def forward(self, x: Tensor, cache: Cache, index: int) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        (state,) = cache.layers[index].tensors
        out: Tensor = self.output(self.update(x, state))
        return out
