"""PEER: a mixture of n^2 experts of one neuron each, of which product keys select m a head.

Leaves in order: query, retrieve, down, up. An expert is a row of `down` (its input weights) and a
row of `up` (its output weights). Where each head has experts of its own, the tables hold those of
the first head, then those of the next.

Shapes: N tokens, D hidden, H heads, m experts per token and head. Source: arXiv 2407.04153.
"""

from torch import Tensor, nn

from costmodel.layers.peer import Peer
from reference_model.leaf import Factory, Leaf
from reference_model.product_key import ProductQuery, ProductRetrieve, ProductValues
from reference_model.registry import runs
from reference_model.value_tables import TABLE_STD, TableView, dots


class Down(Leaf):
    """The activation of each selected neuron: GELU of a dot product, times the router's weight."""

    weight: nn.Parameter

    def __init__(self, table: nn.Parameter) -> None:
        super().__init__()
        self.register("weight", table, "memory_values")

    def forward(self, x: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        """Tokens [N, D], row indices and weights [N, H m] to activations [N, H m]."""
        return nn.functional.gelu(dots(self.weight, rows, x), approximate="tanh") * weights


@runs(Peer)
class PeerLayer(nn.Module):
    """One PEER layer; its tables may be those that all layers of its configuration share."""

    def __init__(
        self,
        factory: Factory,
        config: Peer,
        *,
        index: int,
        num_layers: int,
        tables: dict[str, nn.Parameter],
    ) -> None:
        super().__init__()
        del index, num_layers
        self.query = ProductQuery(factory, config.num_heads, config.key_dim, norm=config.query_norm)
        self.retrieve = ProductRetrieve(
            factory,
            heads=config.num_heads,
            num_keys=config.num_keys,
            knn=config.knn,
            key_dim=config.key_dim,
            shared_keys=config.shared_keys,
            table_per_head=config.table_per_head,
        )
        rows = config.num_keys**2 * (config.num_heads if config.table_per_head else 1)
        for name in ("down", "up"):
            if not config.shared_table or name not in tables:
                tables[name] = factory.normal(rows, factory.hidden_size, std=TABLE_STD)
        self.down = Down(tables["down"])
        self.up = ProductValues(TableView(table=tables["up"], offset=0))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        flat = x.flatten(0, -2)
        rows, weights = self.retrieve(self.query(flat))
        out: Tensor = self.up(rows, self.down(flat, rows, weights))
        return out.view_as(x)
