"""Per-layer embeddings (Gemma 3n, Gemma 4): a vector of p values for each token and layer.

Leaves at the input: rows, project. In each layer: gate, output, norm.

Shapes: B sequences, T new tokens, D hidden, L layers with such a vector, p its width.
"""

from math import sqrt

import torch
from torch import Tensor, nn

from costmodel.layers.per_layer_embedding import PerLayerEmbedding
from reference_model.cache import LayerState, Room
from reference_model.layers import Linear
from reference_model.leaf import Factory, Leaf, Selector, rms_norm
from reference_model.lookup import Known
from reference_model.registry import runs
from reference_model.value_tables import row_values


class TokenRows(Selector):
    """The row of each token id; an id beyond the table has the row of id 0."""

    weight: nn.Parameter

    def __init__(self, factory: Factory, rows: int, width: int) -> None:
        super().__init__("rows", population=rows, draws=1)
        self.register("weight", factory.normal(rows, width, std=1.0), "memory_values")

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids [B, T] to rows [B, T, L p]."""
        known = torch.where(ids < self.population, ids, 0)
        if self.synthetic_choice is not None:
            known = self.synthetic_choice[: ids.numel()].view_as(ids)
        self.selected = known.view(-1, 1)
        return row_values(self.weight, known)


class Project(Leaf):
    """The mean of each token's row with a normalised projection of its embedding."""

    weight: nn.Parameter
    norm: nn.Parameter

    def __init__(self, factory: Factory, num_layers: int, width: int) -> None:
        super().__init__()
        weight = factory.normal(num_layers * width, factory.hidden_size)
        self.register("weight", weight, "memory_projections")
        self.register("norm", factory.filled(width, value=1.0), "norm")

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        """Embedded tokens [B, T, D] and their rows [B, T, L p] to vectors [B, T, L, p]."""
        projected = nn.functional.linear(x, self.weight).unflatten(-1, (-1, len(self.norm)))
        return (rms_norm(projected, self.norm) + rows.view_as(projected)) * sqrt(0.5)


class Gate(Linear):
    """GELU of a projection of the stream, times the vector of this layer."""

    def forward(self, x: Tensor, vector: Tensor | None = None) -> Tensor:
        """The stream [B, T, D] and the layer's vector [B, T, p] to [B, T, p]."""
        assert vector is not None, "left at the input"
        return super().forward(x) * vector


class OutputNorm(Leaf):
    """RMSNorm of what the layer adds, whatever norm the model has."""

    weight: nn.Parameter

    def __init__(self, factory: Factory) -> None:
        super().__init__()
        self.register("weight", factory.filled(factory.hidden_size, value=1.0), "norm")

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        return rms_norm(x, self.weight)


class PerLayerInput(nn.Module):
    """The part at the input: what all layers of a step get, left in `Known.per_layer`."""

    def __init__(self, factory: Factory, config: PerLayerEmbedding, *, num_layers: int) -> None:
        super().__init__()
        width = config.hidden_size_per_layer_input
        self.rows = TokenRows(factory, config.vocab_size_per_layer_input, num_layers * width)
        self.project = Project(factory, num_layers, width)

    def forward(self, stream: Tensor, known: Known) -> Tensor:
        """The embedded tokens [B, T, D], unchanged."""
        known.per_layer = self.project(stream, self.rows(known.ids))
        return stream


@runs(PerLayerEmbedding)
class PerLayerLayer(nn.Module):
    """The part at the end of a block."""

    at_input = PerLayerInput

    def __init__(self, factory: Factory, config: PerLayerEmbedding, *, index: int) -> None:
        super().__init__()
        self.index = index
        d, width = factory.hidden_size, config.hidden_size_per_layer_input
        self.gate = Gate(factory, d, width, "memory_projections", activation="gelu")
        self.output = Linear(factory, width, d, "memory_projections")
        self.norm = OutputNorm(factory)

    def new_state(self, room: Room) -> LayerState | None:
        """None: the vectors of a step follow from its ids."""
        del room
        return None

    def forward(self, stream: Tensor, known: Known, state: LayerState | None) -> Tensor:
        """The residual stream [B, T, D] to what is added to it."""
        del state
        assert known.per_layer is not None, "left at the input"
        out: Tensor = self.norm(self.output(self.gate(stream, known.per_layer[:, :, self.index])))
        return out
