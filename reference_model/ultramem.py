"""A memory layer of UltraMem and UltraMemV2: a large table of which each token reads m rows a head.

Leaves in order: query, retrieve, (pre_projection, pre_values,) values, output. The rows form a grid
of n x n: a row's score comes from the score of its line and that of its column, so that 2 n keys
are compared instead of n^2. Tucker decomposition: each of n lines and n columns has r scores, and a
small core matrix [r, r] makes the score of a grid point from them. A random permutation says which
row belongs to which grid point.

Shapes: N tokens, D hidden, H heads, n keys per side, m rows read per token and head, f lines and
columns kept in the first stage, Dk key width per side, Dv and Dp widths of a value and a pre-value,
r Tucker rank, c Tucker cores, q queries of a token (1, or one for each rank), t^2 groups of
expanded values, g output groups (t^2, or 1 where all groups are summed).
Source: arXiv 2508.18756, section 3; arXiv 2411.12364, section 3.
"""

import torch
from torch import Tensor, nn

from costmodel.layers.ultramem import UltraMem
from reference_model.layers import Linear
from reference_model.leaf import Factory, Leaf, Selector, joined, rms_norm
from reference_model.registry import runs
from reference_model.value_tables import (
    TABLE_STD,
    TableView,
    dots,
    grouped_weighted_sum,
    weighted_sum,
)


class Query(Leaf):
    """Projects each token to q queries of two halves: for the lines and the columns of the grid."""

    weight: nn.Parameter
    norm: nn.Parameter

    def __init__(self, factory: Factory, config: UltraMem) -> None:
        super().__init__()
        dk = config.key_dim
        self.shape = (2, config.num_queries, dk)
        weight = factory.normal(2 * config.num_queries * dk, factory.hidden_size, std=dk**-0.5)
        self.register("weight", weight, "memory_projections")
        self.register("norm", factory.filled(dk, value=dk**-0.4), "norm")

    def forward(self, x: Tensor) -> Tensor:
        """X [N, D] to queries [N, 2, q, Dk], each half normalised by itself."""
        y = nn.functional.linear(x, self.weight).unflatten(-1, self.shape)
        return rms_norm(y, self.norm)


