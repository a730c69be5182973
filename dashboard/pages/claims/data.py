"""The page `Is it true?` as data: claims, public measurements, predicted beside measured.

All of it is computed once in a process: it depends on nothing that a user chooses.
"""

from collections import Counter
from functools import cache
from statistics import median
from typing import get_args

from costmodel import units
from costmodel.costs.quantities.quantity import DIGITS_OF_TIMES
from costmodel.inputs.workload import Backend
from costmodel.questions.claims.answers import answers
from costmodel.questions.claims.claim import Answer, Word
from costmodel.questions.claims.held_out import HeldOutStep
from costmodel.questions.published.public_bounds import PublicBounds, RowBound, public_bounds
from costmodel.questions.published.public_energy import EnergyRow, energy_rows
from costmodel.questions.published.public_rows import public_rows
from costmodel.questions.published.public_shares import by_batch, rules
from costmodel.show.tables.claims import figure_cells
from costmodel.show.tables.held_out import HEADERS
from costmodel.show.tables.held_out import step_cells as held_out_cells
from costmodel.show.text import capitalised

CLAIMS, PUBLIC, ACCURACY = "claims", "public measurements", "accuracy"
WORST = "worst predictions"
PARTS = (CLAIMS, PUBLIC, ACCURACY, WORST)
EVERY = "all"
MAX_ROWS = 500  # of a table
FILTERS = {"gpu": "GPU", "engine": "Engine", "model": "Model"}
Cells = dict[str, str]


def ids() -> tuple[str, ...]:
    """The ids of all claims."""
    return tuple(answer.claim.id for answer in answers())


def answer_of(claim: str) -> Answer:
    """The answer to the claim of an id."""
    return next(answer for answer in answers() if answer.claim.id == claim)


def sentence() -> str:
    """How many claims have which verdict."""
    words = [answer.verdict.word for answer in answers()]
    counts = [_counted(words.count(word), word) for word in get_args(Word) if word in words]
    return f"Of {len(words)} claims, {', '.join(counts)}"


def _counted(number: int, word: Word) -> str:
    verb, _, rest = word.partition(" ")
    plural = {"holds": "hold", "does": "do"}.get(verb, verb)
    return f"{number} {verb if number == 1 else plural} {rest}".strip()


def figure_rows(answer: Answer) -> list[Cells]:
    """The figures of a claim: the values first, so that they are seen without scrolling."""
    return [
        {
            "Figure": what,
            "Of": sides,
            "First": first,
            "Second": second,
            "Ratio": ratio,
            "Computed or measured": way,
            "Source": source,
        }
        for what, sides, way, source, first, second, ratio in map(figure_cells, answer.figures)
    ]


def verdicts() -> list[Cells]:
    """A row for each claim."""
    return [
        {
            "Claim": f"{answer.claim.id}, {answer.claim.who}",
            "What is said": answer.claim.claim,
            "Judged here": answer.claim.judged,
            "Verdict": answer.verdict.word,
        }
        for answer in answers()
    ]


@cache
def public() -> PublicBounds:
    """All public rows of times with their bounds."""
    return public_bounds(public_rows())


@cache
def energies() -> tuple[tuple[EnergyRow, RowBound], ...]:
    """Public rows of energy that have a bound."""
    bounds = {
        bound.row.id: bound for bound in public_bounds(one.row for one in energy_rows()).bounds
    }
    return tuple((one, bounds[one.row.id]) for one in energy_rows() if one.row.id in bounds)


def names(of: str) -> list[str]:
    """The GPUs, engines or models of rows with a bound."""
    return sorted({_named(bound, of) for bound in public().bounds})


def chosen(wanted: dict[str, str]) -> list[RowBound]:
    """The rows with a bound of the chosen GPU, engine and model."""
    return [
        bound
        for bound in public().bounds
        if all(name in {EVERY, _named(bound, of)} for of, name in wanted.items())
    ]


def _named(bound: RowBound, of: str) -> str:
    return str(getattr(bound.row, of))


def row_cells(bound: RowBound) -> Cells:
    """A public row: circumstances, bound, prediction, measured time, share, source."""
    row, point = bound.row, bound.point
    return {
        "Model": row.model,
        "GPUs": f"{row.gpus} x {row.gpu}",
        "Engine": f"{row.engine} {row.engine_version}".strip(),
        "Weights": row.weights,
        "Batch": units.count(point.batch),
        "Context": units.count(point.context),
        "Bound": units.seconds(bound.bound_s),
        "Predicted": _predicted(bound.predicted_s, "s"),
        "Measured": units.seconds(row.measured_s),
        "Bound / measured": units.formatted(bound.share, "share"),
        "Why no prediction": bound.reason or "",
        "Source": row.source.address,
    }


def energy_cells(one: EnergyRow, bound: RowBound) -> Cells:
    """A public row of energy: joules a token, power, and the time of its step with the bound."""
    step_j = bound.predicted_j
    return {
        "Model": one.row.model,
        "GPUs": f"{one.row.gpus} x {one.row.gpu}",
        "Task": one.task,
        "Batch": units.count(bound.point.batch),
        "Measured J a token": units.formatted(one.j_per_token, "j"),
        "Predicted J a token": _predicted(step_j and step_j / bound.point.batch, "j"),
        "Measured power": units.formatted(one.power_w, "w"),
        "Bound of a step": units.seconds(bound.bound_s),
        "Measured step": units.seconds(one.row.measured_s),
        "Why no prediction": bound.reason or "",
        "Source": one.row.source.address,
    }


def public_sentence(bounds: list[RowBound]) -> str:
    """How many rows there are, what share they reach, and why some are not predicted."""
    shares = [bound.share for bound in bounds]
    lacking = Counter(_in_short(bound.reason) for bound in bounds if bound.predicted_s is None)
    told = (
        f"{len(bounds):,} rows with a bound; bound over measured: median"
        f" {units.formatted(median(shares), 'share')}, at most"
        f" {units.formatted(max(shares), 'share')};"
        f" {len(bounds) - lacking.total():,} with a predicted time"
    )
    if lacking:
        why = (f"{reason} ({rows:,})" for reason, rows in lacking.most_common())
        told += f"; why not: {', '.join(why)}"
    return told


def _in_short(reason: str | None) -> str:
    """Why a row is not predicted, without what differs from row to row."""
    return (reason or "").partition(";")[0].partition(" for GPU ")[0]


def engine_rules() -> tuple[str, ...]:
    """How many times its bound a step takes, by engine."""
    return rules(by_batch(public().bounds))


def backend_named(name: str | None) -> Backend | None:
    """The backend of a name; None of `EVERY`."""
    return next((backend for backend in get_args(Backend) if backend == name), None)


def step_cells(step: HeldOutStep) -> Cells:
    """One held-out step, predicted and measured."""
    return dict(zip(map(capitalised, HEADERS), held_out_cells(step), strict=True))


def _predicted(value: float | None, unit: units.Unit) -> str:
    """A predicted time or energy, with the digits of a prediction; n/a where there is none."""
    return units.formatted(value and units.rounded(value, DIGITS_OF_TIMES), unit)
