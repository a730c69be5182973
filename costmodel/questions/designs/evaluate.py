"""Many designs of a model under many workloads: a few totals of each, fast.

The designs of a sweep differ in a layer kind or two. Each layer kind, and the backbone around them,
is costed once for the whole grid of workloads, together with those of other sizes; a design is the
sum of such components. The numbers are those of `predict`, in double precision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from costmodel.costs.kernel_times import Curves, Transfer
from costmodel.costs.latency import Unknown
from costmodel.costs.roofline import NEAR, FarBytes
from costmodel.costs.transfer import transfer_of
from costmodel.errors import InputError
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import ONE_GPU
from costmodel.layers.numbers import larger
from costmodel.questions.designs.components import ComponentPricer
from costmodel.questions.sweep import sweep
from costmodel.routing.memo import RoutingMemo

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
MAX_ON_MESHES = 300  # designs: each is costed by itself
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluated:
    """Quantities of designs x batches x contexts, by their names in the JSON of a prediction."""

    columns: dict[Quantity, Floats]  # without time.predicted_s where it is not known
    not_predicted: str | None  # why
    transfer: Transfer | None = None  # of predicted times that were not measured here


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

    Where a checkpoint decides the formats, it is that of the first design: all are made of one.
    A `calibration` that is Unknown leaves the predicted time out. On several GPUs each design is
    costed by itself, on a mesh that fits its largest step.

    Raises:
        InputError: Too many designs for several GPUs, or one that no mesh divides.
    """
    workload = workload.of_model(designs[0])
    if workload.mesh != ONE_GPU:
        return _on_meshes(
            designs, workload, hardware, calibration, batches=batches, contexts=contexts
        )
    step = workload.step(
        batch=np.array(batches, np.float64).reshape(-1, 1),  # no total wraps
        context=np.array(contexts, np.float64).reshape(1, -1),
        routing=RoutingMemo(workload.routing),
    )
    pricer = ComponentPricer(step, workload, hardware, calibration)
    shape = len(designs), len(batches), len(contexts)
    kv, state, moved, link, disk, flops, at_peak, widest, graph_s, launches = (
        np.zeros(shape) for _ in range(10)
    )
    parameters, active, weights = (np.zeros((len(designs), 1, 1)) for _ in range(3))
    for i, components in enumerate(pricer.components(designs)):
        stored = [component.stored for component in components]
        parameters[i] = sum([each.parameters for each in stored])
        active[i] = sum([each.active_parameters for each in stored])
        weights[i] = sum([each.weights_bytes for each in stored])
        kv[i] = stored[0].kv_bytes  # the backbone has the cache
        state[i] = sum([each.state_bytes for each in stored], start=0.0)
        for component in components:
            launches[i] += 0 if component.launches is None else component.launches
            moved[i] += component.compulsory_bytes
            link[i] += component.link_bytes
            disk[i] += component.disk_bytes
            flops[i] += component.flops
            at_peak[i] += component.flops_at_peak
            graph_s[i] += component.graph_s
            widest[i] = larger(widest[i], component.activations_bytes)
    far = FarBytes(link, disk) if workload.placement.moves else NEAR
    floor: Any = pricer.ceilings.floor_s(moved, at_peak, far)
    columns: dict[Quantity, Floats] = {
        "parameters.total_without_embeddings": np.broadcast_to(parameters, shape),
        "parameters.active_without_embeddings": np.broadcast_to(active, shape),
        "hbm_bytes.compulsory": moved,
        "flops.total": flops,
        "kv_cache.stored_bytes": kv,
        "memory.total_bytes": weights + kv + state + widest,
        "time.floor_s": floor,
    }
    unknown = pricer.unknown
    if unknown is None:
        assert isinstance(calibration, Curves)
        predicted: Any = larger(graph_s, floor)
        if workload.phase == "prefill":  # launched one by one, as `step_time` says
            predicted = larger(predicted, launches * calibration.eager_s)
        columns["time.predicted_s"] = predicted
    return Evaluated(
        columns=columns,
        not_predicted=None if unknown is None else unknown.reason,
        transfer=transfer_of(calibration, hardware, workload),
    )


def _on_meshes(
    designs: Sequence[ModelConfig],
    workload: Workload,
    hardware: Hardware,
    calibration: Curves | Unknown,
    *,
    batches: Sequence[int],
    contexts: Sequence[int],
) -> Evaluated:
    """The same on several GPUs: a sweep of each design."""
    if len(designs) > MAX_ON_MESHES:
        raise InputError(
            f"designs={len(designs):,}: on several GPUs at most {MAX_ON_MESHES} are costed at once"
        )
    grids = [
        sweep(
            design,
            workload,
            batches=batches,
            contexts=contexts,
            routings=[workload.routing],
            hardwares=[hardware],
            calibrations=[calibration],
        )
        for design in designs
    ]
    shape = len(batches), len(contexts)
    columns: dict[Quantity, Floats] = {
        name: np.array(
            [np.broadcast_to(grid.columns[name], (1, 1, *shape))[0, 0] for grid in grids],
            np.float64,
        )
        for name in get_args(Quantity)
        if name in grids[0].columns
    }
    return Evaluated(
        columns=columns,
        not_predicted=grids[0].reasons.get("time.predicted_s"),
        transfer=transfer_of(calibration, hardware, workload),
    )
