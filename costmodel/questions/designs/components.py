"""The components that a design is the sum of: its backbone, each FFN and each memory kind.

A component is costed once under one grid of workloads, however many designs have it, and together
with others whose operators have the same structure.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from math import prod
from operator import attrgetter
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from costmodel.backends import BACKENDS, kernels_of
from costmodel.costs.footprint import footprint, hot_rows_bytes, stored_bytes
from costmodel.costs.gpu import Gpu
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import Unknown
from costmodel.costs.operators import build_operators
from costmodel.costs.placement import check_host_memory, stored_in
from costmodel.costs.storage import kind_operators
from costmodel.costs.totals import KvCache, kept_bytes, parameter_counts, totals
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig, Override
from costmodel.inputs.workload import Workload
from costmodel.layers.base import LayerKind, MemoryKind
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Step
from costmodel.questions.designs.batched import OperatorBatch, structure

Floats: TypeAlias = NDArray[np.float64]

BATCH_POINTS = 2**16  # designs x workloads costed together: an array of them fits a cache
KEPT_POINTS = 500_000  # components x workloads kept at once: some 30 MB
NO_CACHE = KvCache(
    bytes_per_token=0,
    stored_bytes=0,
    read_bytes=0,
    written_bytes=0,
    state_bytes_per_sequence=0,
    state_bytes=0,
)

NOT_COSTED = frozenset({"name", "source", "published", "notes", "assumptions", "storage"})
"""Fields of a model that change no cost; any other field tells components apart."""
_backbone_fields = attrgetter(
    *(
        config_field.name
        for config_field in fields(ModelConfig)
        if config_field.name not in NOT_COSTED | {"ffn", "memory", "overrides", "shortcuts"}
    )
)
_override_fields = attrgetter(
    *(config_field.name for config_field in fields(Override) if config_field.name != "ffn")
)


KindKey: TypeAlias = tuple[tuple[int, ...], int, LayerKind, int]
"""Layers, hidden size, the layer kind with all its fields, and the width of the residual stream.

