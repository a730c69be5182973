"""A prediction: a model, a workload and a GPU become operators, totals, memory, time and energy.

`step_costs` (step.py) computes what holds on every GPU; `predict` adds what depends on one, or on
a mesh of several. On one GPU both take well under a millisecond, on a mesh two.
"""

from dataclasses import dataclass, replace

from costmodel.backends.step_kernels import StepKernels
from costmodel.costs.beyond_histogram import is_unknown
from costmodel.costs.bounded import bounded
from costmodel.costs.chosen_mesh import with_mesh
from costmodel.costs.footprint import Footprint
from costmodel.costs.gpu import Gpu
from costmodel.costs.hbm_traffic import HbmTraffic, hbm_traffic, unknown_traffic
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import NOT_ASKED, StepTime, Unknown
from costmodel.costs.mesh.predict import Parallel
from costmodel.costs.roofline import Bound, Ceilings
from costmodel.costs.step import Costs
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Backend, Workload
from costmodel.layers.operator import Operator


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What one step of a model costs, in seconds and bytes.

    On several GPUs costs and memory are of all of them together, and `parallel` has the rest; but
    operators are those of one GPU and microbatch.
    """

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
    parallel: Parallel | None = None  # on several GPUs

    @property
    def gpus(self) -> int:
        """How many GPUs do the step."""
        return 1 if self.parallel is None else self.parallel.step.mesh.gpus

    @property
    def kernels(self) -> StepKernels:
        """The kernels of the workload's backend for this step."""
        return self.costs.kernels(self.workload.backend)

    def traffic(self) -> HbmTraffic | Unknown:
        """What the step reads from HBM and writes there; NaN where a histogram gives no choices."""
        if self.parallel is not None:
            return Unknown(reason="HBM traffic is predicted of a step on one GPU")
        if self.kernels.refusal is not None:
            return Unknown(reason=self.kernels.refusal)
        sums, operators = self.costs.totals, self.costs.operators
        if is_unknown(sums.compulsory_bytes) or is_unknown(sums.link_bytes):
            return unknown_traffic(operators)
        return hbm_traffic(operators, self.kernels, self.hardware.l2_bytes)

    def operator_floor_s(self, operator: Operator) -> float:
        """The roofline bound of one of the operator's layers by itself, seconds."""
        return float(self.ceilings.floor_s(*self.ceilings.of_operator(operator)))

    def operator_bound_by(self, operator: Operator) -> Bound:
        """Which of the bound's terms is the longest, for one of the operator's layers."""
        bound = self.ceilings.bound_by(*self.ceilings.of_operator(operator))
        assert isinstance(bound, str)
        return bound


def predict(
    model: ModelConfig,
    workload: Workload,
    hardware: Hardware,
    calibration: Curves | Unknown = NOT_ASKED,
) -> Prediction:
    """What one step of a model costs on one GPU, or on the mesh of the workload.

    Args:
        model: From `load_model`, or built by hand.
        workload: Phase, batch, context, formats, routing, backend.
        hardware: The GPU, from `load_hardware`.
        calibration: Kernel times measured on this GPU, from `calibrated`. Without them everything
            is predicted but time and energy; the roofline bound needs the datasheet only.

    Raises:
        InputError: The workload puts tables where the GPU or its host has no place for them, or
            something does not divide over its mesh.
    """
    workload = workload.of_model(model)
    gpu = Gpu(hardware=hardware, calibration=calibration)
    ceilings = gpu.ceilings(workload)
    workload = with_mesh(model, workload, hardware, ceilings)
    at_best = bounded(model, workload.step(), workload, ceilings, [hardware])
    assert isinstance(at_best.bound_by, str)
    meshed = at_best.parallel[0] if at_best.parallel else None
    return Prediction(
        model=model,
        workload=workload,
        hardware=hardware,
        costs=at_best.costs,
        memory=at_best.memory,
        floor_s=float(at_best.floor_s),
        bound_by=at_best.bound_by,
        fits_l2=bool(at_best.fits_l2),
        ceilings=ceilings,
        calibration=calibration,
        time=at_best.time(workload, gpu),
        parallel=meshed,
    )


def with_backend(prediction: Prediction, backend: Backend) -> Prediction:
    """The same step on one GPU by the kernels of another backend: only its time differs."""
    assert prediction.parallel is None, "of one GPU"
    workload, costs = replace(prediction.workload, backend=backend), prediction.costs
    gpu = Gpu(hardware=prediction.hardware, calibration=prediction.calibration)
    time = gpu.time(costs.operators, costs.totals, workload, costs.step)
    return replace(prediction, workload=workload, time=time)
