"""The schema of a steady loop whose energy was measured, for the fit of `costs/energy_fit.py`."""

from pydantic.dataclasses import dataclass

from costmodel.recordings.machine import Conditions, Label
from costmodel.recordings.measured import Amount, Measured
from costmodel.strict import STRICT


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class EnergyLoop:
    """A steady loop of seconds: what one round of it moves and computes, and what it draws."""

    name: Label
    bytes_read: Amount  # from HBM, of one round
    bytes_written: Amount
    l2_bytes: Amount  # read and written within L2
    flops: Amount  # executed by tensor cores, by the loop's shape
    round_s: Amount  # seconds of one round
    energy_j: Measured  # of one round
    power_w: Measured
    conditions: Conditions
