"""Held-out accuracy: steps that an H200 took, of models predicted before they were measured.

The models were drawn at random, and nothing of them was used to write or fit the cost model. The
protocol is in docs/accuracy.md (Held-out models). `python -m docs.held_out_steps` writes the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Literal, TypeAlias

from pydantic.dataclasses import dataclass as checked

from costmodel.inputs.files import read_json_object
from costmodel.inputs.workload import Backend, Phase
from costmodel.questions.claims.claim import FILE as CLAIMS
from costmodel.recordings.error_measures import MAPE, Errors, errors_of
from costmodel.recordings.quantities import QUANTITIES as MEASURED
from costmodel.strict import STRICT, validated

FILE = CLAIMS.with_name("held_out.json")
Quantity: TypeAlias = Literal["graph_s", "hbm_read_bytes", "energy_j"]
NAMES: tuple[Quantity, ...] = ("graph_s", "hbm_read_bytes", "energy_j")
QUANTITIES: dict[str, Quantity] = {MEASURED[name].title: name for name in NAMES}
PAGE = "docs/accuracy.md (Held-out models)"
TIME: Quantity = "graph_s"
NOT_HELD = "on whole models that is not measured"


@checked(frozen=True, slots=True, kw_only=True, config=STRICT)
class HeldOutStep:
    """A number of one step, measured and predicted: seconds as a CUDA graph, bytes or joules.

    Attributes:
        kind: what is sparse in the model, in words.
        new_tokens: of each sequence.
        processes: how many measured it; `measured` is the median of their medians.
        low: end of the predicted 90 % interval, None where none was predicted.
        high: the other end.
    """

    model: str
    kind: str
    backend: Backend
    phase: Phase
    batch: int
    context: int
    new_tokens: int
    quantity: Quantity
    measured: float
    processes: int
    predicted: float
    low: float | None
    high: float | None

    @property
    def ratio(self) -> float:
        """Measured over predicted."""
        return self.measured / self.predicted

    @property
    def within(self) -> bool | None:
        """Whether the measured number lies within the interval; None without one."""
        if self.low is None or self.high is None:
            return None
        return self.low <= self.measured <= self.high


@checked(frozen=True, slots=True, kw_only=True, config=STRICT)
class HeldOut:
    """The file.

    Attributes:
        schema_version: of the file.
        gpu: what it was measured on.
        calibration: by which calibration it was predicted.
        committed: when the predictions were committed.
        measured: when the last part of the measurement that counts began.
        unchanged: whether the cost model still predicts these very numbers.
        steps: all that was measured, misses among them.
    """

    schema_version: Literal[1]
    gpu: str
    calibration: str
    committed: str
    measured: str
    unchanged: bool
    steps: tuple[HeldOutStep, ...]

    def select(
        self, quantity: Quantity, phase: Phase | None = None, backend: Backend | None = None
    ) -> tuple[HeldOutStep, ...]:
        """The steps of a quantity, of a phase and a backend if these are given; worst first."""
        chosen = (
            step
            for step in self.steps
            if step.quantity == quantity
            and phase in {None, step.phase}
            and backend in {None, step.backend}
        )
        return tuple(sorted(chosen, key=lambda step: -max(step.ratio, 1 / step.ratio)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How far predictions of some steps were off.

    Attributes:
        phase: of the steps.
        backend: of the steps.
        errors: over all of them.
        worst: the largest |predicted / measured - 1|, as a share.
        within: how many measured numbers lay within their 90 % interval.
        intervals: how many steps have an interval.
        half_width: median of half the interval over the prediction; None without intervals.
    """

    phase: Phase
    backend: Backend
    errors: Errors
    worst: float
    within: int
    intervals: int
    half_width: float | None


@cache
def held_out() -> HeldOut:
    """The shipped rows."""
    return validated(HeldOut, read_json_object(FILE), where=FILE.name)


@cache
def accuracies(quantity: Quantity) -> tuple[Accuracy, ...]:
    """By phase and backend, of those that were measured."""
    phases: tuple[Phase, ...] = ("decode", "prefill")
    backends: tuple[Backend, ...] = ("torch", "fused")
    groups = (held_out().select(quantity, phase, of) for phase in phases for of in backends)
    return tuple(_accuracy(steps) for steps in groups if steps)


def _accuracy(steps: Sequence[HeldOutStep]) -> Accuracy:
    widths = [
        (step.high - step.low) / 2 / step.predicted
        for step in steps
        if step.low is not None and step.high is not None
    ]
    return Accuracy(
        phase=steps[0].phase,
        backend=steps[0].backend,
        errors=errors_of([step.ratio for step in steps]),
        worst=max(abs(1 / step.ratio - 1) for step in steps),
        within=sum(step.within or False for step in steps),
        intervals=len(widths),
        half_width=median(widths) if widths else None,
    )


def off_by() -> str:
    """How far predicted times were off: `decode 6.5 % (torch) and 6.0 % (fused), ... by MAPE`."""
    told: dict[str, list[str]] = {}
    for one in accuracies(TIME):
        told.setdefault(one.phase, []).append(f"{100 * one.errors.mape:.1f} % ({one.backend})")
    return ", ".join(f"{phase} {' and '.join(of)}" for phase, of in told.items()) + f" by {MAPE}"


def of_calibration(name: str) -> str:
    """What was measured of predictions by a calibration, or that nothing was: half a sentence."""
    shipped = held_out()
    if name != shipped.calibration:
        return "no accuracy is measured of it: see sparsecost validate"
    former = "" if shipped.unchanged else "by a former cost model, "
    return f"on held-out models, {former}times were off by: {off_by()}; see {PAGE}"


def held(backend: Backend, name: str) -> str:
    """How often intervals held in decode, by one backend and a calibration: half a sentence."""
    shipped = held_out()
    found = [one for one in accuracies(TIME) if (one.phase, one.backend) == ("decode", backend)]
    if name != shipped.calibration or not found or not shipped.unchanged:
        return NOT_HELD
    return f"of held-out decode steps it held {found[0].within} of {found[0].intervals} ({backend})"
