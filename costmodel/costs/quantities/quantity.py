"""What the registry says of one quantity: its name, its label, its unit, its definition."""

from dataclasses import dataclass
from typing import Any, SupportsFloat

from costmodel.units import Unit, formatted, rounded

DIGITS = 4  # significant ones of an exact number
DIGITS_OF_TIMES = 3  # of what a calibration predicts, which is some 10 % off


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One number that a command computes.

    Attributes:
        name: where it stands in the JSON, keys joined by dots: `hbm_bytes.compulsory`. Formulas
            with their values (`explain`) are attached to a quantity by this name.
        label: what a reader calls it in every table, card, chart and report. It is written in the
            registry and nowhere else, and no two quantities share one.
        short: the label where there is little room, such as on a card; empty: the label itself.
        unit: says how `units.formatted` writes the value.
        counts: what is counted, in one line.
        leaves_out: what a reader might expect in it and does not find.
        formula: where it is computed, `module:function`.
        also: further names of the same quantity in the JSON: of one operator, of one of its parts,
            of a row of a comparison.
        calibrated: null unless a calibration of the GPU is applied.
        by_backend: counts kernels: null where the backend has none for the step.
        none_because: why it is null where the model, or the cost model, has no such number.
    """

    name: str
    label: str
    short: str = ""
    unit: Unit
    counts: str
    leaves_out: str = ""
    formula: str
    also: tuple[str, ...] = ()
    calibrated: bool = False
    by_backend: bool = False
    none_because: str = ""

    @property
    def digits(self) -> int:
        """How many significant digits a page shows."""
        return DIGITS_OF_TIMES if self.calibrated else DIGITS

    def shown(self, value: Any) -> str:  # noqa: ANN401 - a number, a verdict or a word
        """A value as a page shows it; counts to the unit."""
        if self.calibrated and isinstance(value, SupportsFloat):
            value = rounded(float(value), self.digits)
        return formatted(value, self.unit)
