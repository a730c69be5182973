"""The pieces that designs are sums of: each layer kind, and what stands around all of them.

Pieces of one structure are costed together, and each once, under one grid of workloads.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from costmodel.backends import BACKENDS
from costmodel.costs.footprint import footprint, stored_bytes
from costmodel.costs.gpu import Gpu
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import Unknown
from costmodel.costs.operators import build_operators
from costmodel.costs.totals import KvCache, kept_bytes, parameter_counts, totals
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Step
from costmodel.layers.site import Site
from costmodel.questions.designs.batched import Stack, structure

Floats: TypeAlias = NDArray[np.float64]

STACKED_POINTS = 2**16  # designs x workloads costed together: an array of them fits a cache
KEPT_POINTS = 500_000  # pieces x workloads kept at once: some 30 MB
NO_CACHE = KvCache(
    bytes_per_token=0,
    stored_bytes=0,
    read_bytes=0,
    written_bytes=0,
    state_bytes_per_sequence=0,
    state_bytes=0,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stored:
    """What a piece stores, exactly; no tensor belongs to two pieces, so that designs are sums."""

    parameters: int  # those of embedding and head left out
    active_parameters: int
    weights_bytes: int  # buffers among them
    kv_bytes: Number


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """What one layer kind costs in all its layers, or all that is no FFN and no memory layer."""

    stored: Stored
    launches: Number
    compulsory_bytes: Floats  # batches x contexts, as all below
    flops: Floats
    activations_bytes: Floats  # of the widest operator, with the residual stream
    graph_s: Floats  # 0 where no time is predicted


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Alike:
    """Pieces of one structure that wait to be costed."""

    width: int
    stack: Stack
    stored: dict[object, Stored] = field(default_factory=dict)


class Pricer:
    """Costs pieces under one grid of workloads on one GPU."""

    unknown: Unknown | None = None  # why there is no predicted time

    def __init__(
        self, step: Step, workload: Workload, hardware: Hardware, calibration: Curves | Unknown
    ) -> None:
        self._gpu = Gpu(hardware=hardware, calibration=calibration)
        self.ceilings = self._gpu.ceilings(workload)
        self._step, self._workload = step, workload
        self._backend = BACKENDS[workload.backend]
        self._capacity_bytes = hardware.capacity_bytes
        self._workloads = np.broadcast_shapes(np.shape(step.batch), np.shape(step.cached))
        self._waiting: dict[object, _Alike] = {}
        self._known: dict[object, Piece] = {}
        self._seen: set[object] = set()  # known or waiting

    def pieces(self, designs: Sequence[ModelConfig]) -> Iterator[list[Piece]]:
        """Of each design its trunk, then each FFN and each memory kind."""
        points = prod(self._workloads)
        together = max(1, STACKED_POINTS // points)
        for first in range(0, len(designs), together):
            if len(self._known) * points >= KEPT_POINTS:
                self._known.clear()
                self._seen.clear()
            keys = [self._keys(model) for model in designs[first : first + together]]
            for alike in self._waiting.values():
                self._cost(alike)
            self._waiting.clear()
            for each in keys:
                yield [self._known[key] for key in each]

    def _keys(self, model: ModelConfig) -> list[object]:
        """What tells the pieces of a design apart; new ones are set to wait."""
        width, ffns = model.hidden_size, model.ffn_groups
        kinds: list[tuple[Any, tuple[int, ...]]] = [*ffns]
        placements = [each.placement(model.num_hidden_layers) for each in model.memory]
        for memory, placed in zip(model.memory, placements, strict=True):
            kinds.append((memory, tuple(layer for layer, _ in placed)))
        trunk = (
            *(width, model.vocab_size, model.tie_word_embeddings, model.post_norms),
            *(model.num_hidden_layers, model.attention),
            tuple((each.layers, each.attention) for each in model.overrides),
            tuple(layers for _, layers in ffns),
            tuple(placements),
        )
        if trunk not in self._seen:
            operators = build_operators(model, self._step)
            elsewhere = {each.path for kind in kinds for each in self._operators(kind, width)}
            around = [each for each in operators if each.path not in elsewhere]
            stored, state = kept_bytes(model, self._step)
            self._wait(trunk, around, width, stored + self._step.batch * state)
        found: list[object] = [trunk]
        for kind in kinds:
            key = (*kind, width)
            found.append(key)
            if key not in self._seen:
                self._wait(key, self._operators(kind, width), width, 0)
        return found

    def _operators(self, kind: tuple[Any, tuple[int, ...]], width: int) -> list[Operator]:
        found: list[Operator] = kind[0].operators(Site.of(kind[1], width, kind[0]), self._step)
        return found

    def _wait(
        self, key: object, operators: Sequence[Operator], width: int, kv_bytes: Number
    ) -> None:
        counts = parameter_counts(operators)
        like = width, structure(operators, self._backend)
        if like not in self._waiting:
            self._waiting[like] = _Alike(width=width, stack=Stack(operators))
        self._waiting[like].stack.add(operators)
        self._waiting[like].stored[key] = Stored(
            parameters=counts.total_without_embeddings,
            active_parameters=counts.active_without_embeddings,
            weights_bytes=sum(stored_bytes(operators, self._step)),
            kv_bytes=kv_bytes,
        )
        self._seen.add(key)

    def _cost(self, alike: _Alike) -> None:
        operators = alike.stack.operators()
        sums = totals(operators)
        held = footprint(operators, self._step, NO_CACHE, alike.width, self._capacity_bytes)
        time = self._gpu.time(operators, sums, self._workload)
        if isinstance(time, Unknown):
            self.unknown = time
        moved, flops, widest, graph_s = (
            np.broadcast_to(number, (len(alike.stored), *self._workloads))
            for number in (
                sums.compulsory_bytes,
                sums.flops,
                held.activations_bytes,
                0.0 if isinstance(time, Unknown) else time.graph_s,
            )
        )
        for i, (key, stored) in enumerate(alike.stored.items()):
            self._known[key] = Piece(
                stored=stored,
                launches=self._backend.total_launches(operators),
                compulsory_bytes=moved[i],
                flops=flops[i],
                activations_bytes=widest[i],
                graph_s=graph_s[i],
            )
