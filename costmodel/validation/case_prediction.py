"""The prediction of one recorded case, for the GPU and the backend that measured it."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self, cast

from costmodel.backends import BACKENDS
from costmodel.costs.footprint import Footprint, footprint
from costmodel.costs.gpu import Gpu
from costmodel.costs.latency import StepTime, Unknown
from costmodel.costs.operators import build_operators
from costmodel.costs.predict import Prediction, predict, with_backend
from costmodel.costs.step import Costs, step_costs
from costmodel.errors import InputError, shown
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator
from costmodel.layers.recurrent import PRODUCTS
from costmodel.layers.site import expanded_paths
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.quantities import RUNS
from costmodel.recordings.recording import Case, Recording
from costmodel.validation.machines import machine_of
from costmodel.validation.pauses import without_pauses
from costmodel.validation.recorded_routing import recorded_routing, selectors_by_module
from costmodel.validation.required_work import OperatorWork, operator_works

if TYPE_CHECKING:  # named in a cast alone
    from costmodel.inputs.workload import Backend

NO_HARDWARE = "not predicted (no hardware preset for this machine)"
COUNTED_KINDS = ("matmul", "attention", "gather")  # kinds of parts that a FLOP counter sees


@dataclass(slots=True)
class SharedPredictions:
    """What the recordings of one model have in common, made once: no backend changes it.

    Attributes:
        model: that the rest is of; another one clears it.
        cases: the first prediction of a case, by its workload, the recorded choices and the GPU.
        works: the required work of a case's operators, whichever items are touched.
    """

    model: ModelConfig | None = None
    cases: dict[tuple[object, ...], "CasePrediction"] = field(default_factory=dict)
    works: dict[CaseWorkload, tuple[OperatorWork, ...]] = field(default_factory=dict)

    def of(self, recording: Recording) -> Self:
        """Itself, with the work of a recording's cases, without what is of another model."""
        if recording.model != self.model:
            self.model = recording.model
            self.cases.clear()
            self.works.clear()
        workloads = [case.workload for case in recording.cases]
        new = [workload for workload in workloads if workload not in self.works]
        if new:
            self.works |= operator_works(recording.model, new)
        return self


