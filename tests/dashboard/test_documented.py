"""Docstrings as Python holds them, and of files that are not imported."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from dashboard.pages.method.documented import documented, documented_files, folder_of, modules_of

ROOT = Path(__file__).parents[2]

SOURCE = '''"""A file.

More of it.
"""

from functools import cache
from math import isclose as near

CONSTANT = 3


def acts():
    """Acts."""


def _helps():
    """Helps."""


@cache
def remembers():
    """Remembers.

    Source: a paper.
    """


def silent(): ...


class Thing:
    """A thing."""

    @property
    def size(self):
        """Its size."""

    def does(self):
        """Does."""

    @classmethod
    def of(cls):
        """Of nothing."""

    def _hides(self):
        """Hides."""


other_name = acts
'''


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "some_package"
    folder.mkdir()
    (folder / "__init__.py").write_text('"""The package."""\n', encoding="utf-8")
    (folder / "first.py").write_text(SOURCE, encoding="utf-8")
    (folder / "empty.py").write_text("", encoding="utf-8")
    sys.path.insert(0, str(tmp_path))
    yield folder
    sys.path.remove(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("some_package")]:
        del sys.modules[name]


def imported(name: str) -> ModuleType:
    return __import__(name, fromlist=["-"])


def test_modules_of_a_package_come_with_it(package: Path) -> None:
    names = [module.__name__ for module in modules_of(imported(package.name))]
    assert names == ["some_package", "some_package.empty", "some_package.first"]


def test_what_is_public_and_defined_there_is_documented_once(package: Path) -> None:
    docstrings = documented(imported(f"{package.name}.first"))
    assert {docstring.file for docstring in docstrings} == {"some_package/first.py"}
    assert {docstring.name: docstring.text for docstring in docstrings} == {
        "": "A file.\n\nMore of it.",
        "acts": "Acts.",
        "remembers": "Remembers.\n\nSource: a paper.",
        "Thing": "A thing.",
        "Thing.size": "Its size.",
        "Thing.does": "Does.",
        "Thing.of": "Of nothing.",
    }
    assert docstrings[0].summary == "A file."


def test_a_file_without_docstring_has_none(package: Path) -> None:
    assert documented(imported(f"{package.name}.empty")) == ()


def test_files_are_read_without_being_imported(package: Path) -> None:
    docstrings = documented_files(package)
    assert [(docstring.file, docstring.text) for docstring in docstrings] == [
        ("some_package/__init__.py", "The package."),
        ("some_package/first.py", "A file.\n\nMore of it."),
    ]
    assert f"{package.name}.first" not in sys.modules


def test_a_package_that_is_not_there_has_no_folder() -> None:
    assert folder_of("costmodel") == ROOT / "costmodel"
    assert folder_of("no_such_package") is None
