"""A match as data: the sentences and cards of the answer, and the ratios of both models."""

from collections.abc import Sequence
from dataclasses import dataclass

from costmodel import units
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.inputs.workload import Workload
from costmodel.questions.match import Match
from costmodel.questions.match_differences import Difference
from costmodel.questions.matching.search import Equal
from costmodel.show.match_json import match_records
from dashboard.app.widgets import Card, plain

EQUAL: dict[Equal, str] = {
    "parameters": "Parameters",
    "flops": "FLOPs per token",
    "bytes": "HBM bytes",
}
TIMES = ("time.predicted_s", "time.floor_s")  # the first that is known is told


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A number of the match over that of the target; `batch` is None where none changes it."""

    batch: int | None
    name: str
    ratio: float


def answer_sentence(answer: Match) -> str:
    """The title: the sizes with which the template matches the target."""
    sizes = " and ".join(f"{name}={after:,}" for name, (_, after) in answer.fields.items())
    return f"{answer.template.name} matches {answer.target.name} with {sizes}"


def answer_cards(answer: Match) -> list[Card]:
    """The sizes of the match, and how far what was set equal is from the target's."""
    cards = [
        Card(
            label=plain(name),
            value=f"{after:,}",
            help=f"{before:,} in the template; searched in steps of {answer.steps[name]:,}",
        )
        for name, (before, after) in answer.fields.items()
    ]
    for name, record in zip(answer.equal, match_records(answer, ()), strict=True):
        cards.append(
            Card(
                label=f"{EQUAL[name]}: off by",
                value=f"{record['difference_percent']:+.3f} %",
                help=f"{round(record['difference']):+,} of {round(record['target']):,}",
            )
        )
    return cards


def cost_sentence(lines: Sequence[Difference], gpu: str) -> str:
    """The ratio of the two models' times at each batch, predicted or else by the roofline bound."""
    by_time = {
        name: ", ".join(
            f"{units.ratio(line.matched / line.target)} at batch {line.batch:,}"
            for line in lines
            if line.name == name
            and isinstance(line.target, int | float)
            and isinstance(line.matched, int | float)
        )
        for name in TIMES
    }
    known = STEP_QUANTITIES[next(name for name in TIMES if by_time[name])]
    backend = f" with the backend {Workload().backend}" if known.calibrated else ""
    return (
        f"Equal in size; {known.label} of a decode step on {gpu}{backend} over the target's:"
        f" {by_time[known.name]}."
    )


def ratios(answer: Match, lines: Sequence[Difference]) -> list[Ratio]:
    """Match over target of every number that both models have."""
    dots = []
    for record in match_records(answer, lines):
        name = STEP_QUANTITIES[record["quantity"]].label
        if record["target"] and record["matched"]:
            ratio = record["matched"] / record["target"]
            dots.append(Ratio(batch=record["batch"], name=name, ratio=ratio))
    return dots
