"""Weights of memory layers for the benchmark, and their dense products.

Layers with dense weights and permutations of their own take turns in one graph, and share their
tables, so that neither weights nor rows are found in the L2; each layer's window begins elsewhere.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from costmodel.inputs.catalog import load_model
from costmodel.layers.ultramem import UltraMem
from reference_model.fused.memory_weights import Projection
from reference_model.fused.plan import Plan
from reference_model.fused.products import launch_product
from reference_model.kernels.memory import MemorySizes, MemoryWeights

COLD_BYTES = 200e6  # of dense weights that take turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A layer's sizes, under the name of the model that has it."""

    name: str
    hidden: int
    sizes: MemorySizes
    table_rows: int

    @classmethod
    def of(cls, name: str) -> "Shape":
        """Of a preset whose layers all have such a memory."""
        config = load_model(name)
        (memory,) = config.memory
        assert isinstance(memory, UltraMem)
        layers = config.num_hidden_layers
        keys = memory.row_keys(layers) * memory.value_expansion
        sizes = MemorySizes(
            key_dim=memory.key_dim, keys=keys,
            kept=min(keys, memory.first_stage_topk or memory.knn), reads=memory.knn,
            value_dim=memory.value_dim, pre_value_dim=memory.pre_value_dim,
            heads=memory.num_heads, ranks=memory.tucker_rank, cores=memory.tucker_cores,
            queries=memory.num_queries, expansion=memory.value_expansion**2,
            sums=memory.output_groups,
        )  # fmt: skip
        return cls(
            name=config.name, hidden=config.hidden_size, sizes=sizes,
            table_rows=memory.table_rows(layers),
        )  # fmt: skip

    @property
    def dense_bytes(self) -> int:
        """Both products' weights and the keys."""
        s = self.sizes
        keys = 2 * s.heads * s.ranks * s.keys * s.key_dim
        return 2 * (self.hidden * (s.projected + s.sums * s.value_dim) + keys)


class Dense:
    """A dense product out [T, N] = x [T, K] weight^T of each layer, as a fused step does it."""

    def __init__(self, weights: list[Tensor], x: Tensor, out: Tensor, *, pdl: bool) -> None:
        plan = Plan(*x.shape, device=x.device, dtype=x.dtype, pdl=pdl)
        for weight in weights:
            launch_product(plan, "", x, Projection(weight, None), out)
        self.launches = plan.launches

    def run(self, layer: int) -> None:
        """The product of one layer."""
        self.launches[layer].run()


class Model:
    """Weights of several layers of one shape, with the tables that they share."""

    def __init__(self, shape: Shape, draws: torch.Generator, count: int | None = None) -> None:
        s, self.shape, self.draws = shape.sizes, shape, draws
        count = count or -(-int(COLD_BYTES) // shape.dense_bytes)
        self.count = count
        mixed = s.sums * s.value_dim
        self.first = [self._normal(s.projected, shape.hidden) for _ in range(count)]
        self.last = [self._normal(shape.hidden, mixed) for _ in range(count)]
        values = self._normal(shape.table_rows, s.value_dim)
        pre = None
        if s.pre_value_dim is not None:
            pre = self._normal(shape.table_rows, s.pre_value_dim)
        self.layers = [self._layer(values, pre, layer) for layer in range(count)]

    def _normal(self, *size: int) -> Tensor:
        empty = torch.empty(size, device="cuda", dtype=torch.bfloat16)
        return empty.normal_(0, size[-1] ** -0.5, generator=self.draws)

    def _layer(self, values: Tensor, pre: Tensor | None, layer: int) -> MemoryWeights:
        s = self.shape.sizes
        size = s.cores, s.heads, s.ranks, s.ranks
        cores = torch.rand(size, device="cuda", generator=self.draws).bfloat16()
        left, _, right = torch.linalg.svd(cores.double().cpu().sum(0))
        u, v = left[..., 0], right[..., 0, :]
        sign = torch.where(u.sum(-1, keepdim=True) < 0, -1.0, 1.0)
        return MemoryWeights(
            keys=self._normal(2, s.heads, s.ranks, s.keys, s.key_dim),
            merge=torch.stack([u * sign, v * sign]).float().cuda(), cores=cores,
            permutation=torch.randperm(s.keys**2, device="cuda", generator=self.draws),
            values=values, pre_values=pre,
            offset=self.shape.table_rows * layer // self.count,
        )  # fmt: skip
