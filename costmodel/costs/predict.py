"""One prediction: a model, a workload and a GPU become operators, totals, memory and time."""

from dataclasses import dataclass

from costmodel.costs.footprint import Footprint, footprint
from costmodel.costs.gpu import Gpu
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import NOT_ASKED, StepTime, Unknown
from costmodel.costs.operators import build_operators
from costmodel.costs.roofline import Bound, Ceilings
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """All costs of a step that do not name a GPU. Numbers, or arrays over a grid of steps."""

    operators: tuple[Operator, ...]
    parameters: ParameterCounts
    totals: Totals
    flops_by_kind: dict[OperatorKind, Number]
    routing: Totals
    kv_cache: KvCache
    distinct: Distinct


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What one step of a model costs on one GPU."""

    model: ModelConfig
    workload: Workload
    hardware: Hardware
    costs: Costs
    memory: Footprint
    floor_s: float
    bound_by: Bound
    ceilings: Ceilings  # of the datasheet, for the weights' format
    calibration: Curves | Unknown
    time: StepTime | Unknown  # predicted, not bound

    def operator_floor_s(self, operator: Operator) -> float:
        """The floor of one of the operator's layers by itself, seconds."""
        return float(self.ceilings.floor_s(operator.compulsory_bytes, operator.total("flops")))

    def operator_bound_by(self, operator: Operator) -> Bound:
        """Which term bounds one of the operator's layers by itself."""
        found = self.ceilings.bound_by(operator.compulsory_bytes, operator.total("flops"))
        assert isinstance(found, str)
        return found


def step_costs(model: ModelConfig, step: Step) -> Costs:
    """The costs of a step, or of a grid of steps when the step holds arrays."""
    operators = build_operators(model, step)
    sums = totals(operators)
    return Costs(
        operators=operators,
        parameters=parameter_counts(operators),
        totals=sums,
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
    """The cost of one step of `model` under `workload` on `hardware`.

    Time and energy are predicted where `calibration` holds curves (`costs.calibrated`); they must
    be of this GPU.
    """
    step = workload.step()
    costs = step_costs(model, step)
    gpu = Gpu(hardware=hardware, calibration=calibration)
    ceilings = gpu.ceilings(workload)
    compulsory, flops = costs.totals.compulsory_bytes, costs.totals.flops
    bound = ceilings.bound_by(compulsory, flops)
    assert isinstance(bound, str)
    return Prediction(
        model=model,
        workload=workload,
        hardware=hardware,
        costs=costs,
        memory=footprint(
            costs.operators, step, costs.kv_cache, model.hidden_size, hardware.capacity_bytes
        ),
        floor_s=float(ceilings.floor_s(compulsory, flops)),
        bound_by=bound,
        ceilings=ceilings,
        calibration=calibration,
        time=gpu.time(costs.operators, costs.totals, workload),
    )
