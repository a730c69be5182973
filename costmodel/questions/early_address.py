"""What an address that is known early saves: a step whose tables stand in host memory, both ways.

Rows that follow from token ids are known before the step, so that their fetch over the link hides
behind the layers before; rows that a layer chooses by scores are not. The same model is costed with
its rows known in the one way and in the other, all else alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from costmodel.costs.gpu import Gpu
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import StepTime, Unknown
from costmodel.costs.predict import predict
from costmodel.costs.step import Costs, step_costs
from costmodel.errors import InputError, shown
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.placement import IN_HBM

BATCHES = tuple(2**power for power in range(11))  # 1 to 1,024


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyAddress:
    """Predicted seconds of one step at a batch, by where its tables stand and when rows are known.

    `*_exposed_s` is what of the fetches nothing hides.
    """

    batch: int
    fetched_bytes: float  # rows of each layer, over the link
    hbm_s: float  # tables in HBM
    by_scores_s: float  # in host memory, rows known in their layer alone
    by_scores_exposed_s: float
    by_tokens_s: float  # in host memory, rows known before the step
    by_tokens_exposed_s: float

    @property
    def saved_s(self) -> float:
        """What knowing the rows early saves."""
        return self.by_scores_s - self.by_tokens_s


def early_address(
    model: ModelConfig,
    workload: Workload,
    hardware: Hardware,
    calibration: Curves | Unknown,
    *,
    batches: Sequence[int] = BATCHES,
) -> tuple[EarlyAddress, ...] | Unknown:
    """A step at each batch: tables in HBM, and in host memory with rows known early and late.

    Args:
        model: With memory tables; how its kind addresses them does not matter here.
        workload: Its placement puts tables in host memory; its batch gives way to `batches`.
        hardware: The GPU, with a link.
        calibration: Kernel times of the GPU.
        batches: Sequences.

    Returns:
        `Unknown` where no time is predicted.

    Raises:
        InputError: The workload's placement moves no table of the model.
    """
    answers = []
    for batch in batches:
        work = replace(workload, batch=batch).of_model(model)
        near = predict(model, replace(work, placement=IN_HBM), hardware, calibration).time
        costs = step_costs(model, work.step())
        if not any(tables.table_bytes for tables in costs.far.values()):
            raise InputError(
                f"placement={shown(work.placement.label)}: moves no table of {shown(model.name)}"
            )
        chosen, ahead = (
            _time(costs, work, hardware, calibration, early=early) for early in (False, True)
        )
        if isinstance(near, Unknown):
            return near
        if isinstance(chosen, Unknown):
            return chosen
        assert isinstance(ahead, StepTime), "as the other way"
        answers.append(
            EarlyAddress(
                batch=batch,
                fetched_bytes=float(costs.totals.fetched_bytes),
                hbm_s=float(near.predicted_s),
                by_scores_s=float(chosen.predicted_s),
                by_scores_exposed_s=float(chosen.fetches.exposed_s),
                by_tokens_s=float(ahead.predicted_s),
                by_tokens_exposed_s=float(ahead.fetches.exposed_s),
            )
        )
    return tuple(answers)


def _time(
    costs: Costs,
    workload: Workload,
    hardware: Hardware,
    calibration: Curves | Unknown,
    *,
    early: bool,
) -> StepTime | Unknown:
    """The predicted time with all fetched rows known before the step, or in their layers alone."""
    operators = tuple(
        replace(operator, parts=tuple(replace(part, early=early) for part in operator.parts))
        for operator in costs.operators
    )
    gpu = Gpu(hardware=hardware, calibration=calibration)
    return gpu.time(operators, costs.totals, workload, costs.step)
