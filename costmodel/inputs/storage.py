"""The `[storage]` table of a model file: how the checkpoint stores the weights.

`weights.default` is one format, `weights.groups` those of groups of weights that differ, `leaves`
those of single leaves, in all layers or in some. A format is text as `--dtype` takes it, or a table
of its numbers where no such text exists.
"""

from dataclasses import asdict, fields
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError, shown
from costmodel.layers.base import MAX_LAYERS, selected_layers
from costmodel.layers.dtype import Dtype, parse_dtype
from costmodel.layers.formats import Formats, Group, LeafFormat, Storage
from costmodel.layers.site import layer_pattern
from costmodel.strict import STRICT, validated

LEAVES = (
    *("embed", "lm_head"),
    *("attention.qkv", "attention.qkv_down", "attention.q_up", "attention.k_up", "attention.v_up"),
    *("attention.output", "moe.router", "moe.experts", "moe.shared_gate_up", "moe.shared_down"),
    *("ffn.gate_up", "ffn.down", "moe.shared_gate", "moe.latent_down", "moe.latent_up"),
    *("attention.in_proj", "attention.forget_gate", "attention.output_gate"),
    *("attention.index_query", "attention.index_key", "attention.index_weights"),
    *("attention.index_qk", "attention.index_compress_in", "attention.compress_in"),
    "attention.output_down",
    *("altup.expand", "altup.predict", "altup.merge", "laurel.left", "laurel.right"),
)
"""The leaves whose weights may have a format of their own; others have that of their group."""

Line: TypeAlias = Annotated[str, Field(min_length=1, max_length=2000)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class _DtypeTable:
    """The fields of a `Dtype`, within bounds."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,19}$")]
    bits: Annotated[int, Field(ge=1, le=32)]
    group: Annotated[int, Field(ge=0, le=65536)] = 0
    scale_bits: Annotated[int, Field(ge=0, le=64)] = 0
    zero_bits: Annotated[int, Field(ge=0, le=64)] = 0
    block_rows: Annotated[int, Field(ge=0, le=65536)] = 0
    tensor_bits: Annotated[int, Field(ge=0, le=256)] = 0
    column_bits: Annotated[int, Field(ge=0, le=64)] = 0

    def __post_init__(self) -> None:
        """A block has a width, a zero point a scale."""
        if self.block_rows and not (self.group and self.scale_bits):
            raise InputError(f"block_rows={self.block_rows}: needs group and scale_bits")
        if self.zero_bits and not self.scale_bits:
            raise InputError(f"zero_bits={self.zero_bits}: needs scale_bits")


def _dtype(value: object) -> Dtype:
    """The format that a text or a table states."""
    if isinstance(value, str):
        return parse_dtype(value, field="format")
    if not isinstance(value, dict):
        raise InputError(f"format={shown(value)}: is text, or a table of numbers")
    return Dtype(**asdict(validated(_DtypeTable, value, where="format")))


AnyDtype: TypeAlias = Annotated[Any, BeforeValidator(_dtype)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class _WeightsTable:
    default: AnyDtype
    groups: Annotated[dict[Group, AnyDtype], Field(max_length=16)] = Field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class _LeafTable:
    leaf: str
    layers: str | None = None  # "0-2", "0-22/2"; None: all
    dtype: AnyDtype

    def __post_init__(self) -> None:
        """A leaf that no model has would be left in its group's format."""
        if self.leaf not in LEAVES:
            raise InputError(f"leaf={shown(self.leaf)}: is not one of {', '.join(LEAVES)}")
        if self.layers is not None and self.leaf in ("embed", "lm_head"):
            raise InputError(f"layers={shown(self.layers)}: {self.leaf} stands in no layer")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class _StorageTable:
    origin: Line
    weights: _WeightsTable
    leaves: Annotated[tuple[_LeafTable, ...], Field(max_length=256)] = ()
    kv_dtype: AnyDtype = None
    notes: Annotated[tuple[Line, ...], Field(max_length=32)] = ()
    by_default: bool = True


def storage_of(value: object) -> Storage | None:
    """The storage that a table of a file states; a `Storage` or None as it is.

    Raises:
        InputError: A field breaks a rule.
    """
    if value is None or isinstance(value, Storage):
        return value
    if not isinstance(value, dict):
        raise InputError(f"storage={shown(value)}: is a table")
    table = validated(_StorageTable, value, where="storage")
    weights = Formats(
        default=table.weights.default,
        groups=tuple(table.weights.groups.items()),
        leaves=tuple(
            LeafFormat(
                leaf=stated.leaf,
                layers=None
                if stated.layers is None
                else selected_layers(stated.layers, MAX_LAYERS),
                dtype=stated.dtype,
            )
            for stated in table.leaves
        ),
    )
    return Storage(
        weights=weights,
        kv_dtype=table.kv_dtype,
        origin=table.origin,
        notes=table.notes,
        by_default=table.by_default,
    )


def storage_table(storage: Storage) -> dict[str, Any]:
    """The storage as a table of a file, which `storage_of` reads back; defaults are left out."""
    weights = storage.weights
    table: dict[str, Any] = {
        "origin": storage.origin,
        "weights": {
            "default": _dtype_value(weights.default),
            **(
                {"groups": {group: _dtype_value(dtype) for group, dtype in weights.groups}}
                if weights.groups
                else {}
            ),
        },
    }
    if weights.leaves:
        table["leaves"] = [
            {
                "leaf": stated.leaf,
                **({"layers": layer_pattern(stated.layers).strip("{}")} if stated.layers else {}),
                "dtype": _dtype_value(stated.dtype),
            }
            for stated in weights.leaves
        ]
    if storage.kv_dtype is not None:
        table["kv_dtype"] = _dtype_value(storage.kv_dtype)
    if storage.notes:
        table["notes"] = list(storage.notes)
    if not storage.by_default:
        table["by_default"] = False
    return table


def _dtype_value(dtype: Dtype) -> str | dict[str, Any]:
    """The text of a format, or its numbers where its text means another one."""
    try:
        if parse_dtype(dtype.label, field="format") == dtype:
            return dtype.label
    except InputError:
        pass  # a format that only a file can state
    values = ((number.name, getattr(dtype, number.name)) for number in fields(_DtypeTable))
    return {name: value for name, value in values if value}
