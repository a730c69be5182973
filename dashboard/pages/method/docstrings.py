"""The docstrings of an installed package, read from its files: what each says, omits and cites.

Nothing is imported to read it, since `profiler` needs torch.
"""

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

SENTENCES = re.compile(r"(?<=\.)\s+(?=[A-Z`]|\w+: )|\n\s*\n")  # what stands between two
LEFT_OUT = re.compile(r"^Leaves out\b|^Left out:|\bleaves out\b|\bis left out\.$")
SOURCE = re.compile(r"Source(?: of the shapes)?:\s+(.*?)(?=\n\s*\n|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The docstring of a file, or of a class or function in it; `name` is empty for the file."""

    file: str  # costmodel/costs/roofline.py
    name: str  # floor_s
    text: str

    @property
    def says(self) -> str:
        """The first paragraph, as one line."""
        return _line(self.text.split("\n\n")[0])

    @property
    def sentences(self) -> list[str]:
        """The sentences, each as one line."""
        return [_line(each) for each in SENTENCES.split(self.text)]

    @property
    def leaves_out(self) -> str:
        """The sentences that say what is left out, or nothing."""
        return " ".join(each for each in self.sentences if LEFT_OUT.search(each))

    @property
    def source(self) -> str:
        """What follows `Source:`, or nothing."""
        return " ".join(_line(found) for found in SOURCE.findall(self.text))


def _line(text: str) -> str:
    return " ".join(text.split())


def package_folder(name: str) -> Path | None:
    """Where a package of this project is installed; it is not imported. None: it is not there."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:  # a mere folder of that name is no package of ours
        return None
    return Path(spec.origin).parent


@cache
def entries_of(folder: Path) -> tuple[Entry, ...]:
    """The docstrings of a package: of files, of what is public in them, of what leaves out."""
    found: list[Entry] = []
    for path in sorted(folder.rglob("*.py")):
        file = path.relative_to(folder.parent).as_posix()
        found += _entries(file, "", ast.parse(path.read_text(encoding="utf-8")))
    return tuple(found)


def _entries(
    file: str, name: str, node: ast.Module | ast.ClassDef | ast.FunctionDef
) -> Iterable[Entry]:
    text = ast.get_docstring(node)
    if text:
        entry = Entry(file=file, name=name, text=text)
        public = not any(each.startswith("_") for each in name.split("."))
        if public or entry.leaves_out or entry.source:
            yield entry
    if not isinstance(node, ast.FunctionDef):
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef):
                yield from _entries(file, f"{name}.{child.name}".lstrip("."), child)
