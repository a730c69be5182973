"""What of a prediction stands beside each measured quantity, of a step and of its operators.

Where a prediction has no number of its own yet, its bound stands there, and `basis` says so: HBM
bytes beside compulsory bytes, times beside the floor.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from costmodel.backends import BACKENDS
from costmodel.costs.calibrations import calibrated
from costmodel.costs.footprint import Footprint, footprint
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import StepTime, Unknown
from costmodel.costs.operators import build_operators
from costmodel.costs.predict import Costs, Prediction, predict, step_costs
from costmodel.inputs.hardware import Hardware, load_hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.parse import parse_routing
from costmodel.inputs.workload import Workload
from costmodel.layers.dtype import DTYPES
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator
from costmodel.layers.site import expanded_paths
from costmodel.recordings.recording import CaseWorkload
from costmodel.routing.popularity import Routing, Uniform

PREDICTED = "predicted"
COMPULSORY = "compulsory bytes"  # a bound
FLOOR = "floor"  # a bound
USEFUL = "useful FLOPs"  # what an implementation cannot do without
UNFUSED = "unfused bytes"  # of parts that each go to memory and back
BOUNDS = (COMPULSORY, FLOOR, USEFUL)
UNPREDICTED = "nothing"
FACT = "not predicted (a fact of the run)"
PROCESS = "not predicted (of the whole process: Python and torch are in it)"
NO_HARDWARE = "not predicted (no hardware preset for this machine)"
COUNTED = ("matmul", "attention", "gather")  # kinds of parts that a FLOP counter sees

PRESETS = {  # a CUDA device's name, as the driver tells it, to the hardware preset
    "NVIDIA H200": "h200",
    "NVIDIA B200": "b200",
    "NVIDIA H100 80GB HBM3": "h100-sxm",
    "NVIDIA H100 PCIe": "h100-pcie",
    "NVIDIA A100-SXM4-80GB": "a100-80gb",
    "NVIDIA L40S": "l40s",
    "NVIDIA GeForce RTX 4090": "rtx-4090",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """One number of a prediction: what it is, or why there is none."""

    value: Number | None
    basis: str
    reason: str = ""
    by_choices: bool = False  # it depends on which experts or rows are touched


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """The GPU of a recording: its datasheet, and the calibration that prices its steps."""

    preset: str
    hardware: Hardware
    curves: Curves | Unknown


class Gpus:
    """The GPUs of recordings by the name of the device, each read once.

    `calibration` is what the user asks for: a name, a path, `none`, or None for each GPU's own.
    """

    def __init__(self, calibration: str | None = None) -> None:
        self.calibration = calibration
        self._known: dict[str, Gpu] = {}

    def of(self, device_name: str) -> Gpu | None:
        """The GPU, or None for a device without a hardware preset, as any CPU is.

        Raises:
            InputError: The calibration does not exist or is of another GPU.
        """
        preset = PRESETS.get(device_name)
        if preset is None:
            return None
        if preset not in self._known:
            self._known[preset] = Gpu(
                preset=preset,
                hardware=load_hardware(preset),
                curves=calibrated(preset, self.calibration),
            )
        return self._known[preset]


def workload_of(case: CaseWorkload, routing: Routing | None = None) -> Workload:
    """The workload of a case as the cost model takes it; cache in the dtype of the weights.

    `routing` speaks for `scores`, which no formula predicts.
    """
    if routing is None:
        routing = Uniform() if case.routing == "scores" else parse_routing(case.routing)
    dtype = DTYPES[case.dtype]
    return Workload(
        phase=case.phase,
        batch=case.batch,
        context=case.context,
        new_tokens=case.new_tokens,
        dtype=dtype,
        kv_dtype=dtype,
        routing=routing,
    )


def read_bytes(operator: Operator) -> Number:
    """The compulsory bytes that one of the operator's layers reads."""
    return operator.total("read_bytes")


def written_bytes(operator: Operator) -> Number:
    """The compulsory bytes that one of the operator's layers writes."""
    return operator.total("written_bytes")


