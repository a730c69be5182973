"""The mesh that a user left to be chosen: of the meshes that fit, the fastest by its bound.

Where GPUs are to be as few as fit, their number is a power of two. Of meshes with as many GPUs
those without stages come first, then the shortest of: roofline bound and the typical time of
exchanges, added up, since a bound that hides all exchanges would divide layers without end.
"""

from collections.abc import Iterator
from dataclasses import replace

from costmodel.costs.bounded import Bounded, bounded
from costmodel.costs.roofline import Ceilings
from costmodel.errors import InputError, shown
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import ONE_GPU, AskedMesh, Mesh
from costmodel.layers.moe import MoeFfn

MOST_CHOSEN = 1024  # GPUs, where they are to be as few as fit


def with_mesh(
    model: ModelConfig, workload: Workload, hardware: Hardware, ceilings: Ceilings
) -> Workload:
    """The workload with a mesh in place of what was left to be chosen.

    Raises:
        InputError: No mesh divides the model, or fits as few GPUs as are offered.
    """
    asked = workload.mesh
    if isinstance(asked, Mesh):
        return workload
    if asked.stated is not None:
        return replace(workload, mesh=asked.stated)
    has_experts = any(isinstance(ffn, MoeFfn) for ffn, _ in model.ffn_groups)
    most_tp = 1 if hardware.node is None else hardware.node.gpus
    reasons: dict[str, None] = {}
    least = 1  # GPUs that hold what is divided among them, if it divides evenly
    for gpus in _numbers(asked):
        if gpus < least:
            reasons[f"{gpus} GPUs have too little memory"] = None
            continue
        found: list[tuple[Mesh, Bounded]] = []
        for mesh in asked.of(gpus, most_tp=most_tp, has_experts=has_experts):
            chosen = replace(workload, mesh=mesh)
            try:
                step = bounded(model, chosen.step(), chosen, ceilings, [hardware])
            except InputError as error:
                reasons[str(error)] = None
                continue
            found.append((mesh, step))
            if not step.memory.fits:
                reasons[f"{mesh.label} has too little memory"] = None
            if mesh == ONE_GPU:
                memory = step.memory
                divided = memory.weights_bytes + memory.kv_bytes + memory.state_bytes
                least = -(-int(divided) // int(memory.capacity_bytes))
        fitting = [one for one in found if one[1].memory.fits]
        if fitting or (found and asked.gpus is not None):
            best = min(fitting or found, key=lambda one: _seconds(one[1]))
            return replace(workload, mesh=best[0])
    what = "auto" if asked.gpus is None else asked.gpus
    raise InputError(f"gpus={what}: no mesh does for {shown(model.name)}: {_told(reasons)}")


def _numbers(asked: AskedMesh) -> Iterator[int]:
    """The numbers of GPUs to try."""
    if asked.gpus is not None:
        yield asked.gpus
        return
    stated = (asked.tp or 1) * (asked.pp or 1) * (asked.dp or 1)
    gpus = stated
    while gpus <= max(MOST_CHOSEN, stated):
        yield gpus
        gpus *= 2


def _seconds(step: Bounded) -> tuple[int, float]:
    """By what meshes are ordered."""
    (of,) = step.parallel or (None,)
    if of is None:
        return 0, float(step.floor_s)
    return of.step.mesh.pp, float(step.floor_s) + float(of.all_spent.typical_s)


def _told(reasons: dict[str, None]) -> str:
    """The first few reasons, and how many more there are."""
    first = list(reasons)[:3]
    more = len(reasons) - len(first)
    return "; ".join(first) + (f"; and {more} more" if more else "")
