"""What residual streams of all kinds share: how they begin, and how what waits joins them.

Shapes: B sequences, T new tokens, c streams, D hidden. The streams of a token lie side by side:
[B, T, c D]. The sites that mix them: gated_residual.py, hyper_connections.py.
"""

from torch import Tensor

from reference_model.leaf import Leaf


class Expand(Leaf):
    """The embedded token as each of the streams."""

    def __init__(self, streams: int) -> None:
        super().__init__()
        self.streams = streams

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T, c D]."""
        return x.repeat(1, 1, self.streams)


def joined(stream: Tensor, *adds: Tensor) -> Tensor:
    """The streams [B, T, c D] with what waits.

    That is nothing; a vector for each stream [B, T, c D]; a sublayer's output [B, T, D] and its
    gains [B, T, c]; or those and mixing weights [B, T, c, c], by whose column j the old streams
    make the new stream j. What stands behind these is of the next site, and no part of this.
    """
    if not adds:
        return stream
    if adds[0].shape == stream.shape:
        return stream + adds[0]
    output, gains, *mixings = adds
    placed = gains[..., None] * output[..., None, :]
    if not mixings:
        return stream + placed.flatten(-2)
    mixing = mixings[0]
    for i, old in enumerate(stream.unflatten(-1, placed.shape[-2:]).unbind(-2)):
        placed = placed.addcmul(mixing[..., i, :, None], old[..., None, :])
    return placed.flatten(-2)


class StreamJoin(Leaf):
    """Adds what waits to the streams, for a layer that reads these themselves."""

    def forward(self, stream: Tensor, *adds: Tensor) -> Tensor:
        """Streams [B, T, c D], and what waits, to the new streams."""
        return joined(stream, *adds)
