"""Product-key memory (PKM) and Memory+: each token reads m rows a head of a table of n^2 rows.

Leaves in order: query, retrieve, values, (gate, output). Row i n + j has as its key the
concatenation of sub-key i of the first side and sub-key j of the second, so its score is the sum of
two scores. The m best of n^2 sums are among the sums of the m best of either side: 2 n keys are
compared instead of n^2, and the result is exact.

Shapes: N tokens, D hidden, H heads, n keys per side, m rows read per token and head, Dk key width
per side, Dv value width.
Source: arXiv 1907.05242, section 3; arXiv 2412.09764, section 3.
"""

import torch
from torch import Tensor, nn

from costmodel.layers.product_key import ProductKey
from reference_model.layers import Linear
from reference_model.leaf import Factory, Leaf, Selector, joined, rms_norm
from reference_model.registry import runs
from reference_model.value_tables import TABLE_STD, TableView, weighted_sum


class ProductQuery(Leaf):
    """Projects each token to H queries of two halves, one for either side of the keys."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    norm: nn.Parameter  # where the query is normalised

    def __init__(
        self, factory: Factory, heads: int, key_dim: int, *, norm: bool, bias: bool = False
    ) -> None:
        super().__init__()
        self.shape = (heads, 2, key_dim)
        weight = factory.normal(heads * 2 * key_dim, factory.hidden_size, std=key_dim**-0.5)
        self.register("weight", weight, "memory_projections")
        if bias:
            zeros = factory.filled(heads * 2 * key_dim, value=0.0)
            self.register("bias", zeros, "memory_projections")
        else:
            self.bias = None
        if norm:
            self.register("norm", factory.filled(key_dim, value=key_dim**-0.4), "norm")

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [N, D] to queries [N, H, 2, Dk]."""
        y = nn.functional.linear(x, self.weight, self.bias).unflatten(-1, self.shape)
        return rms_norm(y, self.norm) if "norm" in self.groups else y


class ProductRetrieve(Selector):
    """Selects the m rows of highest score for each token and head; softmax gives their weights."""

    keys: nn.Parameter
    key_norm: nn.Parameter  # where the keys are normalised

    def __init__(
        self,
        factory: Factory,
        *,
        heads: int,
        num_keys: int,
        knn: int,
        key_dim: int,
        shared_keys: bool = False,
        norm: bool = False,
        table_per_head: bool = False,
    ) -> None:
        super().__init__(
            "rows",
            population=num_keys**2,
            draws=knn,
            heads=heads,
            population_per_head=table_per_head,
        )
        self.num_keys, self.knn = num_keys, knn
        keys = factory.normal(2, 1 if shared_keys else heads, num_keys, key_dim, std=key_dim**-0.5)
        self.register("keys", keys, "memory_keys")
        if norm:
            self.register("key_norm", factory.filled(key_dim, value=key_dim**-0.4), "norm")
        self.folded = not norm

    @torch.no_grad()
    def fold(self) -> None:
        """Normalise the keys in place, once: their norm costs nothing at inference."""
        if not self.folded:
            self.keys.copy_(rms_norm(self.keys, self.key_norm))
            self.folded = True

    def forward(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [N, H, 2, Dk] to row indices and weights, [N, H m] each.

        The weights of one head sum to one.
        """
        keys = self.keys if self.folded else rms_norm(self.keys, self.key_norm)
        first = min(self.knn, self.num_keys)
        best = []
        for side in range(2):
            scores = _scores(query[:, :, side], keys[side])  # [N, H, n]
            best.append(scores.topk(first, dim=-1))
        sums = best[0].values[..., :, None] + best[1].values[..., None, :]
        top = sums.flatten(-2).topk(self.knn, dim=-1)
        i = best[0].indices.gather(-1, top.indices // first)
        j = best[1].indices.gather(-1, top.indices % first)
        rows = self.of_heads((i * self.num_keys + j).flatten(1))
        weights = top.values.float().softmax(-1).to(query.dtype).flatten(1)
        if self.synthetic_choice is not None:
            rows = self.synthetic_choice[: rows.shape[0]]
        self.selected = rows
        return rows, weights


def _scores(query: Tensor, keys: Tensor) -> Tensor:
    """Queries [N, H, Dk] times keys [H, n, Dk], or [1, n, Dk] for all heads: [N, H, n]."""
    if keys.shape[0] == 1:
        return query @ keys[0].mT
    return torch.bmm(query.transpose(0, 1), keys.mT).transpose(0, 1)


class ProductValues(Leaf):
    """Weighted sum of the table rows that all heads selected."""

    weight: nn.Parameter

    def __init__(self, view: TableView) -> None:
        super().__init__()
        self.view = view
        self.register("weight", view.table, "memory_values")

    def forward(self, rows: Tensor, weights: Tensor) -> Tensor:
        """Row indices and weights [N, H m] to [N, Dv]."""
        return weighted_sum(self.weight, self.view.rows(rows), weights[..., None])


class Gate(Leaf):
    """Memory+'s gate: out * silu(W x), elementwise, with a bias where the layer has them."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, factory: Factory, value_dim: int, *, bias: bool) -> None:
        super().__init__()
        weight = factory.normal(value_dim, factory.hidden_size)
        self.register("weight", weight, "memory_projections")
        if bias:
            self.register("bias", factory.filled(value_dim, value=0.0), "memory_projections")
        else:
            self.bias = None

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """Tokens [N, D] and what the memory gave, [N, Dv], to [N, Dv]."""
        return out * nn.functional.silu(nn.functional.linear(x, self.weight, self.bias))


@runs(ProductKey)
class ProductKeyLayer(nn.Module):
    """One memory layer; its table may be the one that all layers of its configuration share."""

    def __init__(
        self,
        factory: Factory,
        config: ProductKey,
        *,
        index: int,
        num_layers: int,
        tables: dict[str, nn.Parameter],
    ) -> None:
        super().__init__()
        del index, num_layers
        d, dv = factory.hidden_size, config.value_dim
        bias = config.projection_bias
        self.query = ProductQuery(
            factory, config.num_heads, config.key_dim, norm=config.qk_norm, bias=bias
        )
        self.retrieve = ProductRetrieve(
            factory,
            heads=config.num_heads,
            num_keys=config.num_keys,
            knn=config.knn,
            key_dim=config.key_dim,
            norm=config.qk_norm,
        )
        if not config.shared_table or "values" not in tables:
            tables["values"] = factory.normal(config.num_keys**2, dv, std=TABLE_STD)
        self.values = ProductValues(TableView(table=tables["values"], offset=0))
        self.gate = Gate(factory, dv, bias=bias) if config.gate else None
        if self.gate is not None:
            joined([self.query.weight, self.gate.weight])
            if self.query.bias is not None and self.gate.bias is not None:
                joined([self.query.bias, self.gate.bias])
        self.output = (
            Linear(factory, dv, d, "memory_projections", bias=bias)
            if config.output_projection
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        flat = x.flatten(0, -2)
        out = self.values(*self.retrieve(self.query(flat)))
        if self.gate is not None:
            out = self.gate(flat, out)
        if self.output is not None:
            out = self.output(out)
        result: Tensor = out.view_as(x)
        return result
