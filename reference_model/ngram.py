"""Hashed n-gram tables (Engram): each token's last ids address a row of each column of a table.

Leaves in order: hash, rows, project, gate, (conv). The rows follow from token ids alone; the hidden
state only gates what they say.

Shapes: B sequences, T new tokens, N = B T, D hidden, c streams, Q columns, d row width, Kc kernel
of the convolution, G the largest order.
Source: arXiv 2601.07372, section 2.
"""

from itertools import accumulate
from math import sqrt
from random import Random

import torch
from torch import Tensor, nn

from costmodel.layers.ngram import Ngram
from reference_model.cache import NO_TOKEN, LayerState, Room
from reference_model.layers import Linear
from reference_model.leaf import NORM_EPS, Factory, Leaf, Selector
from reference_model.lookup import AddressedRows, Known
from reference_model.registry import runs
from reference_model.value_tables import TABLE_STD

SHIFT = 1 - NO_TOKEN  # makes every id, and what stands before the first one, larger than 0
FACTOR_BITS = 36  # a shifted id is below 2^25, so that its product with a factor is below 2^63
LEAST_SQUARE = 1e-6  # under the root of a gate, whose slope would else be infinite at 0


class NgramHash(Selector):
    """Hashes the n-grams that end in each new token: one row of each column.

    Hash of an n-gram: each id, shifted so that none is 0, times an odd factor of its place; the
    products are combined by exclusive or, and the remainder by the column's prime is the row.
    """

    factors: Tensor  # [G] of the ids of an n-gram, the newest first
    moduli: Tensor  # [Q] rows of each column
    starts: Tensor  # [Q] first row of each column among those of the table

    def __init__(self, factory: Factory, config: Ngram, index: int) -> None:
        columns = config.columns(index + 1)[index]
        super().__init__(
            "rows", population=max(columns), draws=1, heads=len(columns), populations=columns
        )
        self.past, self.num_heads = config.past_ids, config.num_heads
        for name, values in (
            ("factors", hash_factors(index, config.max_ngram_size)),
            ("moduli", columns),
            ("starts", (0, *accumulate(columns[:-1]))),
        ):
            self.register_buffer(name, torch.tensor(values, device=factory.device))

    def forward(self, window: Tensor) -> Tensor:
        """Past and new ids [B, G - 1 + T] to rows of the table [N, Q]."""
        new = window.shape[1] - self.past
        shifted = window + SHIFT
        mixed = shifted[:, self.past :] * self.factors[0]
        by_order = []
        for back in range(1, self.past + 1):
            start = self.past - back
            mixed = mixed ^ (shifted[:, start : start + new] * self.factors[back])
            by_order.append(mixed.flatten())
        hashes = torch.stack(by_order, dim=1).repeat_interleave(self.num_heads, dim=1)
        rows = hashes % self.moduli + self.starts
        if self.synthetic_choice is not None:
            rows = self.synthetic_choice[: rows.shape[0]]
        self.selected = rows
        return rows


def hash_factors(index: int, places: int) -> tuple[int, ...]:
    """Odd factors of the ids of an n-gram, the newest first; each layer has others."""
    draw = Random(index)  # noqa: S311 - a hash that spreads evenly, not a secret
    return tuple(draw.getrandbits(FACTOR_BITS) | 1 for _ in range(places))


class NgramGate(Leaf):
    """Gates the value of a token by how well the key of each stream suits the hidden state."""

    q_norm: nn.Parameter
    k_norm: nn.Parameter

    def __init__(self, factory: Factory, streams: int, *, sums: bool, wide: bool) -> None:
        super().__init__()
        self.streams, self.sums, self.wide = streams, sums and streams > 1, wide
        for name in ("q_norm", "k_norm"):
            self.register(name, factory.filled(streams, factory.hidden_size, value=1.0), "norm")

    def forward(self, x: Tensor, keys_and_value: Tensor) -> Tensor:
        """Hidden state [N, D] and projections [N, (c + 1) D] to [N, D], or unsummed [N, c D].

        The keys come first. Where the model has c streams the hidden state is theirs, [N, c D].
        """
        x = x.unflatten(-1, (self.streams if self.wide else 1, -1))
        d = x.shape[-1]
        projected = keys_and_value.unflatten(-1, (self.streams + 1, d))
        key = normed(projected[:, :-1], self.k_norm)  # [N, c, D]
        query = normed(x, self.q_norm)
        score = (query * key).sum(-1, keepdim=True) / sqrt(d)  # [N, c, 1]
        root = score.abs().clamp_min(LEAST_SQUARE).sqrt() * score.sign()
        gated = torch.sigmoid(root) * projected[:, -1:]  # [N, c, D]
        out: Tensor = gated.sum(1) if self.sums else gated.flatten(1)
        return out


