"""How a predicted time is told: with how many digits, its interval, and where it was measured."""

from collections.abc import Sequence
from typing import Any

from costmodel import units
from costmodel.costs.latency import StepTime, Unknown
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.quantity import Quantity
from costmodel.layers.numbers import Number
from costmodel.questions.request import Served

DIGITS = 2  # of an interval's ends, and of a time that was not measured on its GPU or format
FIELDS = ("transferred_from", "not_measured")
MARK = "~"  # before a transferred time in tables of many
TRANSFERRED = (
    f"{MARK}: transferred from another GPU or format by datasheets, not measured; see"
    " docs/accuracy.md (Other GPUs and formats)."
)
MEASURED = "the times were measured on this GPU in these formats"


def transfer_json(time: StepTime | Unknown) -> dict[str, Any]:
    """From which GPU a time is transferred, and where it was not measured; None: it was, or n/a."""
    if isinstance(time, Unknown) or time.transfer is None:
        return dict.fromkeys(FIELDS)
    return dict(zip(FIELDS, (time.transfer.source, time.transfer.lacking), strict=True))


def transfer_reasons(time: StepTime | Unknown, section: str = "time") -> dict[str, str]:
    """Why the fields of `transfer_json` are None; nothing where they are not."""
    if not isinstance(time, Unknown) and time.transfer is not None:
        return {}
    reason = time.reason if isinstance(time, Unknown) else MEASURED
    return {f"{section}.{name}": reason for name in FIELDS}


def row_json(time: StepTime | Unknown) -> dict[str, Any]:
    """The ends of the interval and `transfer_json`, for a flat record."""
    ends = None if isinstance(time, Unknown) else time.interval_s
    low, high = (None, None) if ends is None else map(float, ends)
    return {"interval_low_s": low, "interval_high_s": high, **transfer_json(time)}


def transfer_words(predictions: Sequence[Prediction]) -> str:
    """`transferred from h200: not measured on this GPU`; empty where all times were measured."""
    times = [one.time for one in predictions if isinstance(one.time, StepTime)]
    return "; ".join(dict.fromkeys(time.transfer.label for time in times if time.transfer))


def shown(quantity: Quantity, value: Any, *, transferred: bool) -> str:  # noqa: ANN401 - see `Quantity.shown`
    """A value as its quantity is shown, with the digits of a transferred time where it is one."""
    if transferred and quantity.calibrated and isinstance(value, int | float):
        value = units.rounded(float(value), DIGITS)
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
