"""Mutants of a source file: each changes one formula, price, sum, bound or condition.

What can be changed stands in `changes`: arithmetic and comparison operators, constants, minimum
against maximum, terms and factors dropped, arguments of one type swapped, conditions negated.
Left alone: text (strings, docstrings, messages of errors, `__str__`), annotations, decorators,
imports, assertions of our own invariants, and switches that move no number (`strict=True`).
"""

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

Signatures: TypeAlias = dict[str, dict[str, str]]
"""By function or dataclass: its parameters in their order, each with its type."""
Changes: TypeAlias = Iterator[tuple[ast.AST, ast.AST]]
"""A node, and the one that takes its place."""

NUMBERS = {"int", "float", "Number", "Count", "Expected", "Trials", "Figure"}  # one type to us
TEXT_FUNCTIONS = {"__repr__", "__str__", "label", "described"}
SWITCHES = {"strict", "init", "repr", "compare", "dtype", "kw_only", "frozen", "slots"}

ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
}
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
BOUNDS = {"min": "max", "smaller": "larger", "minimum": "maximum"}
OPPOSITES = {**BOUNDS, "floor": "ceil", "any": "all"}
OPPOSITES |= {there: here for here, there in OPPOSITES.items()}


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


def signatures_of(files: Iterable[Path]) -> Signatures:
    """Of all functions and dataclasses whose name means one thing in these files."""
    known: dict[str, list[dict[str, str]]] = {}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                arguments = node.args.args + node.args.kwonlyargs
                types = {each.arg: _type(each.annotation) for each in arguments}
                known.setdefault(node.name, []).append(
                    {name: kind for name, kind in types.items() if name not in {"self", "cls"}}
                )
            elif isinstance(node, ast.ClassDef) and node.decorator_list:
                fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
                known.setdefault(node.name, []).append(
                    {ast.unparse(each.target): _type(each.annotation) for each in fields}
                )
    return {
        name: found[0] for name, found in known.items() if all(each == found[0] for each in found)
    }


def _type(annotation: ast.expr | None) -> str:
    text = "" if annotation is None else ast.unparse(annotation).removesuffix(" | None")
    return "number" if text in NUMBERS else text


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


def changes(node: ast.AST, signatures: Signatures) -> Changes:
    """What the node, or one right below it, may become."""
    if isinstance(node, ast.Call):
        yield from _bounds_and_sums(node)
        yield from _swaps(node, signatures)
    elif type(node) in RULES:
        yield from RULES[type(node)](node)


def _arithmetic(node: ast.BinOp) -> Changes:
    """Another operator; one of the two sides alone."""
    if type(node.op) in ARITHMETIC and not any(map(_is_text, (node.left, node.right))):
        yield node, ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
        yield node, node.left
        yield node, node.right


def _sign(node: ast.UnaryOp) -> Changes:
    if isinstance(node.op, ast.USub | ast.Not):
        yield node, node.operand


def _comparison(node: ast.Compare) -> Changes:
    for at, op in enumerate(node.ops):
        for other in COMPARISONS[type(op)]:
            changed = [*node.ops[:at], other(), *node.ops[at + 1 :]]
            yield node, ast.Compare(node.left, changed, node.comparators)


def _and_or(node: ast.BoolOp) -> Changes:
    yield node, ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    for at in range(len(node.values)):
        rest = node.values[:at] + node.values[at + 1 :]
        yield node, ast.BoolOp(node.op, rest) if len(rest) > 1 else rest[0]


def _constant(node: ast.Constant) -> Changes:
    match node.value:
        case bool() as switch:
            yield node, ast.Constant(not switch)
        case int() as whole:
            yield node, ast.Constant(whole + 1)
            if whole:
                yield node, ast.Constant(whole - 1)
        case float() as number:
            yield node, ast.Constant(2 * number if number else 1.0)


def _choice(node: ast.IfExp) -> Changes:
    yield node, node.body
    yield node, node.orelse


def _condition(node: ast.If | ast.While) -> Changes:
    yield node.test, ast.UnaryOp(ast.Not(), node.test)


def _filter(node: ast.comprehension) -> Changes:
    for condition in node.ifs:
        yield condition, ast.UnaryOp(ast.Not(), condition)


def _accumulation(node: ast.AugAssign) -> Changes:
    """Another operator; the last summand in place of the sum."""
    if type(node.op) not in ARITHMETIC:
        return
    if not isinstance(node.value, ast.List | ast.ListComp):
        yield node, ast.AugAssign(node.target, ARITHMETIC[type(node.op)](), node.value)
    yield node, ast.parse(f"{ast.unparse(node.target)} = {ast.unparse(node.value)}").body[0]


RULES: dict[type[ast.AST], Callable[[Any], Changes]] = {
    ast.BinOp: _arithmetic,
    ast.UnaryOp: _sign,
    ast.Compare: _comparison,
    ast.BoolOp: _and_or,
    ast.Constant: _constant,
    ast.IfExp: _choice,
    ast.If: _condition,
    ast.While: _condition,
    ast.comprehension: _filter,
    ast.AugAssign: _accumulation,
}


def _bounds_and_sums(node: ast.Call) -> Changes:
    """Minimum for maximum and the like; one of the compared values alone; a sum's largest term."""
    name = _name(node.func)
    if name in OPPOSITES:
        yield node.func, _renamed(node.func, OPPOSITES[name])
    if name in {*BOUNDS, *BOUNDS.values()} and len(node.args) > 1:
        for argument in node.args:
            yield node, argument
    if name == "where" and len(node.args) == len(("condition", "if so", "if not")):
        yield node, node.args[1]
        yield node, node.args[2]
    if name == "sum" and len(node.args) == 1 and not node.keywords:
        yield node, ast.parse(f"max({ast.unparse(node.args[0])}, default=0)", mode="eval").body


def _swaps(node: ast.Call, signatures: Signatures) -> Changes:
    """Two arguments of one type in each other's place."""
    types = signatures.get(_name(node.func), {})
    given = dict(zip(types, node.args, strict=False))
    given |= {each.arg: each.value for each in node.keywords if each.arg in types}
    names = list(given)
    for at, first in enumerate(names):
        for second in names[at + 1 :]:
            if types[first] and types[first] == types[second] and types[first] != "str":
                yield node, _swapped(node, given[first], given[second])


def _swapped(node: ast.Call, first: ast.expr, second: ast.expr) -> ast.Call:
    def other(value: ast.expr) -> ast.expr:
        return second if value is first else first if value is second else value

    keywords = [ast.keyword(each.arg, other(each.value)) for each in node.keywords]
    return ast.Call(node.func, [other(each) for each in node.args], keywords)


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _renamed(function: ast.expr, name: str) -> ast.expr:
    if isinstance(function, ast.Attribute):
        return ast.Attribute(function.value, name, function.ctx)
    return ast.Name(name, ast.Load())


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