class NgramConv(Leaf):
    """x + silu(depthwise causal convolution of RMSNorm(x)), its taps G tokens apart; then a sum."""

    norm: nn.Parameter
    weight: nn.Parameter

    def __init__(
        self, factory: Factory, streams: int, kernel: int, dilation: int, *, sums: bool
    ) -> None:
        super().__init__()
        d = factory.hidden_size
        self.sums = sums and streams > 1
        self.streams, self.kernel, self.dilation = streams, kernel, dilation
        self.register("norm", factory.filled(streams, d, value=1.0), "norm")
        self.register("weight", factory.normal(streams * d, kernel), "memory_projections")

    def forward(self, x: Tensor, state: LayerState | None) -> Tensor:
        """Gated values [B, T, c D], and the normalised ones of past tokens, to [B, T, D].

        Unsummed to [B, T, c D].

        The state [B, (Kc - 1) G, c D] becomes that of the next step. The last tap of a kernel is
        that of the token itself.
        """
        split = x.unflatten(-1, self.norm.shape)  # [B, T, c, D]
        window = normed(split, self.norm).flatten(-2)
        if state is not None:
            (past,) = state.tensors
            window = torch.cat([past, window], dim=1)
            past.copy_(window[:, -past.shape[1] :])
        new = x.shape[1]
        out = torch.zeros_like(x)
        for tap in range(self.kernel):
            start = tap * self.dilation
            out = torch.addcmul(out, window[:, start : start + new], self.weight[:, tap])
        y: Tensor = x + nn.functional.silu(out)
        return y.unflatten(-1, self.norm.shape).sum(-2) if self.sums else y


def normed(x: Tensor, weight: Tensor) -> Tensor:
    """RMSNorm of x [..., c or 1, D], with a weight of each stream [c, D]: [..., c, D]."""
    return nn.functional.rms_norm(x, x.shape[-1:], None, NORM_EPS) * weight


@runs(Ngram)
class NgramLayer(nn.Module):
    """One layer, with a table of its own.

    Args:
        factory: Makes the parameters.
        config: Of all layers of the kind.
        index: Which of them this is, from 0: the primes of its columns follow.
    """

    def __init__(self, factory: Factory, config: Ngram, *, index: int) -> None:
        super().__init__()
        c, d = config.streams, factory.hidden_size
        self.past, self.reach = config.past_ids, config.kept_tokens
        self.hash = NgramHash(factory, config, index)
        self.rows = AddressedRows(
            factory, config.table_rows(index + 1)[index], config.head_dim, std=TABLE_STD
        )
        self.project = Linear(
            factory,
            len(config.orders) * config.head_dim,
            d * (c + 1),
            "memory_projections",
            bias=config.bias,
        )
        sums, wide = not config.per_stream, config.per_stream
        self.gate = NgramGate(factory, c, sums=sums and not config.conv_kernel, wide=wide)
        self.conv = (
            NgramConv(factory, c, config.conv_kernel, config.max_ngram_size, sums=sums)
            if config.conv_kernel
            else None
        )

    def new_state(self, room: Room) -> LayerState | None:
        """What the convolution reaches of past tokens: before the first ones, zeros."""
        if not self.reach or self.conv is None:
            return None
        return LayerState(tensors=[room.zeros(self.reach, len(self.conv.weight))])

    def fetch(self, known: Known) -> Tensor:
        """The elements of the rows that the ids address, [N, Q d]."""
        rows: Tensor = self.rows(self.hash(known.last(self.past)))
        return rows

    def forward(self, stream: Tensor, known: Known, state: LayerState | None) -> Tensor:
        """The residual stream [B, T, D], and the ids that are known, to what is added to it."""
        rows = known.taken(self)
        if rows is None:
            rows = self.fetch(known)
        out = self.gate(stream.flatten(0, -2), self.project(rows))
        if self.conv is not None:
            out = self.conv(out.view(*stream.shape[:2], -1), state)
        result: Tensor = out.view_as(stream)
        return result
