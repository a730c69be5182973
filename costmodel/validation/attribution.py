"""Where the measured time of a step goes: its roofline bound, and four causes of all beyond it.

1. *Padding and over-read*: the bound of what was done less the bound of what had to be done. What
   was done: the HBM bytes that counters saw, read and written, and the FLOPs that tensor cores
   executed. Source: the roofline model with measured traffic, as in `costs/roofline.py`.
2. *Launch and latency*: kernels x what an empty kernel takes with its pause (`pauses.py`).
3. *Kernel inefficiency*: the rest of the predicted time beyond the bound: what the calibration's
   kernels of these shapes lose in any model.
4. *Residual*: measured less predicted time.

The parts sum to the measured time exactly: times are rounded to 2^-50 s (0.9 fs), so that floats
add up without error below 8 s. A cause may be negative: L2 spared traffic, or kernels overlapped.
A cause that was not measured is None, and the next one holds it: without counters, kernel
inefficiency holds padding and over-read. Without a predicted time (or a calibration) the residual
holds kernel inefficiency too (and launches).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.validation.utilisation import Figure

PARTS: Mapping[str, tuple[str, str]] = {  # by field: what a reader calls it, and what it is
    "bound_s": (
        STEP_QUANTITIES["time.floor_s"].label,
        "the longer of compulsory bytes / datasheet bandwidth and model FLOPs / dense peak",
    ),
    "over_read_s": (
        "padding and over-read",
        "the bound of counted HBM bytes and executed tensor FLOPs, less the roofline bound",
    ),
    "launch_s": (
        "launch and latency",
        "kernels x the time of an empty kernel and the pause before the next",
    ),
    "inefficiency_s": (
        "kernel inefficiency",
        "the rest of the predicted time: kernels below bandwidth and peak in any model",
    ),
    "residual_s": ("residual", "measured less predicted time: what the prediction does not know"),
}
UNPREDICTED_RESIDUAL = "what is left: without a predicted time, kernel inefficiency is in it"
_PER_S = float(2**50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """A measured time in seconds and its parts, which sum to it exactly.

    Attributes:
        measured_s: of a step its CUDA graph; of a kind of leaves, their kernels in all layers.
        bound_s: the roofline bound; of a kind, the sum of its leaves' own bounds.
        over_read_s, launch_s, inefficiency_s: see the module; None where not known.
        residual_s: what is left.
        notes: what was not known, and which cause holds it.
    """

    measured_s: float
    bound_s: float
    over_read_s: float | None
    launch_s: float | None
    inefficiency_s: float | None
    residual_s: float
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, float]:
        """The known parts by field, in order: they sum to `measured_s`."""
        values = {name: getattr(self, name) for name in PARTS}
        return {name: value for name, value in values.items() if value is not None}

    def meaning(self, field: str) -> str:
        """What a part is, in words; of the residual, what it is where no time is predicted."""
        unpredicted = field == "residual_s" and self.inefficiency_s is None
        return UNPREDICTED_RESIDUAL if unpredicted else PARTS[field][1]


def attributed(
    measured_s: float,
    *,
    bound_s: float,
    over_read_s: Figure,
    launch_s: Figure,
    predicted_s: Figure,
) -> Attribution:
    """A measured time in its parts; figures that are not known say why."""
    measured, bound = _rounded(measured_s), _rounded(bound_s)
    known = [
        (field, figure)
        for field, figure in (("over_read_s", over_read_s), ("launch_s", launch_s))
        if figure.value is not None
    ]
    causes: dict[str, float] = {field: _rounded(figure.value or 0.0) for field, figure in known}
    notes = []
    rest = measured - bound - sum(causes.values())
    inefficiency = None
    holder = PARTS["residual_s"][0]
    if predicted_s.value is not None:
        inefficiency = _rounded(predicted_s.value) - bound - sum(causes.values())
        rest -= inefficiency
        holder = PARTS["inefficiency_s"][0]
    for field, figure in (("over_read_s", over_read_s), ("launch_s", launch_s)):
        if figure.value is None:
            notes.append(f"{PARTS[field][0]}: {figure.reason}; the {holder} holds it")
    if inefficiency is None:
        words = PARTS["inefficiency_s"][0]
        notes.append(f"{words}: {predicted_s.reason}; the residual holds it")
    return Attribution(
        measured_s=measured,
        bound_s=bound,
        over_read_s=causes.get("over_read_s"),
        launch_s=causes.get("launch_s"),
        inefficiency_s=inefficiency,
        residual_s=rest,
        notes=tuple(notes),
    )


def total(parts: Sequence[Attribution]) -> Attribution:
    """The sum of at least one attribution; a cause that one lacks stands where its notes say."""

    def sum_of(field: str) -> float | None:
        known = [value for each in parts if (value := getattr(each, field)) is not None]
        return sum(known) if known else None

    return Attribution(
        measured_s=sum(each.measured_s for each in parts),
        bound_s=sum(each.bound_s for each in parts),
        over_read_s=sum_of("over_read_s"),
        launch_s=sum_of("launch_s"),
        inefficiency_s=sum_of("inefficiency_s"),
        residual_s=sum(each.residual_s for each in parts),
        notes=tuple(dict.fromkeys(note for each in parts for note in each.notes)),
    )


def _rounded(seconds: float) -> float:
    """To a multiple of 2^-50 s: sums and differences below 8 s are then exact."""
    return round(seconds * _PER_S) / _PER_S
