"""The counterpart of each measured quantity: what a prediction says of the same step or leaf.

Where there is no prediction, a bound is the counterpart, and `basis` names it: HBM bytes of unknown
hardware are compared with compulsory bytes, times without a calibration with the roofline bound.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from costmodel.costs.footprint import Footprint
from costmodel.costs.latency import StepTime, Unknown
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator
from costmodel.validation.case_prediction import NO_HARDWARE, CasePrediction, flops_of

# Values of `basis`
PREDICTED = "predicted"
COMPULSORY = "compulsory bytes"  # a bound
ROOFLINE = "floor"  # the roofline bound
MODEL_FLOPS = "useful FLOPs"  # a bound: FLOPs that no implementation can do without
UNFUSED = "unfused bytes"  # if every part reads and writes its activations in memory
UNPREDICTED = "nothing"
BOUND_BASES = (COMPULSORY, ROOFLINE, MODEL_FLOPS)

# Reasons why there is no counterpart
RUN_FACT = "not predicted (a fact of the run)"
WHOLE_PROCESS = "not predicted (of the whole process: Python and torch are in it)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterpart:
    """The predicted number that a measured one is compared with, or why there is none.

    Attributes:
        value: in the unit of the measured quantity; None if there is no counterpart.
        basis: what `value` is: a prediction or a bound.
        reason: why there is none.
        by_choices: whether `value` depends on which experts or rows are touched.
    """

    value: Number | None
    basis: str
    reason: str = ""
    by_choices: bool = False


def step_counterpart(case: CasePrediction, quantity: str) -> Counterpart:
    """The counterpart of a quantity of the whole step."""
    counterpart = STEP_COUNTERPARTS.get(quantity)
    return _none(RUN_FACT) if counterpart is None else counterpart(case)


def operator_counterpart(case: CasePrediction, quantity: str, operator: Operator) -> Counterpart:
    """The counterpart of a quantity of one leaf: one layer of an operator."""
    counterpart = OPERATOR_COUNTERPARTS.get(quantity)
    return _none(RUN_FACT) if counterpart is None else counterpart(case, operator)


def region_counterpart(
    case: CasePrediction, quantity: str, path: str, operators: Sequence[Operator]
) -> Counterpart:
    """The counterpart of a quantity of a region in one layer: the sum over its leaves.

    The time of a region is no such sum if a kernel of the predicted backend spans the same region:
    a kernel takes as long as its longest part.
    """
    if quantity == "kernel_s" and not isinstance(case.times, Unknown) and path in case.region_s:
        return _by_choices(case.region_s[path], PREDICTED)
    leaves = [operator_counterpart(case, quantity, operator) for operator in operators]
    total: Number = 0
    for leaf in leaves:
        if leaf.value is None:
            return leaf
        total = total + leaf.value
    return replace(leaves[0], value=total, by_choices=any(leaf.by_choices for leaf in leaves))


def _predicted(value: Number) -> Counterpart:
    return Counterpart(value=value, basis=PREDICTED)


def _launches(case: CasePrediction, launches: Number | None) -> Counterpart:
    """Launches, or why the case's backend has no kernels for the step."""
    if launches is None:
        return _none(f"not predicted ({case.kernels.refusal})")
    return _predicted(launches)


def _by_choices(value: Number, basis: str) -> Counterpart:
    return Counterpart(value=value, basis=basis, by_choices=True)


def _none(reason: str) -> Counterpart:
    return Counterpart(value=None, basis=UNPREDICTED, reason=reason)


def _read_bytes(operator: Operator) -> Number:
    """Compulsory bytes that one layer of the operator reads by itself, as a leaf is measured."""
    return operator.total("read_bytes") + operator.repeated_row_bytes


def _written_bytes(operator: Operator) -> Number:
    """Compulsory bytes that one layer of the operator writes."""
    return operator.total("written_bytes")


def _hbm_bytes(case: CasePrediction, operator: Operator, which: int) -> Counterpart:
    """Bytes that one layer reads (0) or writes (1): predicted, or on unknown hardware required."""
    if case.traffic is not None:
        return _by_choices(case.traffic[operator.path][which], PREDICTED)
    required = (_read_bytes, _written_bytes)[which]
    return _by_choices(required(operator), COMPULSORY)


def _step_hbm_bytes(which: int) -> Callable[[CasePrediction], Counterpart]:
    """The same of the step, which reads a row that layers share once where it is a bound."""

    def counterpart(case: CasePrediction) -> Counterpart:
        traffic = case.traffic
        if traffic is not None:
            total = case.step_total(lambda operator: traffic[operator.path][which])
            return _by_choices(total, PREDICTED)
        name = ("read_bytes", "written_bytes")[which]
        return _by_choices(case.step_total(lambda operator: operator.total(name)), COMPULSORY)

    return counterpart


def _host_bytes(operator: Operator) -> Number:
    """Bytes of the rows that one layer fetches from host memory, in whole sectors."""
    from_host = any(weight.place == "host" for weight in operator.weights)
    return operator.rows.fetched_sector_bytes if from_host and operator.rows is not None else 0


