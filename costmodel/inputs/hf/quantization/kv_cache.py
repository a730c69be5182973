"""The format in which engines keep the KV cache, where a checkpoint states it.

A scale of a whole layer or head, one number that weighs nothing beside a cache, is left out.
"""

from typing import Annotated, Final

from pydantic import ConfigDict, Field, TypeAdapter

from costmodel.inputs.hf.fields import OBJECT_OR_NULL, TEXT, TEXT_OR_NULL, Fields
from costmodel.layers.dtype import DTYPES, Dtype, parse_kv_dtype

FP32_BITS: Final = 32
FP8_TENSOR: Final = parse_kv_dtype("fp8:tensor", field="kv_dtype")
INT8_TENSOR: Final = parse_kv_dtype("int8:tensor", field="kv_dtype")
NVFP4: Final = DTYPES["nvfp4"]

_BITS: Final[TypeAdapter[int]] = TypeAdapter(
    Annotated[int, Field(ge=1, le=32)], config=ConfigDict(strict=True)
)
_ALGORITHMS: Final[dict[str, Dtype | None]] = {
    "FP8": FP8_TENSOR,
    "INT8": INT8_TENSOR,
    "NVFP4": NVFP4,
    "NONE": None,
}
_CALIBRATION: Final = frozenset(
    {
        "actorder",
        "block_structure",
        "dynamic",
        "group_size",
        "observer",
        "observer_kwargs",
        "scale_dtype",
        "symmetric",
        "zp_dtype",
    }
)


def kv_cache_scheme(fields: Fields) -> Dtype | None:
    """The format at `kv_cache_scheme`: bits, a type, and what a scale is of; None: not stated."""
    if fields.optional("kv_cache_scheme", OBJECT_OR_NULL, None) is None:
        return None
    scheme = fields.child("kv_cache_scheme")
    bits = scheme.required("num_bits", _BITS)
    kind = scheme.optional("type", TEXT, "int")
    strategy = scheme.optional("strategy", TEXT_OR_NULL, None)
    scheme.finish(_CALIBRATION)
    if kind == "float" and bits == NVFP4.bits:
        return NVFP4
    whole = {"float": FP8_TENSOR, "int": INT8_TENSOR}.get(kind)
    if whole is None or bits != whole.bits:
        raise scheme.refused("num_bits", f"of type {kind!r} is not one of fp8, int8 and nvfp4")
    if strategy in (None, "tensor", "channel", "attn_head"):
        return whole
    if strategy == "token":
        return Dtype(name=f"{kind.replace('float', 'fp')}8", bits=bits, scale_bits=FP32_BITS)
    raise scheme.refused("strategy", "is not tensor, channel, attn_head or token")


def kv_cache_algorithm(fields: Fields) -> Dtype | None:
    """The format that NVIDIA's `kv_cache_quant_algo` names; None: not stated."""
    name = fields.optional("kv_cache_quant_algo", TEXT_OR_NULL, None)
    if name is None:
        return None
    if name.upper() not in _ALGORITHMS:
        raise fields.refused("kv_cache_quant_algo", f"is not one of {', '.join(_ALGORITHMS)}")
    return _ALGORITHMS[name.upper()]