class Retrieve(Selector):
    """Selects the m rows of highest score for each token and head, in two stages.

    First stage: the f best lines and the f best columns, each by one score, which is the weighted
    sum of its r scores. The weights `u` and `v` [H, r] are the leading singular vectors of the sum
    of a head's cores. A pair of singular vectors may change sign together; here the sum of u is
    never negative, which decides which end of the lists is the top.
    Second stage: the exact scores of the f x f grid points by the cores, and the m best of them.
    """

    keys: nn.Parameter  # [2, H, r, n, Dk]
    key_norm: nn.Parameter
    cores: nn.Parameter  # [c, H, r, r]
    permutation: Tensor
    u: Tensor
    v: Tensor

    def __init__(self, factory: Factory, config: UltraMem, num_layers: int) -> None:
        rows = config.row_keys(num_layers) ** 2
        super().__init__("rows", population=rows, draws=config.knn, heads=config.num_heads)
        self.config = config
        h, r, c, dk = config.num_heads, config.tucker_rank, config.tucker_cores, config.key_dim
        self.row_keys = config.row_keys(num_layers)
        self.num_keys = n = self.row_keys * config.value_expansion
        keys = factory.normal(2, h, r, n, dk, std=dk**-0.5)
        self.register("keys", keys, "memory_keys")
        self.register("key_norm", factory.filled(dk, value=dk**-0.4), "norm")
        self.register("cores", factory.uniform(c, h, r, r), "memory_keys")
        order = torch.randperm(n * n, device=factory.device, generator=factory.generator)
        self.register_buffer("permutation", order)
        for name in ("u", "v"):
            empty = torch.zeros(h, r, device=factory.device, dtype=torch.float32)
            self.register_buffer(name, empty)
        self.folded = False  # the keys hold their own norm
        if factory.device.type != "meta":
            self.set_cores(self.cores.detach())

    @torch.no_grad()
    def set_cores(self, cores: Tensor) -> None:
        """Set the cores [c, H, r, r], and compute u and v from them in float64 on the CPU."""
        self.cores.copy_(cores)
        left, _, right = torch.linalg.svd(self.cores.double().cpu().sum(0))
        u, v = left[..., 0], right[..., 0, :]
        sign = torch.where(u.sum(-1, keepdim=True) < 0, -1.0, 1.0)
        self.u.copy_((u * sign).float())
        self.v.copy_((v * sign).float())

    @torch.no_grad()
    def fold(self) -> None:
        """Normalise the keys in place, once: their norm costs nothing at inference."""
        if not self.folded:
            for side in self.keys:
                for head in side:
                    head.copy_(rms_norm(head, self.key_norm))
            self.folded = True

    def forward(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [N, 2, q, Dk] to rows [N, H m] of the layer's window, and scores [N, H m, c].

        With value expansion the indices are of virtual rows, t^2 for each row of the table.
        """
        c = self.config
        keys = self.keys if self.folded else rms_norm(self.keys, self.key_norm)
        sides = self._scores(query, keys)  # [2, N, H, r, n]
        first = min(c.first_stage_topk or c.knn, self.num_keys)
        kept, places = [], []
        for scores, vector in zip(sides, (self.u, self.v), strict=True):
            merged = (scores * vector.to(scores.dtype)[..., None]).sum(2)  # [N, H, n]
            place = merged.topk(first, dim=-1).indices
            kept.append(scores.gather(-1, place[:, :, None].expand(-1, -1, c.tucker_rank, -1)))
            places.append(place)
        grid = self._grid(kept[0], kept[1])  # [N, H, c, f, f]
        flat = grid.sum(2).flatten(-2)
        best = flat.topk(c.knn, dim=-1).indices  # [N, H, m]
        i, j = places[0].gather(-1, best // first), places[1].gather(-1, best % first)
        rows = self.permutation[i * self.num_keys + j].flatten(1)
        by_core = grid.flatten(-2).gather(-1, best[:, :, None].expand(-1, -1, c.tucker_cores, -1))
        scores = by_core.transpose(2, 3).flatten(1, 2)  # [N, H m, c]
        copies = c.value_expansion**2
        if self.synthetic_choice is not None:
            table_rows = self.synthetic_choice[: rows.shape[0]]
            rows = table_rows if copies == 1 else table_rows * copies + rows % copies
        self.selected = rows if copies == 1 else rows // copies
        return rows, scores

    def _scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """Queries [N, 2, q, Dk] times keys [2, H, r, n, Dk]: [2, N, H, r, n]."""
        sides = query.permute(1, 2, 0, 3)  # [2, q, N, Dk]
        if sides.shape[1] == 1:
            heads, ranks = keys.shape[1:3]
            scores = torch.bmm(sides[:, 0], keys.flatten(1, 3).mT)  # [2, N, H r n]
            split: Tensor = scores.unflatten(-1, (heads, ranks, -1))
            return split
        by_rank = torch.matmul(sides[:, None], keys.mT)  # [2, H, r, N, n]
        return by_rank.permute(0, 3, 1, 2, 4)

    def _grid(self, row_scores: Tensor, col_scores: Tensor) -> Tensor:
        """Scores of f lines and of f columns, [N, H, r, f] each, to the grid's [N, H, c, f, f]."""
        cores = self.cores.transpose(0, 1).to(row_scores.dtype)  # [H, c, r, r]
        left = torch.matmul(row_scores.mT[:, :, None], cores)  # [N, H, c, f, r]
        return torch.matmul(left, col_scores[:, :, None])


class PreValues(Leaf):
    """Weighs each selected row: its scores times the dot product of its pre-value and the token."""

    weight: nn.Parameter

    def __init__(self, view: TableView) -> None:
        super().__init__()
        self.view = view
        self.register("weight", view.table, "memory_values")

    def forward(self, x: Tensor, rows: Tensor, scores: Tensor) -> Tensor:
        """Projected tokens [N, Dp], rows [N, H m] and scores [N, H m, c] to weights [N, H m, c]."""
        return dots(self.weight, self.view.rows(rows), x)[..., None] * scores


class Values(Leaf):
    """Weighted sum of the selected rows.

    A row has c slices, each with a weight of its own. Where each of the t^2 groups of expanded
    values has an output projection of its own, the rows of each group are summed apart.
    """

    weight: nn.Parameter

    def __init__(self, view: TableView, groups: int) -> None:
        super().__init__()
        self.view, self.groups_apart = view, groups
        self.register("weight", view.table, "memory_values")

    def forward(self, rows: Tensor, weights: Tensor) -> Tensor:
        """Rows [N, H m], weights [N, H m, c] to [N, g Dv]."""
        groups, places = self.groups_apart, self.view.rows(rows)
        if groups == 1:
            return weighted_sum(self.weight, places, weights)
        return grouped_weighted_sum(self.weight, places, weights, rows % groups, groups)


@runs(UltraMem)
class UltraMemLayer(nn.Module):
    """One memory layer.

    Args:
        factory: Makes the parameters.
        config: Of all memory layers like this one.
        index: Which of those layers this is, from 0: where its window of a shared table starts.
        num_layers: How many there are: the rows of a shared table follow from it.
        tables: The tables by name that the layers share; the first layer adds them.
    """

    def __init__(
        self,
        factory: Factory,
        config: UltraMem,
        *,
        index: int,
        num_layers: int,
        tables: dict[str, nn.Parameter],
    ) -> None:
        super().__init__()
        self.config = config
        self.query = Query(factory, config)
        self.retrieve = Retrieve(factory, config, num_layers)
        rows = config.table_rows(num_layers)
        offset = 0 if config.share_ratio is None else index * config.knum**2 % rows

        def view(name: str, width: int) -> TableView:
            table = tables.get(name) if config.share_ratio is not None else None
            if table is None:
                table = factory.normal(rows, width, std=TABLE_STD)
                tables[name] = table
            return TableView(table=table, offset=offset, copies=config.value_expansion**2)

        d, dp, dv = factory.hidden_size, config.pre_value_dim, config.value_dim
        if dp is not None:
            self.pre_projection = Linear(factory, d, dp, "memory_projections")
            joined([self.query.weight, self.pre_projection.weight])
            self.pre_values = PreValues(view("pre_values", dp))
        self.values = Values(view("values", dv), config.output_groups)
        self.output = Linear(factory, config.output_groups * dv, d, "memory_projections")

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        flat = x.flatten(0, -2)
        rows, weights = self.retrieve(self.query(flat))
        if self.config.pre_value_dim is not None:
            weights = self.pre_values(self.pre_projection(flat), rows, weights)
        out: Tensor = self.output(self.values(rows, weights))
        return out.view_as(x)
