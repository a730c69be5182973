"""How a report's numbers come about: definitions, formulas and sources, each where it is from.

Nothing is written here a second time: what a quantity counts and leaves out stands in the registry,
formulas stand with the operators, sources of GPU numbers with the GPU.
"""

import inspect
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import costmodel
from costmodel.costs import latency
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.quantity import Quantity
from costmodel.costs.roofline import PROMISE
from costmodel.explain.explanation import documented
from costmodel.routing.by_population import histograms_of
from costmodel.show.tables.notes import calibration_note
from costmodel.show.text import capitalised, printable
from costmodel.validation import join
from dashboard.report.quantities import OF_A_MESH, REPORTED

CONVENTIONS = (
    "A FLOP is a floating-point operation: a multiply-add counts 2. Comparisons of a choice are"
    " counted apart, as compares. Rates and traffic are SI (1 GB = 1e9 bytes), capacities GiB"
    f" (2^30 bytes). Of a roofline bound: {PROMISE}; a prediction claims no such thing."
)
EXPLAINED: tuple[tuple[str, ModuleType], ...] = (
    ("how times are predicted", latency),
    ("how predictions meet recordings", join),
)


def method_notes(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Definitions and formulas, then the sources of models, GPU and calibration, as JSON."""
    first = predictions[0]
    notes = [_note("conventions", "units and words", CONVENTIONS, "")]
    notes += [
        _note("quantities", quantity.label, _definition(quantity), _where(quantity))
        for name, quantity in REPORTED.items()
        if name not in OF_A_MESH or first.parallel is not None
    ]
    notes += [
        _note("conventions", what, _text(module), _version(module.__name__))
        for what, module in EXPLAINED
    ]
    notes += _operators(predictions)
    notes += _models(predictions)
    hardware = first.hardware
    notes += [
        _note("GPU", f"{hardware.name}: {path}", f"{value:g}", hardware.sources[path])
        for path, value in hardware.numbers().items()
    ]
    notes += [
        _note("GPU", "calibration", words, "sparsecost calibrate")
        for words in calibration_note(first)
    ]
    routing = first.workload.routing
    notes += [
        _note("workload", measured.label, "measured choices", measured.source)
        for measured in histograms_of(routing)
    ]
    return notes


def _operators(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Each formula once, under the names of the leaves that it is of."""
    leaves: dict[tuple[str, str, str], dict[str, None]] = {}
    for prediction in predictions:
        for operator in prediction.costs.operators:
            formula = operator.summary, operator.formula, operator.source
            leaves.setdefault(formula, {})[operator.leaf] = None
    return [
        _note("operators", ": ".join(filter(None, (", ".join(names), summary))), formula, source)
        for (summary, formula, source), names in leaves.items()
    ]


def _models(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    models = {prediction.model.name: prediction.model for prediction in predictions}
    notes = []
    for name, model in models.items():
        notes.append(_note("models", name, "source of its dimensions", model.source))
        notes += [_note("models", name, note, "note") for note in model.notes]
        notes += [_note("models", name, assumption, "assumed") for assumption in model.assumptions]
    return notes


def _definition(quantity: Quantity) -> str:
    """What the quantity counts, and what it leaves out."""
    counts = f"{capitalised(quantity.counts)}."
    return f"{counts} Leaves out: {quantity.leaves_out}." if quantity.leaves_out else counts


def _where(quantity: Quantity) -> str:
    """Where the quantity is computed, and the source that its formula cites."""
    docstring = documented(quantity)
    place = _version(docstring.place)
    return f"{place}; {docstring.cited}" if docstring.cited else place


def _version(place: str) -> str:
    return f"{place} of sparsecost {costmodel.__version__}"


def _text(module: ModuleType) -> str:
    return " ".join((inspect.getdoc(module) or "").split())


def _note(topic: str, what: str, text: str, source: str) -> dict[str, Any]:
    return {
        "topic": topic,
        "what": printable(what),
        "text": printable(text),
        "source": printable(source),
    }
