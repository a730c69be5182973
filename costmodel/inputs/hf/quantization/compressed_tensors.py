"""Schemes of compressed-tensors: groups of modules, each with a format, and modules left alone.

NVIDIA's ModelOpt writes the same groups into a config.json, with lists of globs in place of names.
Widths that a file does not state are those that the tools store: 16-bit scales, of NVFP4 8-bit
ones in groups of 16 and an fp32 scalar a matrix (two where inputs are quantised, too). The packed
matrices' shape, two integers each, is left out.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, TypeAdapter

from costmodel.inputs.hf.fields import FLAG, OBJECT, OBJECT_OR_NULL, TEXT, TEXT_OR_NULL, Fields
from costmodel.inputs.hf.quantization.kv_cache import kv_cache_scheme
from costmodel.inputs.hf.quantization.module_lists import Style
from costmodel.inputs.hf.quantization.scheme import (
    BITS,
    Rule,
    Scheme,
    module_list,
    names_at,
)
from costmodel.layers.dtype import Dtype

MAX_GROUPS: Final = 32
FP32_BITS: Final = 32
SCALE_BITS: Final = 16
INDEX_BITS: Final = 32  # an entry of weight_g_idx
EXPONENT_BITS: Final = 8  # the scale of a group of 4-bit floats
NVFP4_GROUP: Final = 16
MX_GROUP: Final = 32

_GROUP_OR_NULL: Final[TypeAdapter[int | None]] = TypeAdapter(
    Annotated[int, Field(ge=-1, le=2**16)] | None, config=ConfigDict(strict=True)
)
_BLOCK_OR_NULL: Final[TypeAdapter[list[int] | None]] = TypeAdapter(
    Annotated[list[Annotated[int, Field(ge=1, le=2**16)]], Field(min_length=2, max_length=2)]
    | None,
    config=ConfigDict(strict=True),
)
_SCALE_DTYPES: Final = {
    "torch.bfloat16": 16,
    "torch.float16": 16,
    "torch.float32": 32,
    "torch.float8_e4m3fn": 8,
    "torch.uint8": 8,
}
_FORMATS: Final = (
    "float-quantized",
    "int-quantized",
    "mixed-precision",
    "mxfp4-pack-quantized",
    "mxfp8-quantized",
    "naive-quantized",
    "nvfp4-pack-quantized",
    "pack-quantized",
)
_WITHOUT_COST: Final = frozenset(
    {"global_compression_ratio", "quant_method", "quantization_status", "version"}
)
_CALIBRATION: Final = frozenset({"dynamic", "observer", "observer_kwargs", "zp_dtype"})


def compressed_tensors(fields: Fields) -> Scheme:
    """The scheme of a `quantization_config` whose quant_method is compressed-tensors."""
    layout = fields.optional("format", TEXT_OR_NULL, None)
    if layout is not None and layout not in _FORMATS:
        raise fields.refused("format", f"is not one of {', '.join(_FORMATS)}")
    sparsity = fields.optional("sparsity_config", OBJECT_OR_NULL, None) or {}
    if sparsity.get("format", "dense") != "dense":
        raise fields.refused("sparsity_config", "is not dense; sparse weights are not modelled")
    notes: tuple[str, ...] = ()
    if fields.optional("transform_config", OBJECT_OR_NULL, None):
        notes = ("transform_config: its rotations of activations are left out.",)
    entries, rules = config_groups(fields, "names")
    kept = names_at(fields, "ignore")
    kv_dtype = kv_cache_scheme(fields)
    fields.finish(_WITHOUT_COST)
    return Scheme(
        method="compressed-tensors, " + formats_in_words(rules),
        rules=tuple(rules),
        kept=(module_list(fields, "ignore", kept, "names"),),
        entries=(*entries, *kept),
        kv_dtype=kv_dtype,
        notes=notes,
    )


def config_groups(
    fields: Fields, style: Style, *, scale_bits: int = SCALE_BITS
) -> tuple[list[str], list[Rule]]:
    """The entries of all target lists, and a rule for each group that has quantised weights.

    Args:
        fields: The object that holds `config_groups`.
        style: How targets name modules.
        scale_bits: Of a scale whose width the file does not state.
    """
    groups = fields.child("config_groups")
    stated = fields.required("config_groups", OBJECT)
    names = tuple(stated)
    if len(names) > MAX_GROUPS:
        raise fields.refused("config_groups", f"holds more than {MAX_GROUPS} groups")
    entries: list[str] = []
    rules: list[Rule] = []
    for name in names:
        group = groups.child(name)
        targets = names_at(group, "targets")
        inputs = group.optional("input_activations", OBJECT_OR_NULL, None)
        group.optional("output_activations", OBJECT_OR_NULL, None)
        layout = group.optional("format", TEXT_OR_NULL, None)
        if layout is not None and layout not in _FORMATS:
            raise group.refused("format", f"is not one of {', '.join(_FORMATS)}")
        weights = group.optional("weights", OBJECT_OR_NULL, None)
        group.finish(())
        entries += targets
        if weights is not None:
            dtype = _weights(group.child("weights"), inputs, scale_bits)
            modules = module_list(group, "targets", targets, style)
            rules.append(Rule(dtype=dtype, modules=modules))
    return entries, rules


def formats_in_words(rules: Iterable[Rule]) -> str:
    """The different formats of rules, in their order: "int4 and fp8"."""
    return " and ".join(dict.fromkeys(rule.dtype.name for rule in rules if rule.dtype)) or "none"


def _weights(fields: Fields, inputs: dict[str, Any] | None, scale_bits: int) -> Dtype:
    """The format that a group's `weights` state; a fixed scale of its `inputs` stands beside it."""
    bits = fields.required("num_bits", BITS)
    kind = fields.optional("type", TEXT, "int")
    group = fields.optional("group_size", _GROUP_OR_NULL, None) or 0
    block = fields.optional("block_structure", _BLOCK_OR_NULL, None)
    default = "group" if group > 0 else "tensor"
    strategy = fields.optional("strategy", TEXT_OR_NULL, None) or default
    zero = 0 if fields.optional("symmetric", FLAG, default=True) else bits
    ordered = fields.optional("actorder", TEXT_OR_NULL, None) == "group"
    stated = fields.optional("scale_dtype", TEXT_OR_NULL, None)
    fields.finish(_CALIBRATION)
    if kind not in ("int", "float") or (kind == "float" and bits not in (4, 8)):
        raise fields.refused("type", f"is not int, or float of 4 or 8 bits (num_bits={bits})")
    if stated is not None and stated not in _SCALE_DTYPES:
        raise fields.refused("scale_dtype", f"is not one of {', '.join(_SCALE_DTYPES)}")
    name = f"int{bits}" if kind == "int" else f"fp{bits}"
    scale = scale_bits if stated is None else _SCALE_DTYPES[stated]
    if strategy in ("group", "tensor_group"):
        if group < 1:
            raise fields.refused("group_size", f"gives no group to strategy {strategy!r}")
        if name == "fp4":
            return float4(group, with_inputs=inputs is not None)
        if name == "fp8" and group == MX_GROUP and stated is None:
            return Dtype(name="mxfp8", bits=8, group=group, scale_bits=EXPONENT_BITS)
        columns = INDEX_BITS if ordered else 0
        return Dtype(
            name=name,
            bits=bits,
            group=group,
            scale_bits=scale,
            zero_bits=zero,
            column_bits=columns,
        )
    if strategy == "channel":
        return Dtype(name=name, bits=bits, scale_bits=scale, zero_bits=zero)
    if strategy == "tensor":
        fixed_inputs = inputs is not None and inputs.get("dynamic") is not True
        return Dtype(name=name, bits=bits, tensor_bits=scale * (2 if fixed_inputs else 1) + zero)
    if strategy == "block" and block is not None:
        rows, columns = block
        return Dtype(name=name, bits=bits, group=columns, scale_bits=scale, block_rows=rows)
    raise fields.refused("strategy", "is not tensor, channel, group, tensor_group or block")


def float4(group: int, *, with_inputs: bool) -> Dtype:
    """4-bit floats: NVFP4 in groups of 16 with fp32 scalars, MXFP4 in larger ones."""
    if group != NVFP4_GROUP:
        return Dtype(name="mxfp4", bits=4, group=group, scale_bits=EXPONENT_BITS)
    scalars = 2 if with_inputs else 1
    return Dtype(
        name="nvfp4",
        bits=4,
        group=group,
        scale_bits=EXPONENT_BITS,
        tensor_bits=scalars * FP32_BITS,
    )
