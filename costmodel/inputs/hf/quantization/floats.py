"""Schemes of checkpoints in fp8 and MXFP4, written by transformers, vLLM, FBGEMM and OpenAI.

Each reads the object that the file holds at `quantization_config`. Keys that say how kernels run
are accounted for and not used. The router stays as it is.
"""

from dataclasses import replace
from typing import Annotated, Final

from pydantic import ConfigDict, Field, TypeAdapter

from costmodel.inputs.hf.fields import ANYTHING, TEXT, Fields
from costmodel.inputs.hf.quantization.kv_cache import FP8_TENSOR, kv_cache_scheme
from costmodel.inputs.hf.quantization.scheme import (
    KERNELS,
    Rule,
    Scheme,
    module_list,
    names_at,
    one_format,
)
from costmodel.layers.dtype import DTYPES, Dtype

FP32_BITS: Final = 32
E8M0_BITS: Final = 8  # a power of two
MXFP4: Final = DTYPES["mxfp4"]
MXFP8: Final = Dtype(name="mxfp8", bits=8, group=32, scale_bits=E8M0_BITS)

_BLOCK_OR_NULL: Final[TypeAdapter[list[int] | None]] = TypeAdapter(
    Annotated[list[Annotated[int, Field(ge=1, le=2**16)]], Field(min_length=2, max_length=2)]
    | None,
    config=ConfigDict(strict=True),
)


def block_fp8(rows: int, columns: int, scale_bits: int = FP32_BITS) -> Dtype:
    """8 bits, with a scale for each block of `rows` x `columns` elements of a matrix."""
    return Dtype(name="fp8", bits=8, group=columns, scale_bits=scale_bits, block_rows=rows)


def tensor_fp8(*, static_inputs: bool, scale_bits: int = FP32_BITS) -> Dtype:
    """8 bits, with one scale of a matrix and, if its inputs' is fixed, that one."""
    return Dtype(name="fp8", bits=8, tensor_bits=(2 if static_inputs else 1) * scale_bits)


def fp8(fields: Fields) -> Scheme:
    """fp8 of DeepSeek, transformers and vLLM: blocks, or one scale of each matrix."""
    block = fields.optional("weight_block_size", _BLOCK_OR_NULL, None)
    static = fields.optional("activation_scheme", TEXT, "dynamic") == "static"
    kept = names_at(fields, "modules_to_not_convert", "ignored_layers")
    kv_dtype = _fp8_cache(fields)
    fields.finish(
        KERNELS | {"dequantize", "expert_dtype", "fmt", "is_checkpoint_fp8_serialized", "scale_fmt"}
    )
    if block is None:
        method, dtype = "fp8, one scale a matrix", tensor_fp8(static_inputs=static)
    else:
        method, dtype = f"fp8 in blocks of {block[0]} x {block[1]}", block_fp8(*block)
    scheme = replace(one_format(fields, method, dtype, kept), kv_dtype=kv_dtype)
    return _with_experts(scheme, fields)


def of_deepseek_v4(scheme: Scheme, fields: Fields) -> Scheme:
    """The fp8 of DeepSeek-V4 and V4.1: scales of 8 bits (E8M0).

    V4's files state the format of experts beside the scheme, V4.1's in it.
    Source: the release's inference/model.py: Linear with float4 weights has a scale for 32 inputs.
    """
    rules = tuple(
        replace(rule, dtype=replace(rule.dtype, scale_bits=E8M0_BITS)) if rule.dtype else rule
        for rule in scheme.rules
    )
    scheme = replace(scheme, method=f"{scheme.method}, scales of {E8M0_BITS} bits", rules=rules)
    return _with_experts(scheme, fields)


def _with_experts(scheme: Scheme, fields: Fields) -> Scheme:
    """The scheme with the format of experts that an object of the file states, if it does."""
    stated = fields.optional("expert_dtype", TEXT, None)
    if stated not in (None, "fp4", "fp8"):
        raise fields.refused("expert_dtype", "is not fp4 or fp8")
    if stated != "fp4":
        return scheme
    return replace(scheme, method=f"{scheme.method}, experts in mxfp4", experts=MXFP4)


def _fp8_cache(fields: Fields) -> Dtype | None:
    """The format of the KV cache: an object, or "static" in the files of AutoFP8."""
    if fields.optional("kv_cache_scheme", ANYTHING, None) == "static":
        return FP8_TENSOR
    return kv_cache_scheme(fields)


def fbgemm_fp8(fields: Fields) -> Scheme:
    """fp8 of FBGEMM: an fp32 scale of each output channel."""
    kept = names_at(fields, "modules_to_not_convert")
    fields.finish(KERNELS | {"activation_scale_ub"})
    dtype = Dtype(name="fp8", bits=8, scale_bits=FP32_BITS)
    return one_format(fields, "fp8, one scale an output channel", dtype, kept)


def mxfp4(fields: Fields) -> Scheme:
    """MXFP4 of gpt-oss: experts only, whatever the list leaves out besides."""
    kept = names_at(fields, "modules_to_not_convert")
    fields.finish(KERNELS | {"dequantize"})
    return Scheme(
        method="mxfp4 experts",
        rules=(Rule(dtype=MXFP4),),
        kept=(module_list(fields, "modules_to_not_convert", kept, "paths"),),
        kinds=frozenset({"expert"}),
        entries=tuple(kept),
    )
