"""How a report's numbers come about, from the docstrings that state it, each with its source.

Nothing is written here a second time: formulas stand with the operators, what is left out stands in
the docstrings of the cost model, sources of GPU numbers stand with the GPU.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import costmodel
from costmodel.costs import energy, footprint, totals
from costmodel.costs import latency as predicted
from costmodel.costs import roofline as time
from costmodel.costs.kernel_times import Curves
from costmodel.costs.predict import Prediction
from costmodel.layers.operator import Operator, Traffic
from costmodel.routing.popularity import Histogram
from costmodel.show.tables.prediction import predicted_by
from costmodel.show.text import printable
from costmodel.validation import join
from dashboard.report.quantities import PRICE

CONVENTIONS = (
    "A FLOP is a floating-point operation: a multiply-add counts 2. Comparisons of a choice are"
    " counted apart, as compares. Rates and traffic are SI (1 GB = 1e9 bytes), capacities GiB"
    " (2^30 bytes). A floor is a bound that nothing beats, a prediction claims no such thing."
)
PRICED = (
    "Price of an hour / 3600 s x predicted time / tokens of the step, for a million tokens. Leaves"
    " out: idle time, and prefill where the step is a decode step (sparsecost request has both)."
)
DOCUMENTED: tuple[tuple[str, object], ...] = (
    ("parameters", totals.ParameterCounts),
    ("HBM bytes, compulsory", Traffic.compulsory_bytes),
    ("floor time", time.floor_s),
    ("predicted time", predicted),
    ("predicted time, of the step", predicted.step_time),
    ("energy", energy.energy_j),
    ("memory", footprint.footprint),
    ("predicted beside measured", join),
)


def method_notes(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Conventions and formulas, then the sources of models, GPU and calibration, as JSON."""
    first = predictions[0]
    notes = [_note("conventions", "units and words", CONVENTIONS, "")]
    notes += [
        _note("conventions", what, _documented(each), _module(each)) for what, each in DOCUMENTED
    ]
    notes.append(_note("conventions", "cost of a million tokens", PRICED, PRICE))
    notes += _operators(predictions)
    notes += _models(predictions)
    hardware = first.hardware
    notes += [
        _note("GPU", f"{hardware.name}: {path}", f"{value:g}", hardware.sources[path])
        for path, value in hardware.numbers().items()
    ]
    if isinstance(first.calibration, Curves):
        words = predicted_by(first.calibration, first.workload)
        notes.append(_note("GPU", "calibration", words, "sparsecost calibrate"))
    routing = first.workload.routing
    if isinstance(routing, Histogram):
        notes.append(_note("workload", routing.label, "measured choices", routing.source))
    return notes


def _operators(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Each formula once, under the names of the leaves that it is of."""
    leaves: dict[tuple[str, str], list[str]] = {}
    for prediction in predictions:
        for operator in prediction.costs.operators:
            names = leaves.setdefault((operator.formula, operator.source), [])
            if _leaf(operator) not in names:
                names.append(_leaf(operator))
    return [
        _note("operators", ", ".join(names), formula, source)
        for (formula, source), names in leaves.items()
    ]


def _models(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    models = {prediction.model.name: prediction.model for prediction in predictions}
    notes = []
    for name, model in models.items():
        notes.append(_note("models", name, "source of its dimensions", model.source))
        notes += [_note("models", name, each, "note") for each in model.notes]
        notes += [_note("models", name, each, "assumed") for each in model.assumptions]
    return notes


def _leaf(operator: Operator) -> str:
    """The operator's path without its layers: `attention.core`."""
    return operator.path.rpartition("}.")[2] if "}" in operator.path else operator.path


def _documented(found: object) -> str:
    text = inspect.getdoc(found)
    assert text is not None
    return " ".join(text.partition("\nArgs:")[0].partition("\nSource:")[0].split())


def _module(found: object) -> str:
    """Where a reader finds it, and its source where the docstring gives one."""
    given = (inspect.getdoc(found) or "").partition("\nSource:")[2]
    owner = found.fget if isinstance(found, property) else found
    place = owner if inspect.ismodule(owner) else inspect.getmodule(owner)
    assert place is not None
    told = f"; {' '.join(given.split())}" if given else ""
    return f"{place.__name__} of sparsecost {costmodel.__version__}{told}"


def _note(topic: str, what: str, text: str, source: str) -> dict[str, Any]:
    return {
        "topic": topic,
        "what": printable(what),
        "text": printable(text),
        "source": printable(source),
    }
