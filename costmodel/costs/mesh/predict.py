"""The bound, the time and the energy of a step on a mesh of GPUs.

A GPU runs its operators one after the other and waits for every exchange. Its operators take what a
calibration of one GPU says of their divided sizes, and of experts the busiest GPU's; exchanges take
published figures (`costs/collectives.py`). Nothing of it was measured on several GPUs.

In a step each microbatch passes all stages, which work at the same time on different ones: the step
takes the sum over the stages.

Left out: exchanges that other work hides; a last stage that is slower than the others, by the LM
head; energy of switches, adapters and hosts.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from costmodel.costs.collectives import bound_s, time_s
from costmodel.costs.gpu import Gpu
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import StepTime, Unknown
from costmodel.costs.mesh.exchanges import Exchange, exchanges
from costmodel.costs.mesh.load import busiest_load, busiest_reads, with_busiest_load
from costmodel.costs.mesh.step import MeshStep
from costmodel.costs.totals import totals
from costmodel.errors import InputError, shown
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.moe import MoeFfn
from costmodel.layers.numbers import Number, larger


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What exchanges take, seconds: at the least, and by published figures."""

    bound_s: Number  # by the links' datasheet
    low_s: Number
    typical_s: Number
    high_s: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """What a step on several GPUs has beside the numbers of all GPUs together."""

    step: MeshStep
    exchanges: tuple[Exchange, ...]  # of one microbatch
    spent: tuple[Spent, ...]  # of one layer of each
    all_spent: Spent  # of all that a microbatch meets
    node_bytes: Number  # that one GPU sends to GPUs of its node in a step, the mean over stages
    network_bytes: Number  # to other nodes
    busiest_experts: Number | None  # pairs of token and expert of the busiest GPU over the mean
    busiest_rows: Number | None  # the same of reads of memory tables divided over their rows


def parallel(model: ModelConfig, step: MeshStep, hardware: Hardware) -> Parallel:
    """What the GPUs exchange in a step, and how long that takes.

    Raises:
        InputError: The GPU's file lacks a link that the exchanges need.
    """
    mesh = step.mesh
    if hardware.node is None:
        raise InputError(
            f"gpus={mesh.gpus}: needs the [node] of the GPU, which the file of"
            f" {shown(hardware.name)} lacks (its name, gpus and bytes_per_s)"
        )
    found = exchanges(model, step.tables, step.gpu_step, mesh, hardware.node.gpus)
    spent = tuple(_spent(exchange, hardware) for exchange in found)
    node: Number = 0
    network: Number = 0
    for exchange in found:
        sent = exchange.collective.sent
        node = node + exchange.count * sent.node_bytes
        network = network + exchange.count * sent.network_bytes
    runs = step.microbatches / mesh.pp
    return Parallel(
        step=step,
        exchanges=tuple(found),
        spent=spent,
        all_spent=_sum(found, spent),
        node_bytes=node * runs,
        network_bytes=network * runs,
        busiest_experts=_busiest_experts(model, step),
        busiest_rows=_busiest_rows(step),
    )


def _busiest_experts(model: ModelConfig, step: MeshStep) -> Number | None:
    """The largest load of the model's experts; None: none are divided into sets."""
    if step.mesh.ep == 1:
        return None
    return _largest(
        busiest_load(ffn, step.gpu_step, step.mesh)
        for ffn, _ in model.ffn_groups
        if isinstance(ffn, MoeFfn)
    )


def _busiest_rows(step: MeshStep) -> Number | None:
    """The largest load of the model's tables; None: none is known."""
    return _largest(
        load
        for operator in step.gpu_operators
        if (load := busiest_reads(operator, step.gpu_step, step.mesh)) is not None
    )


def _largest(loads: Iterable[Number]) -> Number | None:
    largest: Number | None = None
    for load in loads:
        largest = load if largest is None else larger(largest, load)
    return largest


def _spent(exchange: Exchange, hardware: Hardware) -> Spent:
    """Of one layer."""
    seconds = time_s(exchange.collective, hardware)
    return Spent(
        bound_s=bound_s(exchange.collective, hardware),
        low_s=seconds.low,
        typical_s=seconds.typical,
        high_s=seconds.high,
    )


def _sum(found: list[Exchange], spent: tuple[Spent, ...]) -> Spent:
    def of_all(name: str) -> Number:
        total: Number = 0.0
        for exchange, one in zip(found, spent, strict=True):
            total = total + exchange.count * getattr(one, name)
        return total

    return Spent(**{field.name: of_all(field.name) for field in fields(Spent)})


def mesh_time(of: Parallel, workload: Workload, gpu: Gpu) -> StepTime | Unknown:
    """The predicted time of a step, exchanges in, and the energy of all GPUs.

    Energy: each GPU idles for the whole step, and takes besides what its bytes and FLOPs take.
    """
    if isinstance(gpu.calibration, Unknown):
        return gpu.calibration
    step = of.step
    operators = tuple(
        with_busiest_load(operator, step.gpu_step, step.mesh) for operator in step.gpu_operators
    )
    sums = totals(operators)
    alone = gpu.time(operators, sums, workload, step.gpu_step)
    if isinstance(alone, Unknown):
        return alone
    waits = of.all_spent.typical_s
    predicted = alone.predicted_s + waits
    interval = alone.interval_s
    if interval is not None:
        interval = interval[0] + of.all_spent.low_s, interval[1] + of.all_spent.high_s
    return replace(
        alone,
        graph_s=alone.graph_s + waits,
        eager_s=alone.eager_s + waits,
        predicted_s=predicted,
        interval_s=interval,
        energy_j=_energy_j(alone, step, predicted, gpu.calibration),
    )


def _energy_j(
    alone: StepTime, step: MeshStep, predicted_s: Number, curves: Curves
) -> Number | Unknown:
    """Idle power of all GPUs over the step, and what its microbatches take beyond idle power.

    Args:
        alone: Of one microbatch, one GPU a stage.
        step: Its mesh and microbatches.
        predicted_s: Of the step.
        curves: Of the GPU: its idle power.
    """
    if isinstance(alone.energy_j, Unknown):
        return alone.energy_j
    assert curves.power is not None
    idle_w = curves.power.idle_w
    beyond_idle = alone.energy_j - idle_w * alone.predicted_s
    return idle_w * step.mesh.gpus * predicted_s + beyond_idle * step.runs
