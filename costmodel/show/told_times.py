"""How a predicted time is told: with how many digits, its interval, and where it was measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from costmodel import units
from costmodel.costs.intervals import COVERAGE
from costmodel.costs.latency import StepTime, Unknown
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.quantity import DIGITS_OF_TIMES, Quantity
from costmodel.costs.quantities.requests import REQUEST_QUANTITIES
from costmodel.layers.numbers import Number
from costmodel.questions.request import Served

DIGITS = 2  # of an interval's ends, and of what is predicted within a wide one
WIDE = 0.1  # of a predicted time: half the width of an interval that leaves no third digit
NO_LEAVES = "intervals come from measured leaves, and the calibration holds single kernels"
MARK = "~"  # before a transferred time in tables of many
TRANSFERRED = (
    f"{MARK}: transferred from another GPU or format by datasheets, not measured; see"
    " docs/accuracy.md (Other GPUs and formats)."
)
ENDS = ("interval_low_s", "interval_high_s")
ROW_REASONS = {  # why a row lacks what another has, where its time is known
    **dict.fromkeys(ENDS, NO_LEAVES),
    **dict.fromkeys(
        ("transferred_from", "not_measured"), "measured on this GPU in the formats of this row"
    ),
}


def transfer_json(time: StepTime | Unknown) -> dict[str, str]:
    """From which GPU a time is transferred, and where it was not measured; nothing of others."""
    if isinstance(time, Unknown) or time.transfer is None:
        return {}
    return {"transferred_from": time.transfer.source, "not_measured": time.transfer.lacking}


def told_rows(times: Sequence[StepTime | Unknown]) -> list[dict[str, Any]]:
    """The ends of intervals and `transfer_json` of each time, for flat records.

    What no time has is left out of all; what one lacks is None (`ROW_REASONS`).
    """
    rows: list[dict[str, Any]] = []
    for time in times:
        ends = None if isinstance(time, Unknown) else time.interval_s
        low_high = {} if ends is None else dict(zip(ENDS, map(float, ends), strict=True))
        rows.append(low_high | transfer_json(time))
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]


def transfer_words(predictions: Sequence[Prediction]) -> str:
    """`transferred from h200: not measured on this GPU`; empty where all times were measured."""
    times = [one.time for one in predictions if isinstance(one.time, StepTime)]
    return "; ".join(dict.fromkeys(time.transfer.label for time in times if time.transfer))


def told_transfer(time: StepTime | Unknown) -> str:
    """Interval and label of a transferred time; empty of others."""
    if isinstance(time, Unknown) or time.transfer is None or time.interval_s is None:
        return ""
    return f"{interval_words(time.interval_s)}, {time.transfer.label}"


def digits_within(predicted_s: Number | None, interval_s: Sequence[Number] | None) -> int:
    """The significant digits of a predicted time, by the width of its interval, both in seconds.

    Two where half the interval is more than a tenth of the time; three where it is less, or where
    no interval is known. What follows from the time (rate, energy, cost) is told with as many.
    """
    if predicted_s is None or interval_s is None:
        return DIGITS_OF_TIMES
    low, high = map(float, interval_s)
    return DIGITS if (high - low) / 2 > WIDE * float(predicted_s) else DIGITS_OF_TIMES


def digits_of(*times: StepTime | Unknown) -> int:
    """The digits of the predicted times of steps told together: those of the widest interval.

    A transferred time never has a third digit, whatever its interval.
    """
    known = [time for time in times if not isinstance(time, Unknown)]
    if any(time.transfer for time in known):
        return DIGITS
    return min(
        (digits_within(time.predicted_s, time.interval_s) for time in known),
        default=DIGITS_OF_TIMES,
    )


def row_digits(record: Mapping[str, Any], section: str = "") -> int:
    """`digits_of` the time of a flat record, or of the section `time` of the JSON.

    `section` stands before the names of the record: `time.`.
    """
    if record.get(f"{section}transferred_from") is not None:
        return DIGITS
    ends = record.get(f"{section}interval_s") or [record.get(f"{section}{end}") for end in ENDS]
    known = None if None in ends else ends
    return digits_within(record.get(f"{section}predicted_s"), known)


def shown(quantity: Quantity, value: Any, digits: int) -> str:  # noqa: ANN401 - see `Quantity.shown`
    """A value as its quantity is shown; what a calibration predicts, with its time's digits."""
    if quantity.calibrated and isinstance(value, int | float):
        value = units.rounded(float(value), digits)
    return quantity.shown(value)


def interval_words(interval_s: Sequence[Number]) -> str:
    """`3.7 ms to 10 ms`, in two digits."""
    low, high = (units.seconds(units.rounded(float(end), DIGITS)) for end in interval_s)
    return f"{low} to {high}"


def request_intervals(served: Served) -> dict[str, list[float]]:
    """Intervals of 90 % about what requests wait for, seconds, by section; empty without leaves.

    TTFT has that of its step. A token has that of the last decode step, as a share; errors of all
    steps are one error, so ends add up.
    """
    prefill, last = served.prefill_step.time, served.end_step.time
    times = (served.ttft_s.predicted, served.tpot_s.predicted, served.latency_s.predicted)
    if isinstance(prefill, Unknown) or isinstance(last, Unknown):
        return {}
    if prefill.interval_s is None or last.interval_s is None:
        return {}
    first = [float(end) for end in prefill.interval_s]
    ttft, tpot, latency = times
    intervals = {"ttft": first}
    if isinstance(ttft, Unknown) or isinstance(latency, Unknown):
        return intervals
    shares = [float(end / last.predicted_s) for end in last.interval_s]
    if not isinstance(tpot, Unknown):
        intervals["tpot"] = [tpot * share for share in shares]
    intervals["latency"] = [
        end + (latency - ttft) * share for end, share in zip(first, shares, strict=True)
    ]
    return intervals


def interval_notes(served: Served) -> list[str]:
    """The intervals about what requests wait for, in words; nothing without measured leaves."""
    words = [
        f"{REQUEST_QUANTITIES[f'{section}.predicted_s'].label} {interval_words(ends)}"
        for section, ends in request_intervals(served).items()
    ]
    return [f"Intervals of {COVERAGE:.0%}: {', '.join(words)}."] * bool(words)
