"""The operators of a layer kind where weights are stored in several formats.

A leaf may be stored in another format in some of the layers that are otherwise alike: its kind is
then costed once for each such part of the layers. And each operator whose products are of another
format than the step's default says so, since a GPU may multiply that format faster or slower.
"""

from collections.abc import Sequence
from dataclasses import replace

from costmodel.layers.base import LayerKind, MemoryKind
from costmodel.layers.operator import Operator, Step
from costmodel.layers.site import Site


def kind_operators(
    kind: LayerKind, layers: Sequence[int], hidden_size: int, step: Step
) -> list[Operator]:
    """The operators of a layer kind in these layers, each with the format that it computes in.

    Layers that share a memory table stay together: formats of memory layers are those of all.
    """
    if not step.formats.by_layer or isinstance(kind, MemoryKind):
        return with_formats(kind.operators(Site.of(layers, hidden_size, kind), step), step)
    operators: list[Operator] = []
    for part, formats in step.formats.split(layers):
        of_part = replace(step, formats=formats)
        operators += [
            _pinned(operator, of_part)
            for operator in with_formats(
                kind.operators(Site.of(part, hidden_size, kind), of_part), of_part
            )
        ]
    return operators


def with_formats(operators: list[Operator], step: Step) -> list[Operator]:
    """The operators with the format of their products, where it is not the step's default.

    The products of attention are with keys and values in the format of the cache. An operator
    without a matrix computes in the default format.
    """
    default = step.formats.default.name
    if step.formats.is_one and step.kv_dtype.name == default:
        return operators
    stated = list(operators)
    for place, operator in enumerate(operators):
        dtype = step.kv_dtype
        if operator.kind != "attention":
            matrices = [weight for weight in operator.weights if weight.matrix]
            if not matrices:
                continue
            dtype = matrices[0].stored_as(step)
        if dtype.name != default:
            stated[place] = replace(operator, computes_in=dtype)
    return stated


def _pinned(operator: Operator, step: Step) -> Operator:
    """The operator whose matrices keep their formats, whatever the step of the whole model says."""
    return replace(
        operator,
        weights=tuple(
            replace(weight, dtype=weight.stored_as(step)) if weight.matrix else weight
            for weight in operator.weights
        ),
    )
