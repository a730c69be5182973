"""What a user and a payer ask of served requests: each answer as predicted and by its bound."""

from dataclasses import dataclass

from costmodel import units
from costmodel.costs.latency import Unknown
from costmodel.costs.quantities.quantity import Quantity
from costmodel.costs.quantities.requests import REQUEST_QUANTITIES
from costmodel.questions.request import Served
from costmodel.show.request_json import numbers
from costmodel.show.told_times import (
    DIGITS,
    MARK,
    digits_within,
    request_intervals,
    shown,
    transfer_words,
)

TIMES = ("ttft", "tpot", "latency")  # that a request waits for, each with an interval
ANSWERS = (  # predicted ones, in the order of the table
    "ttft.predicted_s",
    "tpot.predicted_s",
    "latency.predicted_s",
    "throughput.predicted_tokens_per_s",
    "throughput.predicted_tokens_per_s_per_user",
    "energy.j_per_request",
    "energy.j_per_million_output_tokens",
    "energy.j_per_million_tokens",
    "cost.predicted_usd_per_request",
    "cost.predicted_usd_per_million_output_tokens",
    "cost.predicted_usd_per_million_tokens",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A quantity as predicted, and from the roofline bounds of the steps; energy has no bound."""

    quantity: Quantity  # the predicted one
    predicted: float | Unknown
    bound: float | Unknown | None
    digits: int  # significant ones, as the interval of its time allows
    transferred: bool = False  # of times that were not measured on this GPU or format

    @property
    def predicted_words(self) -> str:
        """The predicted value in its unit, or n/a; marked where its time is transferred."""
        if isinstance(self.predicted, Unknown):
            return units.NOT_KNOWN
        return f"{MARK * self.transferred}{shown(self.quantity, self.predicted, self.digits)}"

    @property
    def bound_words(self) -> str | None:
        """The bound in its unit, or n/a; None where there is no bound."""
        if self.bound is None:
            return None
        bound = None if isinstance(self.bound, Unknown) else self.bound
        return units.formatted(bound, self.quantity.unit)  # no calibration made it


def answers(served: Served) -> dict[str, Answer]:
    """The answers by the JSON names of their predicted values."""
    values = numbers(served)
    transferred = bool(transfer_words([served.prefill_step]))
    intervals = request_intervals(served)
    times = {section: values[f"{section}.predicted_s"] for section in TIMES}
    digits = {
        section: digits_within(None if isinstance(time, Unknown) else time, intervals.get(section))
        for section, time in times.items()
    }
    return {
        name: Answer(
            quantity=REQUEST_QUANTITIES[name],
            predicted=values[name],
            bound=values.get(name.replace(".predicted_", ".floor_"))
            if ".predicted_" in name
            else None,
            digits=DIGITS if transferred else digits[_waited_for(name)],
            transferred=transferred,
        )
        for name in ANSWERS
    }


def _waited_for(name: str) -> str:
    """Whose time an answer follows from: its own, else the latency of the request."""
    section = name.partition(".")[0]
    return section if section in TIMES else "latency"


def reasons(served: Served) -> list[str]:
    """Why some of the answers are not known, each reason once."""
    values = [
        value for answer in answers(served).values() for value in (answer.bound, answer.predicted)
    ]
    return list(dict.fromkeys(value.reason for value in values if isinstance(value, Unknown)))


def shown_value(quantity: Quantity, value: float | Unknown) -> str:
    """A value as the quantity is shown; n/a where it is not known."""
    return quantity.shown(None if isinstance(value, Unknown) else value)
