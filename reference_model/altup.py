"""AltUp: a residual stream of A vectors of which a block computes the first and updates all.

Leaves: at the input expand, in each block predict, correct and (behind a memory layer) spread, at
the end merge.

Shapes: A streams, B sequences, T new tokens, D hidden.
"""

import torch
from torch import Tensor, nn

from costmodel.layers.altup import AltUp
from reference_model.leaf import NORM_EPS, Factory, Leaf, rms_norm
from reference_model.registry import runs


def _root_mean_square(x: Tensor) -> Tensor:
    """The magnitude of vectors [..., D]: [..., 1]; never 0."""
    return (x.square().mean(dim=-1, keepdim=True) + NORM_EPS).sqrt()


class _Projections(Leaf):
    """A - 1 square matrices, whose results have the magnitude of a given vector."""

    weight: nn.Parameter

    def __init__(self, factory: Factory, streams: int) -> None:
        super().__init__()
        d = factory.hidden_size
        self.register("weight", factory.normal((streams - 1) * d, d), "residual")

    def _of_magnitude(self, streams: Tensor, like: Tensor) -> Tensor:
        """Streams [A - 1, B, T, D] at the magnitude of `like` [B, T, D]."""
        return streams * (_root_mean_square(like) / _root_mean_square(streams))


class Expand(_Projections):
    """The embedded token, and A - 1 projections of it."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] to [A, B, T, D]."""
        projected = nn.functional.linear(x, self.weight).unflatten(-1, (-1, x.shape[-1]))
        others = self._of_magnitude(projected.movedim(2, 0), x)
        return torch.cat([x[None], others])


class Merge(_Projections):
    """The mean of the first stream and of a projection of each other one."""

    def forward(self, streams: Tensor) -> Tensor:
        """[A, B, T, D] to [B, T, D]."""
        first, others, d = streams[0], streams[1:], streams.shape[-1]
        weights = self.weight.view(-1, d, d)
        projected = torch.einsum("abtd,aed->abte", others, weights)
        whole = torch.cat([first[None], self._of_magnitude(projected, first)])
        return whole.mean(dim=0)


def _routed(x: Tensor, norm: Tensor, router: Tensor) -> Tensor:
    """A vector [B, T, D] to the modalities [B, T, A]; `norm` [D] and `router` [A, D] of a block."""
    return torch.tanh(nn.functional.linear(rms_norm(x, norm), router))


class Predict(Leaf):
    """All streams from a mixture of all; its router serves the block's correction, too."""

    norm: nn.Parameter
    router: nn.Parameter
    coefficients: nn.Parameter

    def __init__(self, factory: Factory, streams: int) -> None:
        super().__init__()
        self.register("norm", factory.filled(factory.hidden_size, value=1.0), "norm")
        self.register("router", factory.normal(streams, factory.hidden_size), "residual")
        self.register("coefficients", factory.normal(streams**2, streams), "residual")

    def forward(self, streams: Tensor) -> Tensor:
        """[A, B, T, D] to predictions of the same shape."""
        count = len(streams)
        modalities = _routed(streams[0], self.norm, self.router)
        routed = nn.functional.linear(modalities, self.coefficients)
        mixed = torch.einsum("abtd,btca->cbtd", streams, routed.unflatten(-1, (count, count)))
        return mixed + streams


class Correct(Leaf):
    """All streams corrected by what the block changed in the first."""

    coefficients: nn.Parameter
    scale: nn.Parameter | None  # of the stream that a memory layer reads

    def __init__(self, factory: Factory, streams: int, *, spreads: bool) -> None:
        super().__init__()
        self.register("coefficients", factory.normal(streams, streams), "residual")
        if spreads:
            self.register("scale", factory.filled(factory.hidden_size, value=1.0), "residual")
        else:
            self.scale = None

    def forward(
        self, predictions: Tensor, norm: Tensor, router: Tensor, stream: Tensor, *adds: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Corrected streams, and the first of them scaled for a memory layer.

        Args:
            predictions: [A, B, T, D].
            norm: Of the router that `Predict` holds, [D].
            router: Its matrix [A, D].
            stream: What the block made of the first, [B, T, D].
            adds: What waits to be added to it.

        Returns:
            The streams [A, B, T, D], and the scaled one [B, T, D].
        """
        for add in adds:
            stream = stream + add
        factors = 1 + nn.functional.linear(_routed(stream, norm, router), self.coefficients)
        change = stream - predictions[0]
        corrected = predictions + factors.movedim(-1, 0)[..., None] * change
        return corrected, corrected[0] if self.scale is None else corrected[0] * self.scale


class Spread(Leaf):
    """Adds a vector to all streams but the first."""

    def forward(self, streams: Tensor, added: Tensor) -> Tensor:
        """Streams [A, B, T, D] and a vector [B, T, D] to the streams."""
        return torch.cat([streams[:1], streams[1:] + added])


class AltUpEnds(nn.Module):
    """What stands at the model's input and end."""

    def __init__(self, factory: Factory, config: AltUp) -> None:
        super().__init__()
        self.expand = Expand(factory, config.altup_num_inputs)
        self.merge = Merge(factory, config.altup_num_inputs)


@runs(AltUp)
class AltUpBlock(nn.Module):
    """What stands at the head and the end of a block."""

    def __init__(self, factory: Factory, config: AltUp, *, spreads: bool) -> None:
        super().__init__()
        self.predict = Predict(factory, config.altup_num_inputs)
        self.correct = Correct(factory, config.altup_num_inputs, spreads=spreads)
        if spreads:
            self.spread = Spread()

    def corrected(
        self, predictions: Tensor, stream: Tensor, adds: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The streams after a block, and the first of them scaled: see `Correct`."""
        router = self.predict.norm, self.predict.router
        both: tuple[Tensor, Tensor] = self.correct(predictions, *router, stream, *adds)
        return both
