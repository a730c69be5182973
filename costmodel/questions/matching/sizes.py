"""The sizes of a model that a match varies: which ones, in which steps, and a model of other sizes.

Each layer kind states its sizes beside its fields (`costmodel.layers.base.Size`).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from math import lcm
from typing import Literal, TypeAlias

from pydantic import ValidationError

from costmodel.errors import InputError, shown
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.parse import parse_count
from costmodel.inputs.set_fields import Address, blocks, replaced
from costmodel.layers.base import LayerKind, Size, sizes_of

MAX_STEP = 2**20

Value: TypeAlias = int | float


def parse_vary(text: str) -> dict[str, int | None]:
    """`FIELD,FIELD` or `FIELD:STEP,FIELD:STEP` as the step of each field; None: its usual step."""
    steps: dict[str, int | None] = {}
    for item in text.split(","):
        name, colon, step = item.strip().partition(":")
        if name in steps:
            raise InputError(f"vary={shown(text)}: {shown(name)} is listed twice")
        field = f"vary.{name if name.isidentifier() else shown(name)}"
        steps[name] = parse_count(step, field=field, low=1, high=MAX_STEP) if colon else None
    return steps


def varied_sizes(template: ModelConfig, vary: Mapping[str, int | None] | None) -> dict[str, Size]:
    """The two sizes to vary, each with the step to use, which the rules of its layers allow.

    Args:
        template: The model whose sizes vary.
        vary: The step of each field, or None for its usual one; None in all: `usual_sizes`.

    Raises:
        InputError: not two sizes of the template, a step out of range, or a size that the rules
            of the layers leave no other value.
    """
    if vary is None:
        vary = dict.fromkeys(usual_sizes(template))
    if len(vary) != 2:  # noqa: PLR2004 - two sizes settle two numbers
        raise InputError(
            f"vary={shown(','.join(vary))}: two fields are named, one for each number to match"
        )
    sizes = {}
    for name, asked in vary.items():
        size, value = _whole_size(template, name)
        if asked is not None and not 1 <= asked <= size.most:
            raise InputError(f"vary.{name}={asked}: is a step from 1 to {size.most:,}")
        step = lcm(size.step if asked is None else asked, *_divisors(template, name))
        if not any(_accepts(template, name, other) for other in (value + step, value - step)):
            raise InputError(f"vary={name}: the layers' rules allow no value but {value}")
        sizes[name] = replace(size, step=step)
    return sizes


def usual_sizes(template: ModelConfig) -> tuple[str, str]:
    """The size that sets total parameters and the one that sets FLOPs.

    The first is of the memory layers, else of the experts; the second of the same layers if they
    state one, else of the FFN that stands in most layers.

    Raises:
        InputError: no layer kind of the template states such a size.
    """
    kinds = [*_kinds(template)]
    for kind in kinds:
        if (first := _size_that_sets("parameters", kind)) is not None:
            for other in (kind, *kinds):
                if (second := _size_that_sets("flops", other)) is not None:
                    return first, second
            raise InputError(
                f"template={shown(template.name)}: beside {first} no layer has a size that sets"
                " FLOPs; name two in vary"
            )
    raise InputError(
        f"template={shown(template.name)}: has neither experts nor memory layers to size"
    )


def size_of(model: ModelConfig, name: str) -> tuple[Size, Value]:
    """A size of a model and its value.

    Raises:
        InputError: no layer of the model has a size of this name.
    """
    return sizes_of_model(model, [name])[name]


def sizes_of_model(model: ModelConfig, names: Collection[str]) -> dict[str, tuple[Size, Value]]:
    """Sizes of a model and their values.

    Of several layers that have a size, the value is that of the first memory layers, else of the
    FFNs, else of the attention of most layers.

    Raises:
        InputError: no layer of the model has a size of one of the names.
    """
    known: dict[str, tuple[Size, Value]] = {}
    stated: dict[str, None] = {}
    for kind in _kinds(model):
        sizes = sizes_of(type(kind))
        for name in names:
            if name in sizes and name not in known and (value := getattr(kind, name)) is not None:
                known[name] = sizes[name], value
        if len(known) == len(names):
            return known
        stated |= dict.fromkeys(sizes)
    missing = next(name for name in names if name not in known)
    raise InputError(
        f"vary={shown(missing)}: is no size of {shown(model.name)}; its sizes: {', '.join(stated)}"
    )


def resized(
    model: ModelConfig, values: Mapping[str, Value], *, memory_layers: str | None = None
) -> ModelConfig:
    """`model` with other sizes, in all layers that share the value `size_of` gives.

    Layers that differ, such as dense first layers of another width, stay as they are.

    Args:
        model: The model to change.
        values: The new value of each size.
        memory_layers: A new placement of all memory layers, set at once with the sizes.

    Raises:
        InputError: no layer has such a size.
        pydantic.ValidationError: a layer kind refuses the values.
    """
    before = {name: value for name, (_, value) in sizes_of_model(model, values).items()}
    changes: dict[Address, object] = {
        (*address, name): value
        for address, kind in blocks(model)
        for name, value in values.items()
        if name in sizes_of(type(kind)) and getattr(kind, name) == before[name] != value
    }
    if memory_layers is not None:
        changes |= {
            ("memory", index, "layers"): memory_layers for index in range(len(model.memory))
        }
    return replaced(model, changes)


def _kinds(model: ModelConfig) -> Iterator[LayerKind]:
    """The layer kinds of a model: memory, then FFNs, then attention, those of most layers first."""
    yield from model.memory
    yield from _most_layers_first(model.ffn_groups)
    yield from _most_layers_first(model.attention_groups)


def _most_layers_first(groups: Sequence[tuple[LayerKind, tuple[int, ...]]]) -> list[LayerKind]:
    return [kind for kind, _ in sorted(groups, key=lambda group: -len(group[1]))]


def _whole_size(template: ModelConfig, name: str) -> tuple[Size, int]:
    size, value = size_of(template, name)
    if not isinstance(value, int):
        raise InputError(f"vary={name}: is no whole number, which alone are varied")
    return size, value


def _divisors(template: ModelConfig, name: str) -> list[int]:
    """What a size must be a multiple of in the layers that have it, such as groups of experts."""
    return [
        getattr(kind, size.multiple_of)
        for kind in _kinds(template)
        if (size := sizes_of(type(kind)).get(name)) is not None and size.multiple_of is not None
    ]


def _accepts(template: ModelConfig, name: str, value: int) -> bool:
    try:
        resized(template, {name: value})
    except ValidationError:
        return False
    return True


def _size_that_sets(quantity: Literal["parameters", "flops"], kind: LayerKind) -> str | None:
    """The name of the first size of a kind that sets total parameters, or FLOPs."""
    sizes = sizes_of(type(kind)).items()
    return next((name for name, size in sizes if size.sets == quantity), None)