class CasePrediction:
    """What is predicted of one case on one machine; without a GPU, all that needs no hardware.

    Attributes:
        model: the recorded model.
        workload: of the case, with the routing and the backend that the prediction assumes.
        on_cpu: whether the case was measured on a CPU.
        costs: of the step, whatever the GPU.
        kernels: of the backend.
        prediction: for the GPU; None without one.
        times: calibrated times of the step, or why there are none.
    """

    def __init__(
        self, model: ModelConfig, workload: Workload, gpu: Gpu | None, *, on_cpu: bool = False
    ) -> None:
        self.model, self.workload, self.on_cpu = model, workload, on_cpu
        self.prediction: Prediction | None = None
        self.times: StepTime | Unknown = Unknown(reason=NO_HARDWARE)
        self.costs: Costs
        if gpu is None:
            self.costs = step_costs(model, workload.step())
        else:
            self.prediction = predict(model, workload, gpu.hardware, gpu.calibration)
            self.costs, self.times = self.prediction.costs, self.prediction.time
        self.kernels = self.costs.kernels(workload.backend)

    def by_kernels_of(self, backend: "Backend") -> "CasePrediction":
        """The same step by the kernels of another backend: launches and times differ, no costs."""
        other = copy(self)
        for name in ("operator_s", "region_s", "graph_energy_j", "traffic"):
            other.__dict__.pop(name, None)
        other.workload = replace(self.workload, backend=backend)
        other.kernels = self.costs.kernels(backend)
        if self.prediction is not None:
            other.prediction = with_backend(self.prediction, backend)
            other.times = other.prediction.time
        return other

    @cached_property
    def selectors(self) -> dict[str, tuple[str, Number]]:
        """The router or selector of each module: see `selectors_by_module`."""
        return selectors_by_module(self.costs.operators)

    @cached_property
    def operator_s(self) -> dict[str, Number]:
        """The calibrated kernel time of one layer of each operator, by its path: no pauses."""
        assert not isinstance(self.times, Unknown)
        assert self.prediction is not None
        pairs = zip(self.costs.operators, self.times.operators, strict=True)
        return {
            operator.path: self._kernels_s(
                time.seconds,
                self.kernels.operator_launches(operator),
                self.prediction.operator_floor_s(operator),
            )
            for operator, time in pairs
        }

    @cached_property
    def region_s(self) -> dict[str, Number]:
        """The calibrated kernel time of each region of several leaves, by its path: no pauses."""
        assert not isinstance(self.times, Unknown)
        return {
            path: self._kernels_s(
                time.seconds,
                sum(kernel.launches for kernel in self.kernels.kernels(time.region)),
                0,
            )
            for time in self.times.regions
            for path in expanded_paths(time.region.path)
        }

    @property
    def kernel_s(self) -> Number:
        """The calibrated time of the step's kernels, without the pauses of its graph."""
        assert not isinstance(self.times, Unknown)
        assert self.prediction is not None
        launches = self.kernels.step_launches(self.costs.operators)
        return self._kernels_s(self.times.graph_s, launches, self.prediction.floor_s)

    def _kernels_s(self, graph_s: Number, launches: Number | None, floor_s: Number) -> Number:
        return without_pauses(graph_s, launches, self.workload.backend, floor_s)

    @cached_property
    def graph_energy_j(self) -> Number | Unknown:
        """The energy of a step that takes the time of its graph, which is what is measured.

        A prefill is predicted over its eager time; it is priced here as a decode step is, over the
        time of its graph.
        """
        times, prediction = self.times, self.prediction
        if isinstance(times, Unknown) or prediction is None:
            return Unknown(reason=NO_HARDWARE if isinstance(times, StepTime) else times.reason)
        if times.predicted_s != times.graph_s:
            gpu = Gpu(hardware=prediction.hardware, calibration=prediction.calibration)
            as_graph = replace(self.workload, phase="decode", new_tokens=1)
            costs = self.costs
            times = gpu.time(costs.operators, costs.totals, as_graph, costs.step)
            assert not isinstance(times, Unknown)
        return times.energy_j

    @property
    def graph_energy_interval_j(self) -> tuple[float, float] | None:
        """The interval of 90 % about `graph_energy_j`; None without steady loops."""
        energy, times, prediction = self.graph_energy_j, self.times, self.prediction
        if isinstance(energy, Unknown) or isinstance(times, Unknown) or prediction is None:
            return None
        curves, ends = prediction.calibration, times.graph_interval_s
        if isinstance(curves, Unknown) or curves.energy is None or ends is None:
            return None
        timed = float(times.graph_s), float(ends[0]), float(ends[1])
        return curves.energy.interval_j(float(energy), timed)

    @cached_property
    def traffic(self) -> dict[str, tuple[float, float]] | None:
        """Bytes that one layer of each operator reads and writes, by path; None: not predicted."""
        traffic = None if self.prediction is None else self.prediction.traffic()
        if traffic is None or isinstance(traffic, Unknown):
            return None
        pairs = zip(self.costs.operators, traffic.operators, strict=True)
        return {operator.path: moved for operator, moved in pairs}

    @cached_property
    def counted_flops(self) -> dict[str, Number]:
        """What a FLOP counter sees of one layer of each operator, by the operator's path.

        Attention counts as the full square of queries and keys, also where a mask hides half of it.
        """
        full_square = replace(self.workload, attention_flops="full")
        operators = build_operators(self.model, full_square.step())
        return {operator.path: counted_flops_of(operator) for operator in operators}

    @cached_property
    def memory(self) -> Footprint:
        """What the step holds in memory."""
        return footprint(
            self.costs.operators,
            self.workload.step(),
            self.costs.kv_cache,
            self.model.stream_width,
            capacity_bytes=0,  # only tells whether it fits, which nobody asks here
        )

    def step_total(self, of_layer: Callable[[Operator], Number]) -> Number:
        """Sum over operators of `of_layer(operator)` times the number of its layers."""
        total: Number = 0
        for operator in self.costs.operators:
            total = total + operator.count * of_layer(operator)
        return total


def flops_of(operator: Operator, *kinds: str) -> Number:
    """FLOPs of those parts of an operator that are of these kinds, for one layer."""
    flops: Number = 0
    for part in operator.parts:
        if part.kind in kinds:
            flops = flops + part.flops
    return flops


def counted_flops_of(operator: Operator) -> Number:
    """FLOPs of those parts of an operator that a FLOP counter sees, for one layer."""
    flops: Number = 0
    for part in operator.parts:
        if part.kind in COUNTED_KINDS or part.name in PRODUCTS:
            flops = flops + part.flops
    return flops


def predict_case(
    recording: Recording,
    case: Case,
    gpu: Gpu | None,
    backend: str = "torch",
    shared: SharedPredictions | None = None,
) -> CasePrediction:
    """The prediction of a case for a GPU, or for hardware that is not known.

    `shared`, of the recording, keeps it for the case's other backend.

    A case whose model chose by its own `scores` is predicted by the choices that its first run
    with such a record saw, or as uniform routing where none was recorded.

    Raises:
        InputError: The recording names a backend that is not known.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend={shown(backend)}: is not one of {', '.join(BACKENDS)}")
    routing = None
    if case.workload.routing == "scores":
        routings = (
            recorded_routing(recording, case.runs[name]) for name in RUNS if name in case.runs
        )
        routing = next((seen for seen in routings if seen is not None), None)
    on_cpu = machine_of(recording, [*case.runs.values()]).device == "cpu"
    kernels = cast("Backend", backend)
    known = {} if shared is None else shared.cases
    key = case.workload, routing, on_cpu, None if gpu is None else gpu.hardware.name
    if key in known:
        return known[key].by_kernels_of(kernels)
    workload = case.workload.to_workload(routing=routing, backend=kernels)
    known[key] = CasePrediction(recording.model, workload, gpu, on_cpu=on_cpu)
    return known[key]
