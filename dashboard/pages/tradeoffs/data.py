"""Designs of a base model: which of its fields may be swept, ranges, and the designs they make."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from costmodel.errors import InputError, shown
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.parse import parse_span
from costmodel.layers.base import LayerKind, Size, sizes_of
from costmodel.questions.matching.sizes import resized
from costmodel.strict import explained

Value = int | float
MAX_VALUES = 256  # of one field
MAX_DESIGNS = 5000
MAX_WORKLOADS = 1000
MAX_POINTS = 200_000  # designs x workloads
MAX_NAME = 120
PLACEMENT = "layers"  # of memory layers; as a size: the distance between two of them, in blocks
EVERY_NTH = Size(label="A memory layer in every n-th block", most=1024)
SPELT = {PLACEMENT: "blocks a memory layer"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptField:
    """A field that may be swept: what its kind states of it, and its value in the base model."""

    name: str
    size: Size
    value: Value

    @property
    def default(self) -> str:
        """The usual range: half, once and twice an even count; of all else the base's value."""
        value = self.value
        if self.size.step == 1 and isinstance(value, int) and value % 2 == 0:
            return f"{value // 2},{value},{2 * value}"
        return str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Designs:
    """The models that the rules allow, the swept values of each, and what was refused."""

    models: tuple[ModelConfig, ...]
    values: tuple[dict[str, Value], ...]  # of the fields that differ from the base model
    refused: int
    reasons: tuple[str, ...]  # the first three different ones


def swept_fields(base: ModelConfig) -> list[SweptField]:
    """The sizes of a base model's sparse layers and its attention; beside memory those of each FFN.

    Of several memory kinds the first is swept, and the placement of the memory layers if it is
    the only one and places one in every n-th block.
    """
    memory = base.memory[:1]
    kinds: list[LayerKind] = [
        *(ffn for ffn, _ in base.ffn_groups if memory or _is_sparse(ffn)),
        *memory,
        *(attention for attention, _ in base.attention_groups),
    ]
    fields: dict[str, SweptField] = {}
    for kind in kinds:
        for name, size in sizes_of(type(kind)).items():
            value = getattr(kind, name)
            if value is not None:
                fields.setdefault(name, SweptField(name=name, size=size, value=value))
    if len(base.memory) == 1 and (every := _every(base)) is not None:
        fields[PLACEMENT] = SweptField(name=PLACEMENT, size=EVERY_NTH, value=every)
    return [*fields.values()]


def _is_sparse(kind: LayerKind) -> bool:
    """Whether a kind has a size that sets total parameters and leaves FLOPs nearly alone."""
    return any(size.sets == "parameters" for size in sizes_of(type(kind)).values())


def _every(base: ModelConfig) -> int | None:
    """n, where every n-th block from the first has a memory layer; None elsewhere."""
    blocks = base.num_hidden_layers
    placed = base.memory[0].placement(blocks)
    for n in range(1, blocks + 1):
        if placed == tuple((i, i) for i in range(0, blocks, n)):
            return n
    return None


def parse_range(text: str, field: SweptField) -> tuple[Value, ...]:
    """`64,128,256`, `64-256/64` (from, to, step) or both; shares are decimal numbers.

    Raises:
        InputError: Not such a list, a value out of range, or too many of them.
    """
    values: list[Value] = []
    for item in text.split(","):
        whole = isinstance(field.value, int)
        most = int(field.size.most)
        more: Sequence[Value] = (
            parse_span(item, field=field.name, low=1, high=most) if whole else [_share(item, field)]
        )
        if len(values) + len(more) > MAX_VALUES:
            raise InputError(f"{field.name}: holds over {MAX_VALUES} values")
        values += more
    return tuple(dict.fromkeys(values))


def _share(text: str, field: SweptField) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= field.size.most:
        raise InputError(
            f"{field.name}={shown(text)}: is a number above 0 and at most {field.size.most:g}"
        )
    return value


def designs(base: ModelConfig, ranges: Mapping[str, Sequence[Value]]) -> Designs:
    """The design of every combination of values; those that break a rule are only counted.

    Raises:
        InputError: There are more than `MAX_DESIGNS` combinations.
    """
    count = prod(len(values) for values in ranges.values())
    if count > MAX_DESIGNS:
        raise InputError(f"designs={count:,}: at most {MAX_DESIGNS:,} are swept at once")
    before = {field.name: field.value for field in swept_fields(base)}
    varied = [name for name, values in ranges.items() if set(values) != {before[name]}]
    models, made, reasons = [], [], []
    for combination in itertools.product(*ranges.values()):
        values = dict(zip(ranges, combination, strict=True))
        try:
            models.append(design(base, values))
        except ValidationError as error:
            reasons.append(explained(error))
        except InputError as error:
            reasons.append(str(error))
        else:
            made.append({name: values[name] for name in varied})
    return Designs(
        models=tuple(models),
        values=tuple(made),
        refused=len(reasons),
        reasons=tuple(dict.fromkeys(reasons))[:3],
    )


def design(base: ModelConfig, values: Mapping[str, Value]) -> ModelConfig:
    """The base model with other values of its fields, in all layers that share the base's value.

    Raises:
        pydantic.ValidationError, InputError: a rule refuses the values.
    """
    sizes = {name: value for name, value in values.items() if name != PLACEMENT}
    every = values.get(PLACEMENT)
    if every is None or every == _every(base):
        return resized(base, sizes)
    return resized(base, sizes, memory_layers=f"0-{base.num_hidden_layers - 1}/{every}")


def spread(points: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """At most `most` of the points at even distances, the first and the last among them."""
    if len(points) <= most:
        return points
    return points[np.linspace(0, len(points) - 1, most).astype(np.intp)]


def sample(points: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """At most `most` of the points, drawn at random with a fixed seed.

    Points at even distances could all have the same workload.
    """
    if len(points) <= most:
        return points
    return np.sort(np.random.default_rng(0).choice(points, most, replace=False))


def label(values: Mapping[str, Value]) -> str:
    """The swept values of a design: `knum=512, knn=64`."""
    return ", ".join(f"{SPELT.get(name, name)}={value}" for name, value in values.items()) or "same"


def named(base: ModelConfig, model: ModelConfig, words: str) -> ModelConfig:
    """The design with a name that tells it from others: the base model's and its swept values."""
    return replace(
        model,
        name=f"{base.name} {words}"[:MAX_NAME],
        published={},
        assumptions=(),
        notes=(),
    )
