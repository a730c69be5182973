"""What the code says of itself: docstrings of modules and of what is public in them.

Modules are asked for their docstrings by `inspect`. A package that must not be imported, such as
`profiler`, which needs torch, is read file by file for the docstring at the head of each.
"""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType


@dataclass(frozen=True, slots=True, kw_only=True)
class Documented:
    """A docstring; `name` is that of the class or function, empty for the module itself."""

    file: str  # costmodel/costs/roofline.py
    name: str  # floor_s
    text: str

    @property
    def summary(self) -> str:
        """The first paragraph, as one line."""
        return " ".join(self.text.split("\n\n")[0].split())


def modules_of(package: ModuleType) -> list[ModuleType]:
    """A package and all modules below it, imported, in the order of their names."""
    modules = [package]
    for info in sorted(iter_modules(package.__path__), key=lambda info: info.name):
        module = import_module(f"{package.__name__}.{info.name}")
        modules += modules_of(module) if info.ispkg else [module]
    return modules


@cache
def documented(module: ModuleType) -> tuple[Documented, ...]:
    """The docstring of a module, and those of its public classes, methods and functions."""
    folder = hasattr(module, "__path__")
    file = module.__name__.replace(".", "/") + ("/__init__.py" if folder else ".py")
    texts = (("", inspect.getdoc(module)), *_texts(module, module.__name__))
    return tuple(Documented(file=file, name=name, text=text) for name, text in texts if text)


def _texts(
    owner: ModuleType | type, module_name: str, prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """Name and docstring of what is public in a module or class, in the order of the source."""
    for name, member in list(vars(owner).items()):
        inner = member.fget if isinstance(member, property) else member
        inner = getattr(inner, "__func__", inner)  # of a class method
        inner = inspect.unwrap(inner) if callable(inner) else inner
        if name.startswith("_") or not (inspect.isfunction(inner) or inspect.isclass(inner)):
            continue
        if inner.__module__ != module_name or inner.__name__ != name:
            continue  # it is imported, or another name of the same
        yield f"{prefix}{name}", inspect.getdoc(inner) or ""
        if inspect.isclass(inner):
            yield from _texts(inner, module_name, f"{prefix}{name}.")


def folder_of(package: str) -> Path | None:
    """Where a package of this project is installed, without importing it; None: it is not."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:  # a mere folder of that name is no package of ours
        return None
    return Path(spec.origin).parent


@cache
def documented_files(folder: Path) -> tuple[Documented, ...]:
    """The docstring of each file of a package that is not imported."""
    return tuple(
        Documented(file=path.relative_to(folder.parent).as_posix(), name="", text=text)
        for path in sorted(folder.rglob("*.py"))
        if (text := ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))))
    )
