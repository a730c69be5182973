"""The Method page as data: formulas and ways of measuring, read from the code that has them.

Nothing is retyped: operators carry their formulas, and all else stands in docstrings.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from costmodel.costs.calibrations import calibrated, calibration_names
from costmodel.costs.kernel_times import Curves
from costmodel.costs.operators import build_operators
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.operator import Step
from costmodel.layers.site import Site
from costmodel.recordings.quantities import QUANTITIES
from dashboard.pages.method.docstrings import Entry, entries_of, package_folder

Cells: TypeAlias = dict[str, str]

NOTATION, FORMULAS, PREDICTED, MEASURED = "notation", "formulas", "predicted time", "measuring"
PACKAGES = ("costmodel", "profiler")
PARTS = (NOTATION, FORMULAS, PREDICTED, MEASURED)
PHASES = (Workload(), Workload(phase="prefill", context=0, new_tokens=2048))
EVERY = "every model"  # in place of a layer kind
MAX_SEARCH_CHARS = 100
PREDICTING = (  # files of the predicted time; the others of their folders are of the counts
    "costmodel/costs/latency.py",
    "costmodel/costs/kernel_times.py",
    "costmodel/costs/interpolate.py",
    "costmodel/costs/energy.py",
    "costmodel/costs/calibrations.py",
    "costmodel/layers/kernel_shape.py",
    "profiler/calibrate/",
)
COUNTING = (
    "costmodel/costs/operators.py",
    "costmodel/layers/",
    "costmodel/costs/",
    "costmodel/validation/bounds.py",
    "costmodel/questions/request.py",
    "costmodel/questions/generation.py",
    "costmodel/questions/compare.py",
    "costmodel/questions/match.py",
    "costmodel/matching/",
)
MEASURING = (
    "profiler/",
    "costmodel/recordings/quantities.py",
    "costmodel/validation/utilisation.py",
    "costmodel/validation/recorded_routing.py",
    "costmodel/validation/counterparts.py",
    "costmodel/validation/join.py",
    "costmodel/validation/repeatability.py",
    "costmodel/validation/validate.py",
)

LAYERS = re.compile(r"^layers\.(?:\{[^}]*\}|\d+)\.")
LETTERS = ("Letters: ", "Notation: ")
RUN = re.compile(r"^The run `(\w+)`")


def entries(part: str) -> tuple[Entry, ...]:
    """The docstrings that one part shows, in the order of its list; of `profiler` those of files.

    A function of `profiler` is among them if it names a source.
    """
    wanted = {FORMULAS: COUNTING, PREDICTED: PREDICTING, MEASURED: MEASURING}.get(part, ())
    elsewhere = () if part == PREDICTED else PREDICTING
    found = [
        entry
        for folder in map(package_folder, PACKAGES)
        if folder is not None
        for entry in entries_of(folder)
        if entry.file.startswith(wanted)
        and not entry.file.startswith(elsewhere)
        and (folder.name == "costmodel" or not entry.name or entry.source)
    ]

    def place(entry: Entry) -> int:
        return next(i for i, each in enumerate(wanted) if entry.file.startswith(each))

    return tuple(sorted(found, key=place))


def entry_rows(found: Iterable[Entry]) -> list[Cells]:
    """Docstrings as a table; without a source of its own one has that of its file."""
    folders = [folder for folder in map(package_folder, PACKAGES) if folder is not None]
    of_file = {e.file: e.source for folder in folders for e in entries_of(folder) if not e.name}
    return [
        {
            "File": entry.file,
            "Of": entry.name or "the whole file",
            "Says": entry.says,
            "Leaves out": entry.leaves_out,
            "Source": entry.source or of_file.get(entry.file, ""),
        }
        for entry in found
    ]


def notation() -> list[Cells]:
    """The letters of all formulas, and what a file says of letters of its own."""
    folder = package_folder("costmodel")
    assert folder is not None  # it is what this file imports
    found = entries_of(folder)
    table = next(e.text for e in found if e.file == "costmodel/__init__.py" and not e.name)
    lines = [line.strip() for line in table.splitlines() if line.startswith("    ")]
    pairs = [cell.split(maxsplit=1) for line in lines for cell in re.split(r"\s{3,}", line)]
    rows = [{"Letter": a, "Meaning": b, "Where": "all formulas"} for a, b in sorted(pairs)]
    for entry in found:
        rows += [
            {"Letter": "several", "Meaning": each.split(": ", 1)[1], "Where": entry.file}
            for each in entry.sentences
            if each.startswith(LETTERS)
        ]
    return rows


def leaf(path: str) -> str:
    """An operator's path without the numbers of its layers: `layers.*.attention.core`."""
    return LAYERS.sub("layers.*.", path)


