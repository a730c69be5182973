"""The sizes of a model that matching may vary: their steps and bounds, and where they stand."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import lcm
from typing import TypeVar

from costmodel.errors import InputError, shown
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.parse import parse_count
from costmodel.layers.base import FfnKind, MemoryKind
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.moe import MoeFfn
from costmodel.layers.ultramem import UltraMem

Kind = TypeVar("Kind", FfnKind, MemoryKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """An integer field: total parameters and FLOPs never fall when it grows.

    `reads` fields say how much of what is stored a token reads: a layer kind refuses values that
    are too large. Of all other fields it refuses values that are too small.
    """

    step: int  # usual: matched values are multiples of it
    most: int
    reads: bool = False


SIZES: Mapping[str, Size] = {
    "knum": Size(step=1, most=2**15),
    "num_keys": Size(step=1, most=2**15),
    "num_experts": Size(step=1, most=2**16),
    "intermediate_size": Size(step=64, most=2**20),  # GEMM tiles are 64 wide, or multiples of it
    "moe_intermediate_size": Size(step=64, most=2**20),
    "value_dim": Size(step=32, most=2**20),  # 64 bytes in bf16: two sectors of HBM
    "pre_value_dim": Size(step=32, most=2**20),
    "knn": Size(step=1, most=2**16, reads=True),
    "num_experts_per_tok": Size(step=1, most=2**16, reads=True),
}


def parse_vary(text: str) -> dict[str, int]:
    """`FIELD,FIELD` or `FIELD:STEP,FIELD:STEP` as the step of each field."""
    steps: dict[str, int] = {}
    for item in text.split(","):
        name, colon, step = item.strip().partition(":")
        size = _size(name)
        if name in steps:
            raise InputError(f"vary={shown(text)}: {name} is listed twice")
        steps[name] = (
            parse_count(step, field=f"vary.{name}", low=1, high=size.most) if colon else size.step
        )
    return steps


def checked_steps(template: ModelConfig, vary: Mapping[str, int] | None) -> dict[str, int]:
    """The two fields to vary, each with a step that the rules of its layers allow.

    Experts come in multiples of their groups and row widths in multiples of the Tucker cores.

    Raises:
        InputError: not two known fields of the template, or a step out of range.
    """
    if vary is None:
        vary = {name: SIZES[name].step for name in usual_sizes(template)}
    if len(vary) != 2:  # noqa: PLR2004 - two sizes settle two numbers
        raise InputError(
            f"vary={shown(','.join(vary))}: two fields are named, one for each number to match"
        )
    found = {}
    for name, step in vary.items():
        if not 1 <= step <= _size(name).most:
            raise InputError(f"vary.{name}={step}: is a step from 1 to {_size(name).most:,}")
        size_of(template, name)
        divisors = [ffn.n_group for ffn, _ in template.ffn_groups if isinstance(ffn, MoeFfn)]
        if name == "value_dim":
            divisors = [m.tucker_cores for m in template.memory if isinstance(m, UltraMem)]
        found[name] = lcm(step, *divisors) if name in {"num_experts", "value_dim"} else step
    return found


def usual_sizes(template: ModelConfig) -> tuple[str, str]:
    """The size that sets total parameters and the one that sets FLOPs.

    Memory layers: keys per side, and the width of the FFN that stands in most layers. Experts:
    their number and their width.
    """
    ffns = sorted(template.ffn_groups, key=lambda group: -len(group[1]))
    if template.memory:
        keys = "knum" if isinstance(template.memory[0], UltraMem) else "num_keys"
        dense = not ffns or isinstance(ffns[0][0], DenseFfn)
        return keys, "intermediate_size" if dense else "moe_intermediate_size"
    if any(isinstance(ffn, MoeFfn) for ffn, _ in ffns):
        return "num_experts", "moe_intermediate_size"
    raise InputError(
        f"template={shown(template.name)}: has neither experts nor memory layers to size"
    )


def size_of(model: ModelConfig, name: str) -> int:
    """The value of a size: of the first memory layers that have it, or of most FFNs that do."""
    ffns = sorted(model.ffn_groups, key=lambda group: -len(group[1]))
    for kind in (*model.memory, *(ffn for ffn, _ in ffns)):
        value = getattr(kind, name, None)
        if value is not None:
            assert isinstance(value, int)
            return value
    raise InputError(f"vary={name}: is no size of the template {shown(model.name)}")


def resized(model: ModelConfig, sizes: Mapping[str, int]) -> ModelConfig:
    """`model` with other sizes, in all layers that share the value `size_of` gives.

    Layers that differ, such as dense first layers of another width, stay as they are.

    Raises:
        pydantic.ValidationError: a layer kind refuses the sizes.
    """
    before = {name: size_of(model, name) for name in sizes}

    def changed(kind: Kind) -> Kind:
        own = {
            name: value
            for name, value in sizes.items()
            if getattr(kind, name, None) == before[name] != value
        }
        return replace(kind, **own) if own else kind  # type: ignore[type-var]  # all are dataclasses

    return replace(
        model,
        ffn=changed(model.ffn),
        overrides=tuple(
            each if each.ffn is None else replace(each, ffn=changed(each.ffn))
            for each in model.overrides
        ),
        memory=tuple(changed(each) for each in model.memory),
    )


def _size(name: str) -> Size:
    if name not in SIZES:
        raise InputError(f"vary={shown(name)}: is not one of {', '.join(SIZES)}")
    return SIZES[name]