The first three make its operators; the last stands in the bytes that are resident with them."""


def component_keys(model: ModelConfig) -> tuple[Hashable, list[KindKey]]:
    """What tells the components of a design apart: a key of the backbone, then one of each kind.

    A kind's operators depend on its site alone, so its key is what makes the site. The backbone's
    key holds all other fields of the model that can change a cost, and of the FFNs and memory
    layers where they stand and how many past token ids they need.
    """
    width = model.hidden_size
    placements = tuple(memory.placement(model.num_hidden_layers) for memory in model.memory)
    ffns: list[KindKey] = [
        (layers, width, ffn, model.stream_width) for ffn, layers in model.ffn_groups
    ]
    memories: list[KindKey] = [
        (tuple(layer for layer, _ in placement), width, memory, model.stream_width)
        for memory, placement in zip(model.memory, placements, strict=True)
    ]
    backbone = (
        _backbone_fields(model),
        tuple(map(_override_fields, model.overrides)),
        tuple(layers for layers, *_ in ffns),
        placements,
        tuple(model.shortcut_placements),
        tuple((memory.position, memory.attribute, memory.past_ids) for memory in model.memory),
    )
    return backbone, [*ffns, *memories]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stored:
    """What a component stores, exactly; no tensor belongs to two, so that designs are sums."""

    parameters: int  # those of embedding and head left out
    active_parameters: int
    weights_bytes: int  # in HBM; buffers and cached rows among them, and in the backbone towers
    kv_bytes: Number  # the KV cache, which the backbone has
    state_bytes: Number  # fixed states of all sequences


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Component:
    """What one layer kind costs in all its layers, or the backbone: all but FFNs and memory."""

    stored: Stored
    launches: Number | None  # None where no time is predicted
    compulsory_bytes: Floats  # batches x contexts, as all below
    link_bytes: Floats  # of tables outside HBM
    disk_bytes: Floats
    flops: Floats
    flops_at_peak: Floats  # `Ceilings.at_peak`
    activations_bytes: Floats  # of the widest operator, with the residual stream
    graph_s: Floats  # 0 where no time is predicted


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Batch:
    """Components of one structure that wait to be costed."""

    width: int
    operators: OperatorBatch
    stored: dict[Hashable, Stored] = field(default_factory=dict)  # by the component's key


class ComponentPricer:
    """Costs components under one grid of workloads on one GPU."""

    unknown: Unknown | None = None  # why there is no predicted time

    def __init__(
        self, step: Step, workload: Workload, hardware: Hardware, calibration: Curves | Unknown
    ) -> None:
        self._gpu = Gpu(hardware=hardware, calibration=calibration)
        self.ceilings = self._gpu.ceilings(workload)
        self._step, self._workload, self._hardware = step, workload, hardware
        self._backend = BACKENDS[workload.backend]
        self._capacity_bytes = hardware.capacity_bytes
        self._workloads = np.broadcast_shapes(np.shape(step.batch), np.shape(step.cached))
        self._waiting: dict[Hashable, _Batch] = {}  # by width and structure
        self._components: dict[Hashable, Component] = {}
        self._seen: set[Hashable] = set()  # costed or waiting

    def components(self, designs: Sequence[ModelConfig]) -> Iterator[list[Component]]:
        """Of each design its backbone, then each FFN and each memory kind."""
        points = prod(self._workloads)
        together = max(1, BATCH_POINTS // points)
        for first in range(0, len(designs), together):
            if len(self._components) * points >= KEPT_POINTS:
                self._components.clear()
                self._seen.clear()
            keys = [self._keys(model) for model in designs[first : first + together]]
            for batch in self._waiting.values():
                self._cost(batch)
            self._waiting.clear()
            for keys_of_design in keys:
                yield [self._components[key] for key in keys_of_design]

    def _keys(self, model: ModelConfig) -> list[Hashable]:
        """The keys of a design's components; new ones are set to wait."""
        backbone: Hashable
        backbone, kinds = component_keys(model)
        # A kernel may span two components, and a fetch hides behind others: designs costed whole.
        if self._backend.spans or self._step.placement.moves:
            backbone, kinds = (backbone, *kinds), []
        if backbone not in self._seen:
            elsewhere = {operator.path for key in kinds for operator in self._operators(key)}
            operators = [
                operator
                for operator in build_operators(model, self._step)
                if operator.path not in elsewhere
            ]
            kv_bytes, state_bytes = kept_bytes(model, self._step)
            for key in kinds:  # memory layers keep their states in their own components
                state_bytes -= self._state_bytes(key)
            self._wait(
                backbone,
                operators,
                model.stream_width,
                state_bytes=state_bytes,
                kv_bytes=kv_bytes,
                towers_bytes=model.towers_bytes,
            )
        for key in kinds:
            if key not in self._seen:
                self._wait(
                    key,
                    self._operators(key),
                    model.stream_width,
                    state_bytes=self._state_bytes(key),
                )
        return [backbone, *kinds]

    def _state_bytes(self, key: KindKey) -> int:
        """Bytes that all layers of a memory kind keep of one sequence; 0 of another kind."""
        blocks, width, kind, _ = key
        if not isinstance(kind, MemoryKind):
            return 0
        return len(blocks) * kind.state_bytes(width, self._step)

    def _operators(self, key: KindKey) -> list[Operator]:
        layers, width, kind, _ = key
        return kind_operators(kind, layers, width, self._step)

    def _wait(
        self,
        key: Hashable,
        operators: Sequence[Operator],
        width: int,
        *,
        state_bytes: int,
        kv_bytes: Number = 0,
        towers_bytes: int = 0,
    ) -> None:
        placement = self._step.placement
        check_host_memory(stored_in(operators, self._step, "host"), self._hardware, placement)
        counts = parameter_counts(operators)
        like = (
            width,
            structure(operators, kernels_of(self._workload.backend, operators, self._step)),
        )
        if like not in self._waiting:
            self._waiting[like] = _Batch(width=width, operators=OperatorBatch(operators))
        self._waiting[like].operators.add(operators)
        self._waiting[like].stored[key] = Stored(
            parameters=counts.total_without_embeddings,
            active_parameters=counts.active_without_embeddings,
            weights_bytes=sum(stored_bytes(operators, self._step))
            + hot_rows_bytes(operators, self._step)
            + towers_bytes,
            kv_bytes=kv_bytes,
            state_bytes=self._step.batch * state_bytes,
        )
        self._seen.add(key)

    def _cost(self, batch: _Batch) -> None:
        operators = batch.operators.together()
        sums = totals(operators)
        held = footprint(operators, self._step, NO_CACHE, batch.width, self._capacity_bytes)
        time = self._gpu.time(operators, sums, self._workload, self._step)
        if isinstance(time, Unknown):
            self.unknown = time
        moved, link, disk, flops, at_peak, widest, graph_s = (
            np.broadcast_to(number, (len(batch.stored), *self._workloads))
            for number in (
                sums.compulsory_bytes,
                sums.link_bytes,
                sums.disk_bytes,
                sums.flops,
                self.ceilings.at_peak(operators, sums.flops),
                held.activations_bytes,
                0.0 if isinstance(time, Unknown) else time.graph_s,
            )
        )
        kernels = kernels_of(self._workload.backend, operators, self._step)
        launches = None if isinstance(time, Unknown) else kernels.step_launches(operators)
        for i, (key, stored) in enumerate(batch.stored.items()):
            self._components[key] = Component(
                stored=stored,
                launches=launches,
                compulsory_bytes=moved[i],
                link_bytes=link[i],
                disk_bytes=disk[i],
                flops=flops[i],
                flops_at_peak=at_peak[i],
                activations_bytes=widest[i],
                graph_s=graph_s[i],
            )
