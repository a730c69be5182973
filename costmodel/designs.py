"""Many designs of a model under many workloads: a few totals of each, fast.

The designs of a sweep differ in a layer kind or two. Each kind, and what stands around all of them,
is costed once for the whole grid of workloads; a design is a sum of such pieces. The numbers are
those of `predict`, in double precision.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from costmodel.build import build_operators, residual_adds
from costmodel.costs.curves import Curves
from costmodel.costs.footprint import footprint
from costmodel.costs.predicted import Unknown, step_time
from costmodel.costs.time import floor_s
from costmodel.costs.totals import KvCache, kv_cache, parameter_counts, totals
from costmodel.inputs.config import ModelConfig
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.operator import Number, Operator, Site, Step, larger

Quantity: TypeAlias = Literal[
    "parameters.total_without_embeddings",
    "parameters.active_without_embeddings",
    "hbm_bytes.compulsory",
    "flops.total",
    "kv_cache.stored_bytes",
    "memory.total_bytes",
    "time.floor_s",
    "time.predicted_s",
]
KEPT_POINTS = 500_000  # pieces x workloads kept at once: some 30 MB
NO_CACHE = KvCache(bytes_per_token=0, stored_bytes=0, read_bytes=0, written_bytes=0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluated:
    """Quantities of designs x batches x contexts, by their names in the JSON of a prediction."""

    columns: dict[Quantity, NDArray[np.float64]]  # without time.predicted_s where it is not known
    not_predicted: str | None  # why


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Piece:
    """What one layer kind costs in all its layers, or all that is no FFN and no memory layer."""

    operators: tuple[Operator, ...]  # without their parts, which hold most of the numbers
    compulsory_bytes: Number
    flops: Number
    launches: Number
    stored_bytes: int  # weights and buffers
    activations_bytes: Number  # of the widest operator, with the residual stream
    kv: KvCache
    graph_s: Number | Unknown


def evaluate(
    designs: Sequence[ModelConfig],
    workload: Workload,
    hardware: Hardware,
    calibration: Curves | Unknown,
    *,
    batches: Sequence[int],
    contexts: Sequence[int],
) -> Evaluated:
    """What `predict` gives for every design, batch and context, all else as `workload`.

    A `calibration` that is Unknown leaves the predicted time out, which takes half the time.
    """
    step = workload.step(
        batch=np.array(batches, np.float64).reshape(-1, 1),  # no total wraps
        context=np.array(contexts, np.float64).reshape(1, -1),
    )
    pricer = _Pricer(step, workload, hardware, calibration)
    shape = len(designs), len(batches), len(contexts)
    names: tuple[Quantity, ...] = Quantity.__args__  # type: ignore[attr-defined]
    columns = {name: np.empty(shape) for name in names}
    unknown: Unknown | None = None
    for index, model in enumerate(designs):
        pieces = pricer.pieces(model)
        counts = parameter_counts(tuple(op for piece in pieces for op in piece.operators))
        columns["parameters.total_without_embeddings"][index] = counts.total_without_embeddings
        columns["parameters.active_without_embeddings"][index] = counts.active_without_embeddings
        moved: Any = sum(piece.compulsory_bytes for piece in pieces)
        flops: Any = sum(piece.flops for piece in pieces)
        stored: Any = pieces[0].kv.stored_bytes
        widest: Number = 0
        for piece in pieces:
            widest = larger(widest, piece.activations_bytes)
        columns["hbm_bytes.compulsory"][index] = moved
        columns["flops.total"][index] = flops
        columns["kv_cache.stored_bytes"][index] = stored
        held = sum(piece.stored_bytes for piece in pieces)
        columns["memory.total_bytes"][index] = held + stored + widest
        floor = floor_s(moved, flops, *pricer.peaks)
        columns["time.floor_s"][index] = floor
        seconds = pricer.predicted_s(pieces, floor)
        if isinstance(seconds, Unknown):
            unknown = seconds
        else:
            columns["time.predicted_s"][index] = seconds
    if unknown is not None:
        del columns["time.predicted_s"]
    return Evaluated(columns=columns, not_predicted=None if unknown is None else unknown.reason)


class _Pricer:
    """Costs pieces under one grid of workloads on one GPU, each once."""

    def __init__(
        self, step: Step, workload: Workload, hardware: Hardware, calibration: Curves | Unknown
    ) -> None:
        self.peaks = hardware.hbm_bytes_per_s, hardware.peak_flops_per_s(workload.dtype.name)[0]
        self._step, self._workload = step, workload
        self._capacity_bytes, self._calibration = hardware.capacity_bytes, calibration
        self._seen: dict[object, _Piece] = {}

    def pieces(self, model: ModelConfig) -> list[_Piece]:
        """The trunk, then each FFN and each memory kind of a model."""
        found, width = [], model.hidden_size
        kinds: list[tuple[Any, tuple[int, ...]]] = [*model.ffn_groups]
        for memory in model.memory:
            placed = memory.placement(model.num_hidden_layers)
            kinds.append((memory, tuple(layer for layer, _ in placed)))
        for kind, layers in kinds:
            key = (kind, layers, width)
            piece = self._seen.get(key)
            if piece is None:
                piece = self._priced(kind.operators(Site.of(layers, width), self._step), width)
                self._keep(key, piece)
            found.append(piece)
        trunk = (
            *(width, model.vocab_size, model.tie_word_embeddings, model.post_norms),
            tuple(model.attention_groups),
            tuple(residual_adds(model)),
            tuple(layers for _, layers in model.ffn_groups),
        )
        around = self._seen.get(trunk)
        if around is None:
            paths = {operator.path for piece in found for operator in piece.operators}
            operators = build_operators(model, self._step)
            around = self._priced([o for o in operators if o.path not in paths], width, model)
            self._keep(trunk, around)
        return [around, *found]

    def predicted_s(self, pieces: Sequence[_Piece], floor: Number) -> Number | Unknown:
        """As `step_time` says: decode as a graph, prefill launched one by one."""
        graph: Number = 0.0
        for piece in pieces:
            if isinstance(piece.graph_s, Unknown):
                return piece.graph_s
            graph = graph + piece.graph_s
        assert isinstance(self._calibration, Curves)
        graph = larger(graph, floor)
        if self._workload.phase == "decode":
            return graph
        launches: Any = sum(piece.launches for piece in pieces)
        return larger(graph, launches * self._calibration.eager_s)

    def _keep(self, key: object, piece: _Piece) -> None:
        if len(self._seen) * np.size(self._step.tokens * self._step.cached) >= KEPT_POINTS:
            self._seen.clear()
        self._seen[key] = piece

    def _priced(
        self, operators: Sequence[Operator], width: int, model: ModelConfig | None = None
    ) -> _Piece:
        """The operators' sums; the KV cache is that of the trunk, which needs `model`."""
        sums = totals(operators)
        kv = NO_CACHE if model is None else kv_cache(model, self._step, sums)
        held = footprint(operators, self._step, kv, width, self._capacity_bytes)
        time = step_time(
            self._calibration,
            self._workload,
            operators,
            sums,
            hbm_bytes_per_s=self.peaks[0],
            peak_flops_per_s=self.peaks[1],
        )
        return _Piece(
            operators=tuple(replace(each, parts=(), touched=None) for each in operators),
            compulsory_bytes=sums.compulsory_bytes,
            flops=sums.flops,
            launches=getattr(sums, f"launches_{self._workload.backend}"),
            stored_bytes=held.weights_bytes + held.buffers_bytes,
            activations_bytes=held.activations_bytes,
            kv=kv,
            graph_s=time if isinstance(time, Unknown) else time.graph_s,
        )
