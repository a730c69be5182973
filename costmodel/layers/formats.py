"""How the weights of a model are stored: one format, but for some groups and some leaves.

Checkpoints mix formats: experts in MXFP4 under attention in bf16, or all projections in fp8 blocks
beside a bf16 embedding. The narrowest statement wins: a leaf's, a group's, the default.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, get_args

from costmodel.errors import InputError, shown
from costmodel.layers.dtype import BF16, Dtype, parse_dtype

Group: TypeAlias = Literal[
    "embedding",
    "lm_head",
    "attention",
    "router",
    "experts",
    "shared_experts",
    "ffn",
    "memory_keys",
    "memory_values",
    "memory_projections",
    "residual",
    "norm",
]
GROUPS: tuple[Group, ...] = get_args(Group)
STATED: tuple[Group, ...] = tuple(group for group in GROUPS if group != "norm")
"""The groups that have matrices or tables, and so a format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafFormat:
    """The weights of one leaf are stored otherwise than those of its group."""

    leaf: str  # as `Operator.leaf`: "attention.qkv", "moe.experts", "embed", "lm_head"
    layers: tuple[int, ...] | None  # None: in all layers
    dtype: Dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Formats:
    """The storage format of each weight matrix and table of a model.

    Norms, biases, sinks and Tucker cores are never quantised, whatever stands here
    (`Weight.matrix`). A statement on a leaf of some layers comes before one on all its layers.
    """

    default: Dtype
    groups: tuple[tuple[Group, Dtype], ...] = ()
    leaves: tuple[LeafFormat, ...] = ()
    _by_group: dict[Group, Dtype] = field(init=False, repr=False, compare=False)
    _by_leaf: dict[str, Dtype] = field(init=False, repr=False, compare=False)
    _by_layer: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Put the groups into the order of `GROUPS`, whatever order they were stated in.

        Look-ups are made once: a step asks for the format of each of its weights.
        """
        ordered = sorted(self.groups, key=lambda stated: GROUPS.index(stated[0]))
        object.__setattr__(self, "groups", tuple(ordered))
        by_group = dict.fromkeys(GROUPS, self.default) | dict(self.groups)
        by_leaf = {stated.leaf: stated.dtype for stated in self.leaves if stated.layers is None}
        object.__setattr__(self, "_by_group", by_group)
        object.__setattr__(self, "_by_leaf", by_leaf)
        object.__setattr__(self, "_by_layer", any(stated.layers for stated in self.leaves))

    def of(self, group: Group, leaf: str) -> Dtype:
        """The format of a weight of this group at this leaf, where all layers are alike."""
        if self._by_leaf:
            stated = self._by_leaf.get(leaf)
            if stated is not None:
                return stated
        return self._by_group[group]

    @property
    def by_layer(self) -> bool:
        """Whether some leaf has other formats in some layers: see `split`."""
        return self._by_layer

    @property
    def is_one(self) -> bool:
        """Whether all weights have the default format."""
        return not (self.groups or self.leaves)

    @property
    def dtypes(self) -> tuple[Dtype, ...]:
        """All formats that are stated, the default first."""
        stated = (*(dtype for _, dtype in self.groups), *(leaf.dtype for leaf in self.leaves))
        return tuple(dict.fromkeys((self.default, *stated)))

    def split(self, layers: Sequence[int]) -> list[tuple[tuple[int, ...], "Formats"]]:
        """The layers in parts within which every leaf has one format, and the formats of each."""
        parts: dict[tuple[LeafFormat, ...], list[int]] = {}
        for layer in layers:
            stated = tuple(leaf for leaf in self.leaves if leaf.layers and layer in leaf.layers)
            parts.setdefault(stated, []).append(layer)
        everywhere = tuple(leaf for leaf in self.leaves if leaf.layers is None)
        return [
            (
                tuple(part),
                replace(
                    self, leaves=(*everywhere, *(replace(leaf, layers=None) for leaf in stated))
                ),
            )
            for stated, part in parts.items()
        ]

    @property
    def label(self) -> str:
        """The formats of groups as a user writes them: `bf16`, or `experts=mxfp4`."""
        groups = [f"{group}={dtype.label}" for group, dtype in self.groups]
        default = [] if groups and self.default == BF16 else [self.default.label]
        return ",".join((*default, *groups))

    @property
    def named(self) -> str:
        """`label`, with a word on single leaves where some differ."""
        return f"{self.label} and single leaves" if self.leaves else self.label

    @property
    def described(self) -> str:
        """The formats in words, with their scales; leaves by their number."""
        words = [self.default.described]
        words += [f"{group}: {dtype.described}" for group, dtype in self.groups]
        leaves = len({stated.leaf for stated in self.leaves})
        if leaves:
            words.append(f"{leaves} {'leaf' if leaves == 1 else 'leaves'} otherwise")
        return "; ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """How a checkpoint stores a model's weights, and the format in which its KV cache is kept."""

    weights: Formats
    kv_dtype: Dtype | None = None  # None: the checkpoint does not say
    origin: str  # for people: "quantization_config: mxfp4; attention, router, LM head in bf16"
    notes: tuple[str, ...] = ()  # what could not be read exactly, and how it was costed
    by_default: bool = True  # costed so unless told otherwise; presets are bf16 unless told


ONE_BF16 = Formats(default=BF16)


def parse_formats(text: str, *, field: str) -> Formats:
    """`bf16` for all weights, or `GROUP=FORMAT,...`, which a format for the others may precede.

    Raises:
        InputError: A format or a group does not exist, or stands twice; it names `field`.
    """
    default, groups = BF16, dict[Group, Dtype]()
    for place, item in enumerate(text.split(",")):
        name, equals, dtype = item.partition("=")
        if not equals and not place:
            default = parse_dtype(item, field=field)
            continue
        group = next((known for known in STATED if known == name), None)
        if group is None or not equals:
            raise InputError(
                f"{field}={shown(text)}: {shown(item)} is no GROUP=FORMAT; the groups are"
                f" {', '.join(STATED)}"
            )
        if group in groups:
            raise InputError(f"{field}={shown(text)}: {group} is listed twice")
        groups[group] = parse_dtype(dtype, field=field)
    return Formats(default=default, groups=tuple(groups.items()))
