"""Which quantities of a step a report holds, by their names in the registry, and their types.

All that a summary of a step tells, and the cost of a million tokens, which follows from a price.
"""

from costmodel.costs.quantities.meshes import MESH_SECTIONS
from costmodel.costs.quantities.quantity import Quantity
from costmodel.costs.quantities.step import STEP_QUANTITIES, STEP_SECTIONS

PRICE = "cost.usd_per_million_tokens"
REPORTED: dict[str, Quantity] = {
    **{quantity.name: quantity for section in STEP_SECTIONS for quantity in section},
    PRICE: STEP_QUANTITIES[PRICE],
    **{quantity.name: quantity for section in MESH_SECTIONS for quantity in section},
}
OF_A_MESH = frozenset(quantity.name for section in MESH_SECTIONS for quantity in section)
"""Those that a step on one GPU lacks."""
EXCHANGE_FIELDS = ("count", "payload_bytes", "sent_bytes", "floor_s", "low_s", "time_s", "high_s")
"""What a report tells of an exchange, by the names of `parallel.exchanges`."""
COMPULSORY_PARTS = (  # they sum to the compulsory bytes
    "hbm_bytes.weights",
    "hbm_bytes.kv",
    "hbm_bytes.state",
    "hbm_bytes.table_rows",
    "hbm_bytes.indices",
    "hbm_bytes.io",
)
NEEDED = (  # what sentences say: no report is without
    "flops.total",
    "hbm_bytes.compulsory",
    "memory.fits",
    "memory.total_bytes",
    "time.floor_s",
)


def may_lack(quantity: Quantity) -> bool:
    """Whether a quantity may be unknown: without a calibration, kernels, a price or such layers."""
    return quantity.calibrated or quantity.by_backend or bool(quantity.none_because)


def is_of(quantity: Quantity, value: object) -> bool:
    """Whether a value is of the quantity's type, or is None where it may be unknown."""
    if value is None:
        return may_lack(quantity)
    if quantity.unit == "bool":
        return isinstance(value, bool)
    if quantity.unit == "text":
        return isinstance(value, str)
    return isinstance(value, int | float) and not isinstance(value, bool)
