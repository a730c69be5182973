"""What a piece of source may become: the mutations, each a node and the one in its place.

Arithmetic and comparison operators, constants, minimum against maximum, terms and factors dropped,
arguments of one type swapped, conditions negated.
"""

import ast
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

Signatures: TypeAlias = dict[str, dict[str, str]]
"""By function or dataclass: its parameters in their order, each with its type."""
Changes: TypeAlias = Iterator[tuple[ast.AST, ast.AST]]
"""A node, and the one that takes its place."""

NUMBERS = {"int", "float", "Number", "Count", "Expected", "Trials", "Figure"}  # one type to us
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
NEGATED = {"smaller", "larger", "floor", "ceil"}  # max(a, b) = -min(-a, -b), ceil(x) = -floor(-x)


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
    if name in NEGATED and isinstance(node.func, ast.Name):  # the other one need not be imported
        arguments: list[ast.expr] = [ast.UnaryOp(ast.USub(), argument) for argument in node.args]
        yield node, ast.UnaryOp(ast.USub(), ast.Call(node.func, arguments, node.keywords))
    elif name in OPPOSITES:
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
    name = _name(node.func)
    types = signatures.get(name, {}) if name not in OPPOSITES else {}  # their order is all one
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