@cache
def _operators() -> tuple[tuple[tuple[str, ...], int], ...]:
    """(layer kind, leaf, work, formula, source) of all presets' operators; how many have it."""
    found: dict[tuple[str, ...], set[str]] = {}
    for name in model_names():
        model = load_model(name)
        for workload in PHASES:
            step = workload.step()
            kinds = _layer_kinds(model, step)
            for each in build_operators(model, step):
                kind = kinds.get(each.path, EVERY)
                key = (kind, leaf(each.path), each.kind, each.formula, each.source)
                found.setdefault(key, set()).add(name)

    def order(item: tuple[tuple[str, ...], set[str]]) -> tuple[bool, tuple[str, ...]]:
        return item[0][0] != EVERY, item[0]

    return tuple((key, len(names)) for key, names in sorted(found.items(), key=order))


def _layer_kinds(model: ModelConfig, step: Step) -> dict[str, str]:
    """The layer kind of each operator that a layer kind listed."""
    sites = [*model.attention_groups, *model.ffn_groups]
    for memory in model.memory:
        inputs = tuple(a for a, _ in memory.placement(model.num_hidden_layers))
        sites.append((memory, inputs))
    return {
        operator.path: type(kind).__name__
        for kind, layers in sites
        for operator in kind.operators(Site.of(layers, model.hidden_size), step)
    }


def operators() -> list[Cells]:
    """Every operator of every preset, of decode and prefill: its formula and source, once."""
    return [
        {
            "Operator": path,
            "Formula, FLOPs unless it says bytes": formula,
            "Source": source,
            "Layer kind": kind,
            "Work": work,
            "Presets that have it, count": str(count),
        }
        for (kind, path, work, formula, source), count in _operators()
    ]


def calibrations() -> list[Cells]:
    """The shipped calibrations: of which GPU, when, with what, and how many points of each sort."""
    rows = []
    for name in calibration_names():
        curves = calibrated(name)
        assert isinstance(curves, Curves)  # a shipped name has curves
        found = curves.calibration
        sorts = ("move", "gemm", "grouped", "rows", "attention", "topk")
        points = ", ".join(f"{sort} {len(getattr(found, sort))}" for sort in sorts)
        rows.append(
            {
                "Calibration": name,
                "GPU": found.machine.name,
                "Measured": found.conditions.started,
                "torch": found.machine.torch,
                "Points, count": points,
                "Power": "not measured" if found.power is None else "measured",
            }
        )
    return rows


def quantities() -> list[Cells]:
    """Every quantity that a profile measures, and the files that say how its run goes."""
    runs: dict[str, list[str]] = {}
    for entry in entries(MEASURED):
        run = RUN.match(entry.text)
        if run and not entry.name:
            runs.setdefault(run.group(1), []).append(entry.file)
    return [
        {
            "Quantity": each.name,
            "Unit": each.unit,
            "Run": ", ".join(each.runs),
            "Of": ", ".join(each.levels),
            "Stands beside": each.counterpart or "nothing predicted",
            "Must agree": "exactly" if each.exact else "",
            "How": ", ".join(file for run in each.runs for file in runs.get(run, ())),
        }
        for each in QUANTITIES.values()
    ]


def holds(text: str, search: str) -> bool:
    """Whether the text has every word of the search, whatever its case."""
    folded = text.casefold()
    return all(word in folded for word in search.casefold().split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What of one part of the page a search finds; an empty one finds all."""

    facts: list[Cells]
    entries: list[Entry]

    @property
    def files(self) -> list[str]:
        """The files of the docstrings, each once."""
        return list(dict.fromkeys(entry.file for entry in self.entries))

    def text(self, file: str) -> str:
        """The docstrings found in a file, whole, each under its name."""
        return "\n\n".join(
            f"{entry.name}\n{entry.text}" if entry.name else entry.text
            for entry in self.entries
            if entry.file == file
        )


def find(part: str, search: str) -> Found:
    """The rows and docstrings of a part that hold every word of the search."""
    facts = {
        NOTATION: notation,
        FORMULAS: operators,
        PREDICTED: calibrations,
        MEASURED: quantities,
    }[part]()
    return Found(
        facts=[row for row in facts if holds(" ".join(row.values()), search)],
        entries=[e for e in entries(part) if holds(f"{e.file} {e.name} {e.text}", search)],
    )