def flops_of(operator: Operator, *kinds: str) -> Number:
    """FLOPs of the operator's parts of these kinds, for one of its layers."""
    found: Number = 0
    for part in operator.parts:
        if part.kind in kinds:
            found = found + part.flops
    return found


class Side:
    """The predicted side of one case on one machine; without a hardware, what names none."""

    def __init__(
        self, model: ModelConfig, workload: Workload, gpu: Gpu | None, *, on_cpu: bool = False
    ) -> None:
        self.model, self.workload, self.on_cpu = model, workload, on_cpu
        self.backend = BACKENDS[workload.backend]
        self.prediction: Prediction | None = None
        self.times: StepTime | Unknown = Unknown(reason=NO_HARDWARE)
        self.costs: Costs
        if gpu is None:
            self.costs = step_costs(model, workload.step())
        else:
            self.prediction = predict(model, workload, gpu.hardware, gpu.curves)
            self.costs, self.times = self.prediction.costs, self.prediction.time

    @cached_property
    def operator_s(self) -> dict[str, Number]:
        """The calibrated time of one layer of each operator, by pattern of paths."""
        assert not isinstance(self.times, Unknown)
        pairs = zip(self.costs.operators, self.times.operators, strict=True)
        return {operator.path: time.seconds for operator, time in pairs}

    @cached_property
    def region_s(self) -> dict[str, Number]:
        """The calibrated time of one layer of each region that kernels of the backend span."""
        assert not isinstance(self.times, Unknown)
        return {
            path: time.seconds
            for time in self.times.regions
            for path in expanded_paths(time.region.path)
        }

    @cached_property
    def counted(self) -> dict[str, Number]:
        """FLOPs that a FLOP counter sees, by pattern of paths: attention as the full square."""
        workload = Workload(
            phase=self.workload.phase,
            batch=self.workload.batch,
            context=self.workload.context,
            new_tokens=self.workload.new_tokens,
            attention_flops="full",
        )
        operators = build_operators(self.model, workload.step())
        return {op.path: flops_of(op, *COUNTED) for op in operators}

    @cached_property
    def memory(self) -> Footprint:
        """What is resident."""
        return footprint(
            self.costs.operators,
            self.workload.step(),
            self.costs.kv_cache,
            self.model.hidden_size,
            capacity_bytes=0,  # asked for by whether it fits, which is not asked here
        )

    def total(self, of: Callable[[Operator], Number]) -> Number:
        """The sum over all layers of all operators."""
        found: Number = 0
        for operator in self.costs.operators:
            found = found + operator.count * of(operator)
        return found


def _predicted(value: Number) -> Beside:
    return Beside(value=value, basis=PREDICTED)


def _by_choices(value: Number, basis: str) -> Beside:
    return Beside(value=value, basis=basis, by_choices=True)


def _unfused(operator: Operator) -> Number:
    return (
        operator.compulsory_bytes
        + operator.total("activation_bytes")
        + operator.total("intermediate_bytes")
    )


def _none(reason: str) -> Beside:
    return Beside(value=None, basis=UNPREDICTED, reason=reason)


def _useful(operator: Operator) -> Number:
    """Of the kinds that tensor cores do; gathers run beside them."""
    return flops_of(operator, "matmul", "attention")


def _step_s(of: Callable[[StepTime], Number]) -> Callable[[Side], Beside]:
    """A time of the step: calibrated, or else its floor."""

    def found(side: Side) -> Beside:
        if not isinstance(side.times, Unknown):
            return _by_choices(of(side.times), PREDICTED)
        if side.prediction is None:
            return _none(NO_HARDWARE)
        return _by_choices(side.prediction.floor_s, FLOOR)

    return found


def _operator_s(side: Side, operator: Operator) -> Beside:
    """The time of one of the operator's layers within a CUDA graph, or else its floor."""
    if not isinstance(side.times, Unknown):
        return _by_choices(side.operator_s[operator.path], PREDICTED)
    if side.prediction is None:
        return _none(NO_HARDWARE)
    return _by_choices(side.prediction.operator_floor_s(operator), FLOOR)