def _unfused_bytes(operator: Operator) -> Number:
    """Bytes that one layer of the operator moves if no kernel does more than one part."""
    return (
        operator.compulsory_bytes
        + operator.total("activation_bytes")
        + operator.total("intermediate_bytes")
        + operator.repeated_row_bytes
    )


def _tensor_core_flops(operator: Operator) -> Number:
    """Model FLOPs of one layer that tensor cores do; other units do those of gathers."""
    return flops_of(operator, "matmul", "attention")


def _step_s(
    of_step: Callable[[CasePrediction, StepTime], Number],
) -> Callable[[CasePrediction], Counterpart]:
    """The counterpart of a time of the step: the calibrated time, or else the roofline bound."""

    def counterpart(case: CasePrediction) -> Counterpart:
        if not isinstance(case.times, Unknown):
            return _by_choices(of_step(case, case.times), PREDICTED)
        if case.prediction is None:
            return _none(NO_HARDWARE)
        return _by_choices(case.prediction.floor_s, ROOFLINE)

    return counterpart


def _operator_s(case: CasePrediction, operator: Operator) -> Counterpart:
    """Of the kernels of one leaf: their time without pauses, or else the leaf's roofline bound."""
    if not isinstance(case.times, Unknown):
        return _by_choices(case.operator_s[operator.path], PREDICTED)
    if case.prediction is None:
        return _none(NO_HARDWARE)
    alone = operator.compulsory_bytes + operator.repeated_row_bytes
    return _by_choices(case.prediction.ceilings.floor_s(alone, operator.total("flops")), ROOFLINE)


def _energy_j(case: CasePrediction) -> Counterpart:
    energy_j = case.graph_energy_j
    if isinstance(energy_j, Unknown):
        return _none(energy_j.reason)
    return _by_choices(energy_j, PREDICTED)


def _memory_bytes(
    of_model: Callable[[Footprint], Number],
) -> Callable[[CasePrediction], Counterpart]:
    """Memory of the model, unless a CPU measured it: there the whole process is measured."""
    return lambda case: _none(WHOLE_PROCESS) if case.on_cpu else _predicted(of_model(case.memory))


def _resident_bytes(memory: Footprint) -> Number:
    return memory.weights_bytes + memory.buffers_bytes + memory.kv_bytes + memory.state_bytes


STEP_COUNTERPARTS: dict[str, Callable[[CasePrediction], Counterpart]] = {
    "parameters": lambda case: _predicted(case.costs.parameters.total),
    "buffer_bytes": lambda case: _predicted(case.memory.buffers_bytes),
    "kv_held_bytes": lambda case: _predicted(case.costs.kv_cache.stored_bytes),
    "state_held_bytes": lambda case: _predicted(case.costs.kv_cache.state_bytes),
    "resident_memory_bytes": _memory_bytes(_resident_bytes),
    "peak_memory_bytes": _memory_bytes(lambda memory: memory.total_bytes),
    "flops_counted": lambda case: _predicted(
        case.step_total(lambda operator: case.counted_flops[operator.path])
    ),
    "flops_tensor": lambda case: Counterpart(
        value=case.step_total(_tensor_core_flops), basis=MODEL_FLOPS
    ),
    "launches": lambda case: _launches(case, case.kernels.step_launches(case.costs.operators)),
    "hbm_read_bytes": _step_hbm_bytes(0),
    "hbm_written_bytes": _step_hbm_bytes(1),
    "host_read_bytes": lambda case: _by_choices(case.step_total(_host_bytes), COMPULSORY),
    "hbm_bytes": lambda case: _by_choices(case.costs.totals.compulsory_bytes, COMPULSORY),
    "logical_bytes": lambda case: _by_choices(case.step_total(_unfused_bytes), UNFUSED),
    "graph_s": _step_s(lambda _, times: times.graph_s),
    "eager_s": _step_s(lambda _, times: times.eager_s),
    "kernel_s": _step_s(lambda case, _: case.kernel_s),
    "energy_j": _energy_j,
}
OPERATOR_COUNTERPARTS: dict[str, Callable[[CasePrediction, Operator], Counterpart]] = {
    "flops_counted": lambda case, operator: _predicted(case.counted_flops[operator.path]),
    "flops_tensor": lambda _, operator: Counterpart(
        value=_tensor_core_flops(operator), basis=MODEL_FLOPS
    ),
    "launches": lambda case, operator: _launches(case, case.kernels.operator_launches(operator)),
    "hbm_read_bytes": lambda case, operator: _hbm_bytes(case, operator, 0),
    "hbm_written_bytes": lambda case, operator: _hbm_bytes(case, operator, 1),
    "host_read_bytes": lambda _, operator: _by_choices(_host_bytes(operator), COMPULSORY),
    "logical_bytes": lambda _, operator: _by_choices(_unfused_bytes(operator), UNFUSED),
    "kernel_s": _operator_s,
}
