"""Mutants of a source file: each changes one formula, price, sum, bound or condition.

Left alone: text (strings, docstrings, messages of errors, `__str__`), annotations, decorators,
imports, assertions of our own invariants, and switches that move no number (`strict=True`).
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random

from tests.mutation.changes import Signatures, changes

TEXT_FUNCTIONS = {"__repr__", "__str__", "label", "described"}
SWITCHES = {"strict", "init", "repr", "compare", "dtype", "kw_only", "frozen", "slots"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One piece of a source file, and the text that takes its place."""

    path: str  # from the root of the repository, with forward slashes
    function: str  # that it stands in, such as `Line.log_at`; empty: the module itself
    line: int
    start: int  # in bytes of the file
    end: int
    before: str
    after: str

    def applied(self, source: str) -> str:
        """The whole file with the change in it."""
        text = source.encode()
        return (text[: self.start] + self.after.encode() + text[self.end :]).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spot:
    node: ast.AST
    function: str


def places(path: str, source: str, signatures: Signatures) -> list[list[Mutant]]:
    """Every place of a file that can be changed, each with its mutants."""
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for spot in _spots(ast.parse(source), ""):
        mutants = []
        for old, new in changes(spot.node, signatures):
            assert isinstance(old, ast.expr | ast.stmt)
            assert old.end_lineno is not None
            assert old.end_col_offset is not None
            before, after = ast.unparse(old), ast.unparse(new)
            if after == before:
                continue
            mutants.append(
                Mutant(
                    path=path,
                    function=spot.function,
                    line=old.lineno,
                    start=starts[old.lineno - 1] + old.col_offset,
                    end=starts[old.end_lineno - 1] + old.end_col_offset,
                    before=before,
                    after=after if isinstance(old, ast.stmt) else f"({after})",
                )
            )
        if mutants:
            found.append(mutants)
    return found


def draw(by_folder: Iterable[list[list[Mutant]]], count: int, seed: int) -> list[Mutant]:
    """One mutant each of `count` places, by turns from every folder that has some left."""
    random = Random(seed)  # noqa: S311 - places, no secrets
    left = [random.sample(found, len(found)) for found in by_folder]
    drawn: list[Mutant] = []
    while any(left) and len(drawn) < count:
        drawn += [random.choice(folder.pop()) for folder in left if folder]
    return drawn[:count]


def _spots(node: ast.AST, function: str) -> Iterator[_Spot]:
    """The node and all under it that may be changed."""
    if _is_no_formula(node):
        return
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}".strip(".")
    yield _Spot(node=node, function=function)
    for child in _inside(node):
        if child is not None:
            yield from _spots(child, function)


def _is_no_formula(node: ast.AST) -> bool:
    match node:
        case ast.Raise() | ast.Assert() | ast.JoinedStr() | ast.Import() | ast.ImportFrom():
            return True
        case ast.FunctionDef(name=name):
            return name in TEXT_FUNCTIONS
        case ast.AnnAssign(annotation=ast.Name(id="TypeAlias")):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
    return False


def _inside(node: ast.AST) -> Iterable[ast.AST | None]:
    """What stands below a node, but for annotations, decorators, patterns and switches."""
    match node:
        case ast.FunctionDef(args=arguments, body=body):
            return [*arguments.defaults, *arguments.kw_defaults, *body]
        case ast.ClassDef(body=body):
            return body
        case ast.AnnAssign(value=value):
            return [value]
        case ast.Call(func=function, args=given, keywords=keywords):
            return [
                function,
                *given,
                *(each.value for each in keywords if each.arg not in SWITCHES),
            ]
        case ast.match_case(guard=guard, body=body):
            return [guard, *body]
    return ast.iter_child_nodes(node)
