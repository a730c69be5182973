"""Every label of a quantity stands in a registry and nowhere else in the source."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from costmodel.costs.quantities.matches import MATCH_QUANTITIES
from costmodel.costs.quantities.requests import REQUEST_QUANTITIES
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.costs.quantities.utilisation import UTILISATION_QUANTITIES
from costmodel.recordings.quantities import QUANTITIES

ROOT = Path(__file__).parents[2]
REGISTRIES = ("costmodel/costs/quantities/", "costmodel/recordings/quantities.py")
BETWEEN = re.compile(r"[,;:.()\[\]/|=+]")  # what separates the phrases of a text
REGISTERS = (STEP_QUANTITIES, REQUEST_QUANTITIES, MATCH_QUANTITIES, UTILISATION_QUANTITIES)
LABELS = {
    label.casefold()
    for label in (
        *(quantity.label for register in REGISTERS for quantity in register.values()),
        *(measured.title for measured in QUANTITIES.values()),
    )
    if " " in label  # a single word is also a name, such as `parameters`
}


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every string literal, those within f-strings too; without docstrings."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in docstrings:
                yield node.lineno, text


def labels_in(source: str) -> list[tuple[int, str]]:
    """Line and label of every literal of which a phrase is a label."""
    return [
        (line, phrase)
        for line, text in texts(source)
        for phrase in (" ".join(each.split()).casefold() for each in BETWEEN.split(text))
        if phrase in LABELS
    ]


@pytest.mark.parametrize(
    ("source", "labels"),
    [
        ('x = "Roofline bound, ms"', ["roofline bound"]),
        ('x = f"{y}: compulsory\\nHBM bytes"', ["compulsory hbm bytes"]),
        ('x = "the roofline bound of a step"', []),
        ('"""Predicted time."""', []),
    ],
)
def test_the_search_finds_labels_and_no_sentences(source: str, labels: list[str]) -> None:
    assert [label for _, label in labels_in(source)] == labels


@pytest.mark.parametrize("package", ["costmodel", "dashboard", "profiler"])
def test_labels_stand_in_the_registries_alone(package: str) -> None:
    found = [
        f"{name}:{line}: {label}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for name in [path.relative_to(ROOT).as_posix()]
        if not name.startswith(REGISTRIES)
        for line, label in labels_in(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)
