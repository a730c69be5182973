"""One prediction: a model, a workload and a GPU become operators, totals, memory and time."""

from dataclasses import dataclass

from costmodel.costs.footprint import Footprint, footprint
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import NOT_ASKED, StepTime, Unknown, step_time
from costmodel.costs.operators import build_operators
from costmodel.costs.roofline import Bound, bound_by, floor_s
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
    peak_name: str  # the dense peak that prices FLOPs
    calibration: Curves | Unknown
    time: StepTime | Unknown  # predicted, not bound

    def operator_floor_s(self, operator: Operator) -> float:
        """The floor of one of the operator's layers by itself, seconds."""
        return float(floor_s(operator.compulsory_bytes, operator.total("flops"), *self._ceilings))

    def operator_bound_by(self, operator: Operator) -> Bound:
        """Which term bounds one of the operator's layers by itself."""
        found = bound_by(operator.compulsory_bytes, operator.total("flops"), *self._ceilings)
        assert isinstance(found, str)
        return found

    @property
    def _ceilings(self) -> tuple[float, float]:
        peak, _ = self.hardware.peak_flops_per_s(self.workload.dtype.name)
        return self.hardware.hbm_bytes_per_s, peak


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
    peak, peak_name = hardware.peak_flops_per_s(workload.dtype.name)
    ceilings = (costs.totals.compulsory_bytes, costs.totals.flops, hardware.hbm_bytes_per_s, peak)
    bound = bound_by(*ceilings)
    assert isinstance(bound, str)
    return Prediction(
        model=model,
        workload=workload,
        hardware=hardware,
        costs=costs,
        memory=footprint(
            costs.operators, step, costs.kv_cache, model.hidden_size, hardware.capacity_bytes
        ),
        floor_s=float(floor_s(*ceilings)),
        bound_by=bound,
        peak_name=peak_name,
        calibration=calibration,
        time=step_time(
            calibration,
            workload,
            costs.operators,
            costs.totals,
            hbm_bytes_per_s=hardware.hbm_bytes_per_s,
            peak_flops_per_s=peak,
        ),
    )
