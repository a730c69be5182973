"""Docstrings read from files: what they say, leave out and cite, found without importing."""

from pathlib import Path

from dashboard.pages.method.docstrings import Entry, entries_of, package_folder

ROOT = Path(__file__).parents[2]


def test_omissions_are_found_in_words_of_several_kinds() -> None:
    def left_out(text: str) -> str:
        return Entry(file="a.py", name="f", text=text).leaves_out

    assert left_out("A sum.\n\nLeaves out: a,\nand b. More.") == "Leaves out: a, and b."
    assert left_out("A sum. Left out: c.\nSource: d.") == "Left out: c."
    assert left_out("Time leaves out gaps, so it is less. It is short.") == (
        "Time leaves out gaps, so it is less."
    )
    assert left_out("All is priced; padding is left out.") == "All is priced; padding is left out."
    assert left_out("A point is left out and said. Leaves are modules.") == ""


def test_a_private_function_is_shown_only_if_it_says_where_it_is_from(tmp_path: Path) -> None:
    package = tmp_path / "some"
    package.mkdir()
    (package / "a.py").write_text(
        '"""A file."""\n'
        'def _silent():\n    """Helps."""\n'
        'def _cited():\n    """Adds.\n\n    Source: a paper\n    on sums.\n\n    Args: none."""\n'
        'class Thing:\n    """A thing."""\n    def does(self):\n        """Acts."""\n',
        encoding="utf-8",
    )
    found = entries_of(package)
    assert [(e.file, e.name) for e in found] == [
        ("some/a.py", ""),
        ("some/a.py", "_cited"),
        ("some/a.py", "Thing"),
        ("some/a.py", "Thing.does"),
    ]
    assert found[1].source == "a paper on sums."


def test_a_package_that_is_not_there_has_no_folder() -> None:
    assert package_folder("costmodel") == ROOT / "costmodel"
    assert package_folder("no_such_package") is None
