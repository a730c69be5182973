"""The hash-addressed memory layer in PyTorch: hash, rows."""

import torch
from costmodel.layers.hash_memory import HashMemory  # type: ignore[import-not-found]  # see checks
from torch import Tensor, nn

from reference_model.leaf import Factory, Leaf, Selector
from reference_model.registry import runs
from reference_model.value_tables import weighted_sum

BITS = 16


class Hash(Selector):
    """Signs of the first elements as a number, spread over the rows for each read."""

    def __init__(self, rows: int, reads: int) -> None:
        super().__init__("rows", population=rows, draws=1, heads=reads)

    def forward(self, x: Tensor) -> Tensor:
        """[N, D] to rows [N, m]."""
        signs = (x[:, :BITS] > 0).to(torch.int64)
        number = (signs << torch.arange(signs.shape[1], device=x.device)).sum(-1, keepdim=True)
        factors = 2 * torch.arange(self.heads, device=x.device) + 40503
        rows = (number * factors + factors) % self.population
        if self.synthetic_choice is not None:
            rows = self.synthetic_choice[: rows.shape[0]]
        self.selected = rows
        return rows


class RowSum(Leaf):
    """The sum of the rows."""

    weight: nn.Parameter

    def __init__(self, factory: Factory, rows: int) -> None:
        super().__init__()
        self.register(
            "weight", factory.normal(rows, factory.hidden_size, std=0.02), "memory_values"
        )

    def forward(self, rows: Tensor) -> Tensor:
        """Rows [N, m] to [N, D]."""
        ones = torch.ones(*rows.shape, 1, device=rows.device, dtype=self.weight.dtype)
        return weighted_sum(self.weight, rows, ones)


@runs(HashMemory)
class HashLayer(nn.Module):
    """One layer with a table of its own."""

    def __init__(self, factory: Factory, config: HashMemory, **_: object) -> None:
        super().__init__()
        self.hash = Hash(config.num_rows, config.num_reads)
        self.rows = RowSum(factory, config.num_rows)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        out: Tensor = self.rows(self.hash(x.flatten(0, -2)))
        return out.view_as(x)
