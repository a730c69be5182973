"""A prediction: a model, a workload and a GPU become operators, totals, memory, time and energy.

`step_costs` computes what holds on every GPU; `predict` adds what depends on one. Both take well
under a millisecond; `step_costs` also takes arrays over a grid of steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from costmodel.backends import kernels_of
from costmodel.backends.step_kernels import StepKernels
from costmodel.costs.footprint import Footprint, footprint
from costmodel.costs.gpu import Gpu
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import NOT_ASKED, StepTime, Unknown
from costmodel.costs.operators import build_operators
from costmodel.costs.placement import FarTables, check_host_memory, far_tables
from costmodel.costs.roofline import Bound, Ceilings, far_bytes
from costmodel.costs.table_rows import row_totals
from costmodel.costs.totals import (
    Distinct,
    KvCache,
    ParameterCounts,
    Totals,
    distinct,
    flops_by_kind,
    kv_cache,
    parameter_counts,
    routing_totals,
    totals,
)
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, OperatorKind, Step
from costmodel.layers.placement import Place
from costmodel.layers.touched import TableRows


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a step costs on any GPU. Numbers, or arrays over a grid of steps."""

    step: Step
    operators: tuple[Operator, ...]
    parameters: ParameterCounts
    totals: Totals
    rows: TableRows  # of all memory tables in HBM and their layers
    far: Mapping[Place, FarTables]  # tables in host memory and on disk
    flops_by_kind: dict[OperatorKind, Number]  # model FLOPs
    routing: Totals  # of the parts that select experts or table rows
    kv_cache: KvCache
    distinct: Distinct  # experts and rows that the step touches

    def kernels(self, backend: str) -> StepKernels:
        """The kernels that a backend, by its name, has for the step."""
        return kernels_of(backend, self.operators, self.step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What one step of a model costs on one GPU; seconds and bytes."""

    model: ModelConfig
    workload: Workload  # with the formats of the model's checkpoint where that decides them
    hardware: Hardware
    costs: Costs
    memory: Footprint
    floor_s: float  # the roofline bound
    bound_by: Bound
    fits_l2: bool  # the compulsory bytes; if so, the bound holds from a cold L2 only
    ceilings: Ceilings  # of the datasheet, for the formats of weights and cache
    calibration: Curves | Unknown
    time: StepTime | Unknown  # predicted from the calibration

    @property
    def kernels(self) -> StepKernels:
        """The kernels of the workload's backend for this step."""
        return self.costs.kernels(self.workload.backend)

    def operator_floor_s(self, operator: Operator) -> float:
        """The roofline bound of one of the operator's layers by itself, seconds."""
        return float(self.ceilings.floor_s(*self.ceilings.of_operator(operator)))

    def operator_bound_by(self, operator: Operator) -> Bound:
        """Which of the bound's terms is the longest, for one of the operator's layers."""
        bound = self.ceilings.bound_by(*self.ceilings.of_operator(operator))
        assert isinstance(bound, str)
        return bound


def step_costs(model: ModelConfig, step: Step) -> Costs:
    """What a step costs on any GPU; arrays over a grid of steps if the step holds arrays."""
    operators = build_operators(model, step)
    sums = totals(operators)
    return Costs(
        step=step,
        operators=operators,
        parameters=parameter_counts(operators),
        totals=sums,
        rows=row_totals(operators),
        far=far_tables(operators, sums, step),
        flops_by_kind=flops_by_kind(operators),
        routing=routing_totals(operators),
        kv_cache=kv_cache(model, step, sums),
        distinct=distinct(operators),
    )


def predict(
    model: ModelConfig,
    workload: Workload,
    hardware: Hardware,
    calibration: Curves | Unknown = NOT_ASKED,
) -> Prediction:
    """What one step of a model costs on one GPU.

    Args:
        model: From `load_model`, or built by hand.
        workload: Phase, batch, context, formats, routing, backend.
        hardware: The GPU, from `load_hardware`.
        calibration: Kernel times measured on this GPU, from `calibrated`. Without them everything
            is predicted but time and energy; the roofline bound needs the datasheet only.

    Raises:
        InputError: The workload puts tables where the GPU or its host has no place for them.
    """
    workload = workload.of_model(model)
    step = workload.step()
    costs = step_costs(model, step)
    gpu = Gpu(hardware=hardware, calibration=calibration)
    ceilings = gpu.ceilings(workload)
    check_host_memory(costs.far["host"].table_bytes, hardware, workload.placement)
    compulsory = costs.totals.compulsory_bytes
    flops = ceilings.at_peak(costs.operators, costs.totals.flops)
    far = far_bytes(costs.totals)
    bound = ceilings.bound_by(compulsory, flops, far)
    assert isinstance(bound, str)
    return Prediction(
        model=model,
        workload=workload,
        hardware=hardware,
        costs=costs,
        memory=footprint(
            costs.operators,
            step,
            costs.kv_cache,
            model.stream_width,
            hardware.capacity_bytes,
            towers_bytes=model.towers_bytes,
        ),
        floor_s=float(ceilings.floor_s(compulsory, flops, far)),
        bound_by=bound,
        fits_l2=bool(compulsory <= hardware.l2_bytes),
        ceilings=ceilings,
        calibration=calibration,
        time=gpu.time(costs.operators, costs.totals, workload, step),
    )
