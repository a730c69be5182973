"""A quantity along an axis or down a column: its label, and one unit for all of its values."""

from dataclasses import dataclass

from costmodel import units
from costmodel.costs.quantities.quantity import Quantity
from costmodel.show.text import capitalised


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A quantity whose values are shown in one unit; `prefix` is that unit's: `G` of `GB`."""

    quantity: Quantity
    prefix: str = ""

    @property
    def unit(self) -> str:
        """The unit in short: `GB`."""
        return units.scale(self.quantity.unit, self.prefix)[0]

    @property
    def title(self) -> str:
        """The label with the unit, as an axis shows it: `compulsory HBM bytes, GB`."""
        return f"{self.quantity.label}, {self.unit}"

    @property
    def heading(self) -> str:
        """The same at the head of a column: `Compulsory HBM bytes, GB`."""
        return capitalised(self.title)

    def shown(self, value: float) -> float:
        """A value in the unit of the axis, with the digits that the quantity has."""
        return units.rounded(self.scaled(value), self.quantity.digits)

    def scaled(self, value: float) -> float:
        """A value in the unit of the axis."""
        return value / units.scale(self.quantity.unit, self.prefix)[1]
