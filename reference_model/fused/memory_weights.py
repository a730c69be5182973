"""What the kernels of a memory layer read: sizes and weights of UltraMem, PKM, Memory+ and PEER.

Weights are the leaves' own parameters, but for the keys: kernels multiply queries that are not
normed yet, so that the weight of the queries' norm must be part of the keys. These are prepared
once, as a copy (98 MB of UltraMemV2-1B/7B's 14 GB), when a plan is made; so a plan is made for
weights that stay as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reference_model.kernels.memory import MemorySizes, MemoryWeights
from reference_model.layers import Linear
from reference_model.leaf import Selector, joined, rms_norm
from reference_model.peer import PeerLayer
from reference_model.product_key import ProductKeyLayer, ProductQuery, ProductRetrieve
from reference_model.ultramem import UltraMemLayer

MemoryLayer = UltraMemLayer | ProductKeyLayer | PeerLayer


@dataclass(frozen=True, slots=True)
class Projection:
    """The first product of a memory layer, as `launch_product` takes a leaf."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryParts:
    """A memory layer as its kernels see it.

    Attributes:
        retrieve: The leaf that chooses rows.
        first: The product of the token with all that it is multiplied by.
        leaves: Those that this product does.
        rows: The leaves of the tables, whose work one launch does.
        output: The last product; None: the sum of the rows is what the layer gives.
    """

    sizes: MemorySizes
    weights: MemoryWeights
    retrieve: Selector
    first: Projection
    leaves: tuple[str, ...]
    rows: tuple[str, ...]
    output: Linear | None


@torch.no_grad()
def parts_of(layer: MemoryLayer) -> MemoryParts:
    """Take a memory layer apart, and prepare its keys."""
    if isinstance(layer, UltraMemLayer):
        return _ultramem(layer)
    return _peer(layer) if isinstance(layer, PeerLayer) else _product_key(layer)


def _projection(
    weights: Sequence[nn.Parameter], biases: Sequence[nn.Parameter | None]
) -> Projection:
    some = [bias for bias in biases if bias is not None]
    assert len(some) in (0, len(weights)), "all leaves of a product have a bias, or none"
    return Projection(joined(weights), joined(some) if some else None)


def _ultramem(layer: UltraMemLayer) -> MemoryParts:
    config, retrieve, values = layer.config, layer.retrieve, layer.values
    keys = retrieve.keys if retrieve.folded else rms_norm(retrieve.keys, retrieve.key_norm)
    sizes = MemorySizes(
        key_dim=config.key_dim, keys=retrieve.num_keys,
        kept=min(config.first_stage_topk or config.knn, retrieve.num_keys), reads=config.knn,
        value_dim=config.value_dim, pre_value_dim=config.pre_value_dim, heads=config.num_heads,
        ranks=config.tucker_rank, cores=config.tucker_cores, queries=config.num_queries,
        expansion=config.value_expansion**2, sums=config.output_groups,
    )  # fmt: skip
    weighs = config.pre_value_dim is not None
    weights = MemoryWeights(
        keys=(keys * layer.query.norm).contiguous(), merge=torch.stack([retrieve.u, retrieve.v]),
        cores=retrieve.cores, permutation=retrieve.permutation, values=values.weight,
        pre_values=layer.pre_values.weight if weighs else None, offset=values.view.offset,
    )  # fmt: skip
    first = [layer.query.weight, layer.pre_projection.weight] if weighs else [layer.query.weight]
    return MemoryParts(
        sizes=sizes, weights=weights, retrieve=retrieve,
        first=_projection(first, [None] * len(first)),
        leaves=("memory.query", "memory.pre_projection") if weighs else ("memory.query",),
        rows=("memory.pre_values", "memory.values") if weighs else ("memory.values",),
        output=layer.output,
    )  # fmt: skip


def _product_key(layer: ProductKeyLayer) -> MemoryParts:
    gate, query = layer.gate, layer.query
    sizes = _product_sizes(
        layer.retrieve, query, value_dim=layer.values.weight.shape[1], gated=gate is not None
    )
    weights = _product_weights(layer.retrieve, query, values=layer.values.weight)
    first = [query.weight] if gate is None else [query.weight, gate.weight]
    biases = [query.bias] if gate is None else [query.bias, gate.bias]
    return MemoryParts(
        sizes=sizes, weights=weights, retrieve=layer.retrieve, first=_projection(first, biases),
        leaves=("memory.query",) if gate is None else ("memory.query", "memory.gate"),
        rows=("memory.values",), output=layer.output,
    )  # fmt: skip


def _peer(layer: PeerLayer) -> MemoryParts:
    width = layer.up.weight.shape[1]
    sizes = _product_sizes(
        layer.retrieve, layer.query, value_dim=width, pre_value_dim=width, neurons=True
    )
    weights = _product_weights(
        layer.retrieve, layer.query, values=layer.up.weight, pre_values=layer.down.weight
    )
    return MemoryParts(
        sizes=sizes, weights=weights, retrieve=layer.retrieve,
        first=_projection([layer.query.weight], [layer.query.bias]), leaves=("memory.query",),
        rows=("memory.down", "memory.up"), output=None,
    )  # fmt: skip


def _product_sizes(
    retrieve: ProductRetrieve,
    query: ProductQuery,
    *,
    value_dim: int,
    pre_value_dim: int | None = None,
    gated: bool = False,
    neurons: bool = False,
) -> MemorySizes:
    heads, _, key_dim = query.shape
    return MemorySizes(
        key_dim=key_dim, keys=retrieve.num_keys, kept=min(retrieve.knn, retrieve.num_keys),
        reads=retrieve.knn, value_dim=value_dim, pre_value_dim=pre_value_dim, heads=heads,
        ranks=1, cores=1, queries=heads, product_keys=True, normed="norm" in query.groups,
        shared_keys=retrieve.keys.shape[1] < heads, own_rows=retrieve.population_per_head,
        gated=gated, neurons=neurons,
    )  # fmt: skip


def _product_weights(
    retrieve: ProductRetrieve,
    query: ProductQuery,
    *,
    values: Tensor,
    pre_values: Tensor | None = None,
) -> MemoryWeights:
    keys: Tensor = retrieve.keys
    if not retrieve.folded:
        keys = rms_norm(keys, retrieve.key_norm)
    if "norm" in query.groups:
        keys = keys * query.norm
    return MemoryWeights(
        keys=keys.unsqueeze(2).contiguous(), merge=None, cores=None, permutation=None,
        values=values, pre_values=pre_values,
    )  # fmt: skip
