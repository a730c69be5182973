"""The Method page as data: its parts, the facts and docstrings of each, and what a search finds.

Nothing is retyped: operators carry their formulas, and all else stands in docstrings. A module
that is added to one of the packages below is shown without an entry here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import costmodel
from costmodel import backends, costs, layers, questions, recordings, routing, validation
from costmodel.costs import calibrations, energy, interpolate, kernel_times, latency
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.layers import kernel_shape
from dashboard.pages.method import facts
from dashboard.pages.method.documented import (
    Documented,
    documented,
    documented_files,
    folder_of,
    modules_of,
)
from dashboard.pages.method.facts import Cells

NOTATION, NUMBERS, FORMULAS, MEASURED = "notation", "numbers", "formulas", "measuring"
PREDICTED = STEP_QUANTITIES["time.predicted_s"].label
MAX_SEARCH_CHARS = 100
LETTERS = ("Letters: ", "Notation: ")  # with which a docstring introduces letters of its own
PREDICTING = (latency, kernel_times, interpolate, energy, calibrations, kernel_shape)
PROFILER, CALIBRATE = "profiler", "profiler/calibrate/"  # read, not imported: it needs torch


def _imported(*packages: ModuleType) -> list[Documented]:
    """All docstrings of packages, but for the modules that predict times."""
    modules = [module for package in packages for module in modules_of(package)]
    return [d for module in modules if module not in PREDICTING for d in documented(module)]


def _profiler(*, calibrate: bool) -> list[Documented]:
    """The files of the profiler that calibrate, or all others; none where it is not installed."""
    folder = folder_of(PROFILER)
    files = () if folder is None else documented_files(folder)
    return [d for d in files if d.file.startswith(CALIBRATE) is calibrate]


def _notation() -> list[Documented]:
    of_files = [d for d in _imported(layers, routing) if not d.name]
    own = [d for d in of_files if any(word in d.text for word in LETTERS)]
    return [*documented(costmodel), *own]


def _formulas() -> list[Documented]:
    return _imported(layers, routing, backends, costs, questions)


def _predicted() -> list[Documented]:
    predicting = [d for module in PREDICTING for d in documented(module)]
    return predicting + _profiler(calibrate=True)


def _measured() -> list[Documented]:
    return _profiler(calibrate=False) + _imported(recordings, validation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the page: its facts as rows of a table, and the docstrings that explain them."""

    about: str
    facts: Callable[[], list[Cells]]
    docstrings: Callable[[], list[Documented]]


PARTS = {
    NOTATION: Part(
        about="The letters of all formulas; a layer with letters of its own lists them.",
        facts=list,
        docstrings=_notation,
    ),
    NUMBERS: Part(
        about="The numbers of the JSON of predict, request, match and validate.",
        facts=facts.predicted_quantities,
        docstrings=list,
    ),
    FORMULAS: Part(
        about="The operators of all presets, in decode and prefill, and how their costs add up.",
        facts=facts.operators,
        docstrings=_formulas,
    ),
    PREDICTED: Part(
        about="The calibrations that are shipped: times measured on a GPU, by sort of work.",
        facts=facts.calibrations,
        docstrings=_predicted,
    ),
    MEASURED: Part(
        about="The quantities that a profile measures, and what each is compared with.",
        facts=facts.measured_quantities,
        docstrings=_measured,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The facts and the docstrings of a part that hold all words of a search."""

    facts: list[Cells]
    docstrings: list[Documented]

    @property
    def files(self) -> list[str]:
        """The files of the docstrings, each once."""
        return list(dict.fromkeys(docstring.file for docstring in self.docstrings))

    def text(self, file: str) -> str:
        """The docstrings of a file, whole, each under its name."""
        return "\n\n".join(
            f"{docstring.name}\n{docstring.text}" if docstring.name else docstring.text
            for docstring in self.docstrings
            if docstring.file == file
        )

    def rows(self) -> list[Cells]:
        """The files: what the first of their docstrings says in short, and how many there are."""
        return [
            {
                "File": file,
                "Says": next(d.summary for d in self.docstrings if d.file == file),
                "Docstrings, count": str(sum(d.file == file for d in self.docstrings)),
            }
            for file in self.files
        ]


def find(part: str, search: str = "") -> Content:
    """What holds every word of the search in one part; an empty search finds all."""
    return Content(
        facts=[row for row in PARTS[part].facts() if holds(" ".join(row.values()), search)],
        docstrings=[
            docstring
            for docstring in PARTS[part].docstrings()
            if holds(f"{docstring.file} {docstring.name} {docstring.text}", search)
        ],
    )


def holds(text: str, search: str) -> bool:
    """Whether the text has every word of the search, whatever its case."""
    folded = text.casefold()
    return all(word in folded for word in search.casefold().split())
