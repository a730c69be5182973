"""Rows of the Method page that are values of the code: quantities, formulas, calibrations."""

from dataclasses import fields
from functools import cache
from typing import TypeAlias

from costmodel.costs.calibrations import calibrated, calibration_names
from costmodel.costs.kernel_times import LEAVES, Curves
from costmodel.costs.operators import build_operators
from costmodel.costs.quantities.matches import MATCH_QUANTITIES
from costmodel.costs.quantities.requests import REQUEST_QUANTITIES
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.costs.quantities.utilisation import UTILISATION_QUANTITIES
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.workload import Workload
from costmodel.recordings.quantities import QUANTITIES
from costmodel.show.text import capitalised
from dashboard.app.paths import leaf_of

Cells: TypeAlias = dict[str, str]

REGISTERS = {  # by the command whose JSON has them
    "predict": STEP_QUANTITIES,
    "request": REQUEST_QUANTITIES,
    "match": MATCH_QUANTITIES,
    "validate": UTILISATION_QUANTITIES,
}
OR = "; or "  # between the formulas of an operator
EVERY_MODEL = "every model"  # in place of a layer kind
PHASES = (Workload(), Workload(phase="prefill", context=0, new_tokens=2048))


def predicted_quantities() -> list[Cells]:
    """The numbers of the commands' JSON: what each counts, its name there, and its function."""
    return [
        {
            "Quantity": capitalised(quantity.label),
            "Counts": quantity.counts
            + (f". Leaves out: {quantity.leaves_out}" if quantity.leaves_out else ""),
            "Where": f"{command}: {quantity.name}, by {_function(quantity.formula)}",
        }
        for command, register in REGISTERS.items()
        for quantity in dict.fromkeys(register.values())
    ]


def _function(formula: str) -> str:
    """The file and the function of a formula: `roofline.floor_s`."""
    module, _, function = formula.partition(":")
    return f"{module.rpartition('.')[2]}.{function}"


def operators() -> list[Cells]:
    """The operators of all presets in decode and prefill: formulas and source, each once.

    An operator has several formulas where they depend on the options of its layer. Operators
    outside the layer kinds (embedding, norms, LM head) come first.
    """
    formulas: dict[tuple[str, str, str], list[str]] = {}
    for kind, leaf, formula, source in sorted(_operators()):
        formulas.setdefault((kind, leaf, source), []).append(formula)
    return [
        {
            "Layer kind": kind,
            "Operator": leaf,
            "Formula: FLOPs, or bytes where it says so": OR.join(of_leaf),
            "Source": source,
        }
        for (kind, leaf, source), of_leaf in sorted(
            formulas.items(), key=lambda item: (item[0][0] != EVERY_MODEL, item[0])
        )
    ]


@cache
def _operators() -> frozenset[tuple[str, str, str, str]]:
    """Layer kind, leaf, formula and source of the operators of all presets."""
    rows = set()
    for name in model_names():
        model = load_model(name)
        for workload in PHASES:
            step = workload.step()
            for operator in build_operators(model, step):
                of = operator.layer_kind
                kind = EVERY_MODEL if of is None else type(of).__name__
                rows.add((kind, leaf_of(operator.path), operator.formula, operator.source))
    return frozenset(rows)


def calibrations() -> list[Cells]:
    """The shipped calibrations: of which GPU, when, with what, and how many points of each sort."""
    rows = []
    for name in calibration_names():
        curves = calibrated(name.removesuffix(LEAVES), name)
        assert isinstance(curves, Curves)  # a shipped name has curves
        calibration = curves.calibration
        points = {
            field.name: len(value)
            for field in fields(calibration)
            if isinstance(value := getattr(calibration, field.name), tuple)
        }
        for backend, leaves in curves.leaves.items():
            points[f"leaves of {backend}"] = sum(len(of.errors) for of in leaves.nodes.values())
        rows.append(
            {
                "Calibration": name,
                "GPU": calibration.machine.name,
                "Measured": calibration.conditions.started,
                "torch": calibration.machine.torch,
                "Points, count": ", ".join(f"{sort} {count}" for sort, count in points.items()),
                "Power": "not measured" if calibration.power is None else "measured",
            }
        )
    return rows


def measured_quantities() -> list[Cells]:
    """The quantities that a profile measures, and the files that say how."""
    return [
        {
            "Quantity": quantity.name,
            "Unit": quantity.unit,
            "Run": ", ".join(quantity.runs),
            "Of": ", ".join(quantity.levels),
            "Predicted counterpart": quantity.counterpart or "none",
            "Must agree": "exactly" if quantity.exact else "",
            "How": ", ".join(f"profiler/runs/{run}.py" for run in quantity.runs),
        }
        for quantity in QUANTITIES.values()
    ]
