"""N-gram embedding at the input (LongCat-Flash-Lite): the word's row and rows of hashed n-grams.

Leaves in order: hash, rows, project.

Shapes: B sequences, T new tokens, N = B T, h past ids, D hidden, G tables of D / G values a row.
"""

from itertools import accumulate

import torch
from torch import Tensor, nn

from costmodel.layers.ngram_embedding import NgramEmbedding
from reference_model.leaf import Factory, Leaf, Selector
from reference_model.lookup import AddressedRows, Known
from reference_model.registry import runs


class PolynomialHash(Selector):
    """The row of each table that the last ids of a token address.

    Before the first token of a sequence stand ids of -1 (`cache.NO_TOKEN`), which no token has.
    """

    moduli: Tensor  # [G] rows of each table
    starts: Tensor  # [G] first row of each table among those of all

    def __init__(self, factory: Factory, config: NgramEmbedding) -> None:
        tables = config.table_rows()
        super().__init__(
            "rows", population=max(tables), draws=1, heads=len(tables), populations=tables
        )
        self.orders, self.splits = config.orders, config.emb_split_num
        self.base, self.past = config.vocab_size, config.past_ids
        for name, values in (("moduli", tables), ("starts", (0, *accumulate(tables[:-1])))):
            self.register_buffer(name, torch.tensor(values, device=factory.device))

    def forward(self, window: Tensor) -> Tensor:
        """Ids [B, h + T], h of them past, to rows among those of all tables, [N, G]."""
        new = window.shape[1] - self.past
        ids = [  # by distance from the token
            window.narrow(1, self.past - back, new).reshape(-1, 1) for back in range(self.past + 1)
        ]
        columns = []
        for order, moduli in zip(self.orders, self.moduli.split(self.splits), strict=True):
            value = ids[order - 1] % moduli
            for back in range(order - 2, -1, -1):
                value = (value * self.base + ids[back]) % moduli
            columns.append(value)
        rows = torch.cat(columns, dim=1) + self.starts
        if self.synthetic_choice is not None:
            rows = self.synthetic_choice[: rows.shape[0]]
        self.selected = rows
        return rows


class Project(Leaf):
    """The projections of all tables' rows, summed, and their mean with the word's row."""

    weight: nn.Parameter  # [D, D]: the matrices of the tables side by side

    def __init__(self, factory: Factory, tables: int) -> None:
        super().__init__()
        weight = factory.normal(factory.hidden_size, factory.hidden_size)
        self.register("weight", weight, "memory_projections")
        self.parts = 1 + tables

    def forward(self, words: Tensor, values: Tensor) -> Tensor:
        """Rows of the words [B, T, D] and of the tables [N, D] to the embedding [B, T, D]."""
        return (words + nn.functional.linear(values.view_as(words), self.weight)) / self.parts


@runs(NgramEmbedding)
class NgramEmbeddingLayer(nn.Module):
    """The embedding of a model's tokens by themselves and by the n-grams that they end."""

    def __init__(self, factory: Factory, config: NgramEmbedding, *, num_layers: int) -> None:
        super().__init__()
        del num_layers
        tables = config.num_tables
        self.past = config.past_ids
        self.hash = PolynomialHash(factory, config)
        width = factory.hidden_size // tables
        self.rows = AddressedRows(factory, sum(config.table_rows()), width, std=1.0)
        self.project = Project(factory, tables)

    def forward(self, stream: Tensor, known: Known) -> Tensor:
        """The words' rows [B, T, D] to the embedding [B, T, D]."""
        out: Tensor = self.project(stream, self.rows(self.hash(known.last(self.past))))
        return out