def _energy(side: Side) -> Beside:
    if isinstance(side.times, Unknown):
        return _none(side.times.reason)
    if isinstance(side.times.energy_j, Unknown):
        return _none(side.times.energy_j.reason)
    return _by_choices(side.times.energy_j, PREDICTED)


def _held(of: Callable[[Footprint], Number]) -> Callable[[Side], Beside]:
    """Memory, where what was measured is that of the model alone."""
    return lambda side: _none(PROCESS) if side.on_cpu else _predicted(of(side.memory))


def _resident(memory: Footprint) -> Number:
    return memory.weights_bytes + memory.buffers_bytes + memory.kv_bytes


STEP: dict[str, Callable[[Side], Beside]] = {
    "parameters": lambda side: _predicted(side.costs.parameters.total),
    "buffer_bytes": lambda side: _predicted(side.memory.buffers_bytes),
    "kv_held_bytes": lambda side: _predicted(side.costs.kv_cache.stored_bytes),
    "resident_memory_bytes": _held(_resident),
    "peak_memory_bytes": _held(lambda memory: memory.total_bytes),
    "flops_counted": lambda side: _predicted(side.total(lambda op: side.counted[op.path])),
    "flops_tensor": lambda side: Beside(value=side.total(_useful), basis=USEFUL),
    "launches": lambda side: _predicted(side.backend.total_launches(side.costs.operators)),
    "hbm_read_bytes": lambda side: _by_choices(side.total(read_bytes), COMPULSORY),
    "hbm_written_bytes": lambda side: _by_choices(side.total(written_bytes), COMPULSORY),
    "hbm_bytes": lambda side: _by_choices(side.costs.totals.compulsory_bytes, COMPULSORY),
    "logical_bytes": lambda side: _by_choices(side.total(_unfused), UNFUSED),
    "graph_s": _step_s(lambda times: times.graph_s),
    "eager_s": _step_s(lambda times: times.eager_s),
    "kernel_s": _step_s(lambda times: times.graph_s),
    "energy_j": _energy,
}
OPERATOR: dict[str, Callable[[Side, Operator], Beside]] = {
    "flops_counted": lambda side, op: _predicted(side.counted[op.path]),
    "flops_tensor": lambda _, op: Beside(value=_useful(op), basis=USEFUL),
    "launches": lambda side, op: _predicted(side.backend.operator_launches(op)),
    "hbm_read_bytes": lambda _, op: _by_choices(read_bytes(op), COMPULSORY),
    "hbm_written_bytes": lambda _, op: _by_choices(written_bytes(op), COMPULSORY),
    "logical_bytes": lambda _, op: _by_choices(_unfused(op), UNFUSED),
    "kernel_s": _operator_s,
}


def step_beside(side: Side, quantity: str) -> Beside:
    """What stands beside a quantity of the whole step."""
    found = STEP.get(quantity)
    return _none(FACT) if found is None else found(side)


def operator_beside(side: Side, quantity: str, operator: Operator) -> Beside:
    """What stands beside a quantity of one of the operator's layers."""
    found = OPERATOR.get(quantity)
    return _none(FACT) if found is None else found(side, operator)


def region_beside(side: Side, quantity: str, path: str, operators: Sequence[Operator]) -> Beside:
    """What stands beside a quantity of one layer of a region: the sum over its leaves.

    Only its time is no sum where the prediction's backend has the same region: one kernel takes as
    long as its longest part.
    """
    if quantity == "kernel_s" and not isinstance(side.times, Unknown) and path in side.region_s:
        return _by_choices(side.region_s[path], PREDICTED)
    members = [operator_beside(side, quantity, operator) for operator in operators]
    unknown = next((member for member in members if member.value is None), None)
    if unknown is not None:
        return unknown
    total: Number = 0
    for member in members:
        assert member.value is not None
        total = total + member.value
    by_choices = any(member.by_choices for member in members)
    return replace(members[0], value=total, by_choices=by_choices)
