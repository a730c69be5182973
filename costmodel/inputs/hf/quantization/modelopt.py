"""Schemes of NVIDIA's ModelOpt: an algorithm's name, groups, or a list of quantised layers.

They stand in `quantization_config` or in the file `hf_quant_config.json` beside a config.json.
Scales are fp32; a checkpoint keeps the fixed scale of a matrix's inputs beside it, and AWQ's
variants a 16-bit factor of each input.
"""

from dataclasses import replace
from typing import Any, Final

from costmodel.inputs.hf.fields import (
    OBJECT_OR_NULL,
    TEXT_OR_NULL,
    Fields,
)
from costmodel.inputs.hf.quantization.compressed_tensors import (
    config_groups,
    float4,
    formats_in_words,
)
from costmodel.inputs.hf.quantization.floats import MXFP4, block_fp8, tensor_fp8
from costmodel.inputs.hf.quantization.kv_cache import kv_cache_algorithm, kv_cache_scheme
from costmodel.inputs.hf.quantization.scheme import (
    GROUP,
    PROJECTIONS,
    Rule,
    Scheme,
    module_list,
    names_at,
)
from costmodel.layers.dtype import Dtype

FP32_BITS: Final = 32
FACTOR_BITS: Final = 16  # AWQ's pre_quant_scale of an input
MIXED: Final = "MIXED_PRECISION"
MAX_FORMATS: Final = 32  # of one file
_UNQUANTISED: Final = ("NONE", "UNQUANTIZED")
_WITHOUT_COST: Final = frozenset({"has_zero_point", "pre_quant_scale", "producer", "quant_method"})

# Each algorithm's format, given the group size that the file states (None: the usual one).
_INT8: Final = Dtype(name="int8", bits=8, scale_bits=FP32_BITS)
_NVFP4_INPUTS: Final = float4(16, with_inputs=True)
_ALGORITHMS: Final[dict[str, Dtype]] = {
    "FP8": tensor_fp8(static_inputs=True),
    "FP8_PB_WO": block_fp8(128, 128),
    "FP8_PER_CHANNEL_PER_TOKEN": Dtype(name="fp8", bits=8, scale_bits=FP32_BITS),
    "MXFP4": MXFP4,
    "MXFP8": Dtype(name="mxfp8", bits=8, group=32, scale_bits=8),
    "NVFP4": _NVFP4_INPUTS,
    "W4A16_AWQ": Dtype(
        name="int4", bits=4, group=128, scale_bits=FP32_BITS, column_bits=FACTOR_BITS
    ),
    "W4A16_MXFP4": MXFP4,
    "W4A16_NVFP4": float4(16, with_inputs=False),
    "W4A8_MXFP4_FP8": MXFP4,
    "W4A8_NVFP4_FP8": _NVFP4_INPUTS,
    "W8A16": _INT8,
    "W8A8_SQ_PER_CHANNEL": _INT8,
}


def modelopt(fields: Fields) -> Scheme:
    """The scheme of a `quantization_config` or of the object `quantization` in the side file.

    Raises:
        InputError: The algorithm is not known, or a key not understood.
    """
    algorithm = (fields.optional("quant_algo", TEXT_OR_NULL, None) or "NONE").upper()
    kept = names_at(fields, "ignore", "exclude_modules", "modules_to_not_convert")
    kv_dtype = kv_cache_scheme(fields) or kv_cache_algorithm(fields)
    layers = fields.optional("quantized_layers", OBJECT_OR_NULL, None)
    groups = fields.optional("config_groups", OBJECT_OR_NULL, None)
    group_size = fields.optional("group_size", GROUP, 0)
    entries: list[str] = []
    if groups:
        entries, rules = config_groups(fields, "globs", scale_bits=FP32_BITS)
    elif layers:
        entries, rules = list(layers), _layer_rules(fields, layers)
    elif algorithm in _UNQUANTISED:
        rules = []
    else:
        rules = [Rule(dtype=_dtype(fields, algorithm, group_size))]
    fields.finish(_WITHOUT_COST)
    return Scheme(
        method=f"ModelOpt, {formats_in_words(rules)}",
        rules=tuple(rules),
        kept=(module_list(fields, "ignore", kept, "globs"),),
        kinds=PROJECTIONS | {"lm_head"},
        entries=(*entries, *kept),
        kv_dtype=kv_dtype,
    )


def _layer_rules(fields: Fields, layers: dict[str, Any]) -> list[Rule]:
    """A rule for each format of `quantized_layers`, which gives each module its algorithm."""
    parent = fields.child("quantized_layers")
    names: dict[Dtype | None, list[str]] = {}
    for name in layers:
        layer = parent.child(name)
        algorithm = (layer.optional("quant_algo", TEXT_OR_NULL, None) or "NONE").upper()
        size = layer.optional("group_size", GROUP, 0)
        layer.finish({"awq_block_size", *_WITHOUT_COST})
        unquantised = algorithm in _UNQUANTISED
        dtype = None if unquantised else _dtype(layer, algorithm, size)
        names.setdefault(dtype, []).append(name)
    if len(names) > MAX_FORMATS:
        raise fields.refused("quantized_layers", f"holds more than {MAX_FORMATS} formats")
    return [
        Rule(dtype=dtype, modules=module_list(fields, "quantized_layers", group, "globs"))
        for dtype, group in names.items()
    ]


def _dtype(fields: Fields, algorithm: str, group_size: int) -> Dtype:
    """The format of an algorithm; a stated group size replaces the usual one where it has one."""
    dtype = _ALGORITHMS.get(algorithm)
    if dtype is None:
        known = ", ".join((*_ALGORITHMS, MIXED))
        raise fields.refused(
            "quant_algo", f"is not one of {known}; the last needs a list of layers"
        )
    if not dtype.group or group_size < 1:
        return dtype
    return replace(dtype, group=group_size, block_rows=group_size if dtype.block_rows else 0)
