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
from costmodel.inputs.workload_spec import parse_count
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.moe import MoeFfn
from costmodel.questions.matching.sizes import SIZES, resized
from costmodel.strict import explained

Value = int | float
MAX_VALUES = 256  # of one field
MAX_DESIGNS = 5000
MAX_WORKLOADS = 1000
MAX_POINTS = 200_000  # designs x workloads
MAX_NAME = 120
MEMORY_FIELDS = ("knum", "num_keys", "knn", "value_dim", "pre_value_dim")
EVERY, SHARE = "layers", "share_ratio"
LABELS = {
    "num_experts": "Experts a layer",
    "num_experts_per_tok": "Experts a token",
    "moe_intermediate_size": "Expert width",
    "intermediate_size": "FFN width",
    "knum": "Keys per side, before sharing (knum)",
    "num_keys": "Keys per side",
    "knn": "Rows read a token and head (knn)",
    "value_dim": "Value width",
    "pre_value_dim": "Pre-value width",
    EVERY: "A memory layer in every n-th block",
    SHARE: "Share of the table a layer reaches",
}
SPELT = {EVERY: "blocks a memory layer"}
VARIED = ("num_experts", "num_experts_per_tok", "knum", "num_keys", "knn")  # unless told otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field that may be swept: its value in the base model, and its default range as text."""

    name: str
    label: str
    own: Value
    default: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Designs:
    """The models that the rules allow, the swept values of each, and what was refused."""

    models: tuple[ModelConfig, ...]
    values: tuple[dict[str, Value], ...]  # of the fields that differ from the base model
    refused: int
    reasons: tuple[str, ...]  # the first three different ones


def swept_fields(base: ModelConfig) -> list[Field]:
    """The fields that may be swept: of experts, of memory layers, of a dense FFN next to memory."""
    found: dict[str, Value] = {}
    for ffn, _ in base.ffn_groups:
        if isinstance(ffn, MoeFfn):
            for name in ("num_experts", "num_experts_per_tok", "moe_intermediate_size"):
                found.setdefault(name, getattr(ffn, name))
        elif isinstance(ffn, DenseFfn) and base.memory:
            found.setdefault("intermediate_size", ffn.intermediate_size)
    if base.memory:
        for name in (*MEMORY_FIELDS, SHARE):
            value = getattr(base.memory[0], name, None)
            if value is not None:
                found[name] = value
    fields = [
        Field(name=name, label=LABELS[name], own=value, default=_usual(name, value))
        for name, value in found.items()
    ]
    if len(base.memory) == 1 and (every := _every(base)) is not None:
        fields.append(Field(name=EVERY, label=LABELS[EVERY], own=every, default=str(every)))
    return fields


def _usual(name: str, value: Value) -> str:
    """Half, once and twice the model's own value, or only that."""
    if name in VARIED and isinstance(value, int) and value % 2 == 0:
        return f"{value // 2},{value},{2 * value}"
    return str(value)


def _every(base: ModelConfig) -> int | None:
    """n, where every n-th block from the first has a memory layer; None elsewhere."""
    blocks = base.num_hidden_layers
    placed = base.memory[0].placement(blocks)
    for n in range(1, blocks + 1):
        if placed == tuple((i, i) for i in range(0, blocks, n)):
            return n
    return None


def parse_range(text: str, name: str) -> tuple[Value, ...]:
    """`64,128,256`, `64-256/64` (from, to, step) or both; shares are decimal numbers.

    Raises:
        InputError: Not such a list, a value out of range, or too many of them.
    """
    values: list[Value] = []
    for item in text.split(","):
        values += [_share(item)] if name == SHARE else _span(item, name)
        if len(values) > MAX_VALUES:
            raise InputError(f"{name}: holds over {MAX_VALUES} values")
    return tuple(dict.fromkeys(values))


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise InputError(f"{SHARE}={shown(text)}: is a number above 0 and at most 1")
    return value


def _span(text: str, name: str) -> range:
    most = SIZES[name].most if name in SIZES else 1024
    span, slash, step_text = text.partition("/")
    first, dash, last = span.partition("-")
    try:
        low = parse_count(first, field=name, low=1, high=most)
        high = parse_count(last, field=name, low=1, high=most) if dash else low
        step = parse_count(step_text, field=name, low=1, high=most) if slash else 1
    except InputError:
        raise InputError(
            f"{name}={shown(text)}: is no whole number from 1 to {most:,}, nor from-to/step of such"
            " (64-256/64)"
        ) from None
    if high < low:
        raise InputError(f"{name}={shown(text)}: ends below its beginning")
    if (high - low) // step >= MAX_VALUES:
        raise InputError(f"{name}={shown(text)}: holds over {MAX_VALUES} values")
    return range(low, high + 1, step)


def designs(base: ModelConfig, ranges: Mapping[str, Sequence[Value]]) -> Designs:
    """The design of every combination of values; those that break a rule are only counted.

    Raises:
        InputError: There are more than `MAX_DESIGNS` combinations.
    """
    count = prod(len(values) for values in ranges.values())
    if count > MAX_DESIGNS:
        raise InputError(f"designs={count:,}: at most {MAX_DESIGNS:,} are swept at once")
    own = {field.name: field.own for field in swept_fields(base)}
    varied = [name for name, values in ranges.items() if set(values) != {own[name]}]
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
    ffn = {name: int(v) for name, v in values.items() if name not in (*MEMORY_FIELDS, EVERY, SHARE)}
    model = resized(base, ffn) if ffn else base
    if not base.memory:
        return model
    first = base.memory[0]
    own = {name: v for name, v in values.items() if name in (*MEMORY_FIELDS, SHARE)}
    memory = [
        replace(  # type: ignore[type-var]  # all memory kinds are dataclasses
            each,
            **{
                name: value
                for name, value in own.items()
                if getattr(each, name, None) == getattr(first, name) != value
            },
        )
        for each in base.memory
    ]
    if EVERY in values and values[EVERY] != _every(base):
        blocks = f"0-{base.num_hidden_layers - 1}/{values[EVERY]}"
        memory = [replace(each, layers=blocks) for each in memory]  # type: ignore[type-var]  # as above
    return replace(model, memory=tuple(memory))


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
