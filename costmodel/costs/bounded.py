"""A step with its roofline bound and its memory: on one GPU, on a mesh, or over a grid of both.

What a prediction and a sweep compute alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from costmodel.costs.footprint import Footprint, footprint
from costmodel.costs.gpu import Gpu
from costmodel.costs.gpu_axis import along_gpus, joined
from costmodel.costs.latency import StepTime, Unknown
from costmodel.costs.mesh.predict import Parallel, mesh_time, parallel
from costmodel.costs.mesh.step import mesh_step, whole_costs
from costmodel.costs.placement import check_host_memory
from costmodel.costs.roofline import Bound, Ceilings, far_bytes, renamed
from costmodel.costs.step import Costs, step_costs
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import Mesh
from costmodel.layers.numbers import Number, larger
from costmodel.layers.operator import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """Costs, memory and bound of a step. Numbers, or arrays over a grid of steps and GPUs.

    On a mesh costs and memory are of all GPUs together.
    """

    costs: Costs
    memory: Footprint
    floor_s: Number
    bound_by: Bound | NDArray[np.str_]
    fits_l2: bool | NDArray[np.bool_]  # the compulsory bytes of one GPU
    parallel: tuple[Parallel, ...]  # for each GPU that was asked for; none on one GPU

    def time(self, workload: Workload, gpu: Gpu, place: int = 0) -> StepTime | Unknown:
        """The predicted time on a GPU: that at `place` of those that were asked for."""
        if self.parallel:
            return mesh_time(self.parallel[place], workload, gpu)
        costs = self.costs
        return gpu.time(costs.operators, costs.totals, workload, costs.step)


def bounded(
    model: ModelConfig,
    step: Step,
    workload: Workload,
    ceilings: Ceilings,
    hardwares: Sequence[Hardware],
) -> Bounded:
    """The step with its bound, on each of these GPUs: several along an axis before the batch.

    Args:
        model: As it is.
        step: Of the workload, or a grid of its steps.
        workload: Its mesh and its placement.
        ceilings: Of the GPUs, along that axis.
        hardwares: One, or several.

    Raises:
        InputError: Tables have no place, or something does not divide over the mesh.
    """
    assert isinstance(workload.mesh, Mesh), "`with_mesh` comes first"
    if workload.mesh.gpus > 1:
        return _on_mesh(model, step, workload, ceilings, hardwares)
    costs = step_costs(model, step)
    for hardware in hardwares:
        check_host_memory(costs.far["host"].table_bytes, hardware, workload.placement)
    compulsory = costs.totals.compulsory_bytes
    flops = ceilings.at_peak(costs.operators, costs.totals.flops)
    far = far_bytes(costs.totals)
    return Bounded(
        costs=costs,
        memory=footprint(
            costs.operators,
            step,
            costs.kv_cache,
            model.stream_width,
            _of_each([hardware.capacity_bytes for hardware in hardwares], step),
            towers_bytes=model.towers_bytes,
        ),
        floor_s=ceilings.floor_s(compulsory, flops, far),
        bound_by=ceilings.bound_by(compulsory, flops, far),
        fits_l2=compulsory <= _of_each([hardware.l2_bytes for hardware in hardwares], step),
        parallel=(),
    )


def _on_mesh(
    model: ModelConfig,
    step: Step,
    workload: Workload,
    ceilings: Ceilings,
    hardwares: Sequence[Hardware],
) -> Bounded:
    """The bound of a mesh: of a microbatch that passes one GPU of each stage.

    Exchanges move bytes while HBM and matrix units work, at best, so the longest of the three is
    the bound.
    """
    mesh = workload.mesh
    assert isinstance(mesh, Mesh)
    capacity_bytes = _of_each([hardware.capacity_bytes for hardware in hardwares], step)
    l2_bytes = _of_each([hardware.l2_bytes * mesh.pp for hardware in hardwares], step)
    divided = mesh_step(model, step, mesh, capacity_bytes)
    of_each = tuple(parallel(model, divided, hardware) for hardware in hardwares)
    sums = divided.sums
    compulsory = sums.compulsory_bytes
    flops = ceilings.at_peak(divided.gpu_operators, sums.flops)
    near_s = ceilings.floor_s(compulsory, flops)
    sent_s = _joined([one.all_spent.bound_s for one in of_each], step)
    return Bounded(
        costs=whole_costs(model, step, divided),
        memory=divided.memory,
        floor_s=larger(near_s, sent_s),
        bound_by=renamed(ceilings.bound_by(compulsory, flops), "exchange", sent_s > near_s),
        fits_l2=compulsory <= l2_bytes,
        parallel=of_each,
    )


def _of_each(values: Sequence[Number], step: Step) -> Number:
    """One value, or in a grid one for each GPU along the axis of GPUs."""
    if isinstance(step.batch, np.ndarray):
        return along_gpus(values, step.batch.dtype)
    (value,) = values
    return value


def _joined(values: Sequence[Number], step: Step) -> Any:  # noqa: ANN401 - a number or an array
    """The same of values that are arrays over the grid."""
    if isinstance(step.batch, np.ndarray):
        return joined(values)
    (value,) = values
    return value
