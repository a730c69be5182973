"""Leaves that every model has: embedding, norms with the residual adds before them, projections.

Shapes: B sequences, T new tokens, N = B T, D hidden, V vocabulary.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from costmodel.inputs.model import ModelConfig
from costmodel.layers.formats import Group
from costmodel.layers.primitives import Activation
from reference_model.leaf import NORM_EPS, Factory, Leaf, rms_norm

CLAMP = 7.0  # of gpt-oss's activation; arXiv 2508.10925
ALPHA = 1.702
LOGIT_CAP = 30.0  # Gemma 2, arXiv 2408.00118


def activate(kind: Activation, gated: bool, x: Tensor) -> Tensor:  # noqa: FBT001 - two facts of x
    """The activation of a feed-forward layer.

    Plain: [..., I] to [..., I]. Gated: the last axis holds two halves [..., 2 I]; the activation of
    the first multiplies the second, which gives [..., I].
    """
    if not gated:
        return _ACTIVATIONS[kind](x)
    gate, up = x.chunk(2, dim=-1)
    if kind == "clamped_silu":
        gate, up = gate.clamp(max=CLAMP), up.clamp(-CLAMP, CLAMP)
        return gate * torch.sigmoid(ALPHA * gate) * (up + 1)
    return _ACTIVATIONS[kind](gate) * up


def _gelu(x: Tensor) -> Tensor:
    return nn.functional.gelu(x, approximate="tanh")


def _squared_relu(x: Tensor) -> Tensor:
    return nn.functional.relu(x).square()


def _clamped_silu(x: Tensor) -> Tensor:
    x = x.clamp(max=CLAMP)
    return x * torch.sigmoid(ALPHA * x)


_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "silu": nn.functional.silu,
    "gelu": _gelu,
    "relu": nn.functional.relu,
    "relu2": _squared_relu,
    "clamped_silu": _clamped_silu,
}


class Embed(Leaf):
    """The embedding table.

    Its elements have variance 1, as the residual stream needs, unless the LM head uses the same
    table: then they have the variance of a linear layer, so that an untrained model's logits are
    small and its loss is that of a guess.
    """

    weight: nn.Parameter

    def __init__(self, factory: Factory, vocab_size: int, *, tied: bool) -> None:
        super().__init__()
        std = factory.linear_std if tied else 1.0
        table = factory.normal(vocab_size, factory.hidden_size, std=std)
        self.register("weight", table, "embedding")

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids [B, T] to their rows [B, T, D]."""
        return nn.functional.embedding(ids, self.weight)


class Norm(Leaf):
    """Adds what waits to the residual stream, and normalises the stream."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, factory: Factory, config: ModelConfig) -> None:
        super().__init__()
        self.layer_norm = config.norm != "rms"
        self.register("weight", factory.filled(factory.hidden_size, value=1.0), "norm")
        if config.norm == "layer_bias":
            self.register("bias", factory.filled(factory.hidden_size, value=0.0), "norm")
        else:
            self.bias = None

    def forward(self, stream: Tensor, *adds: Tensor) -> tuple[Tensor, Tensor]:
        """Stream and additions [..., D] to the new stream and its norm, both [..., D]."""
        for add in adds:
            stream = stream + add
        return stream, self.normed(stream)

    def normed(self, x: Tensor) -> Tensor:
        """RMSNorm or LayerNorm of x [..., D]."""
        if self.layer_norm:
            return nn.functional.layer_norm(x, self.weight.shape, self.weight, self.bias, NORM_EPS)
        return rms_norm(x, self.weight)


class JoiningNorm(Norm):
    """Normalises a sublayer's output, and adds the result to the residual stream (OLMo 2)."""

    def forward(self, stream: Tensor, *adds: Tensor) -> tuple[Tensor, Tensor]:
        """Stream and one sublayer's output [..., D] to the new stream, twice."""
        (output,) = adds
        joined = stream + self.normed(output)
        return joined, joined


class Join(Leaf):
    """Adds what waits to the residual stream, for a layer that reads the stream itself."""

    def forward(self, stream: Tensor, *adds: Tensor) -> Tensor:
        """Stream and additions [B, T, D] to the new stream [B, T, D]."""
        for add in adds:
            stream = stream + add
        return stream


class TokenHistory(Leaf):
    """Puts the last token ids of each sequence before the new ones, and keeps their end."""

    def forward(self, ids: Tensor, past: Tensor) -> Tensor:
        """New ids [B, T] and past ones [B, h], which are overwritten, to the window [B, h + T]."""
        window = torch.cat([past, ids], dim=1)
        past.copy_(window[:, -past.shape[1] :])
        return window


class Linear(Leaf):
    """A projection, with a bias and an activation where the operator has them."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        factory: Factory,
        inputs: int,
        outputs: int,
        group: Group,
        *,
        bias: bool = False,
        activation: Activation | None = None,
        gated: bool = False,
        std: float | None = None,
    ) -> None:
        super().__init__()
        self.register("weight", factory.normal(outputs, inputs, std=std), group)
        if bias:
            self.register("bias", factory.filled(outputs, value=0.0), group)
        else:
            self.bias = None
        self.activation, self.gated = activation, gated

    def forward(self, x: Tensor) -> Tensor:
        """X [..., inputs] to [..., outputs]; with a gated activation, to [..., outputs / 2]."""
        y = nn.functional.linear(x, self.weight, self.bias)
        return y if self.activation is None else activate(self.activation, self.gated, y)


class LmHead(Leaf):
    """Projects to the vocabulary; a tied model uses the embedding table as the weight."""

    weight: nn.Parameter

    def __init__(
        self, factory: Factory, vocab_size: int, tied: nn.Parameter | None, *, softcap: bool = False
    ) -> None:
        super().__init__()
        self.softcap = softcap
        if tied is None:
            self.register("weight", factory.normal(vocab_size, factory.hidden_size), "lm_head")
        else:
            self.register("weight", tied, "embedding")

    def forward(self, x: Tensor) -> Tensor:
        """X [..., D] to logits [..., V]."""
        logits = nn.functional.linear(x, self.weight)
        return LOGIT_CAP * torch.tanh(logits / LOGIT_CAP) if self.softcap else logits
