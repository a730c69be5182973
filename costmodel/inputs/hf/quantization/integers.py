"""Schemes of checkpoints in small integers and nf4: AWQ, GPTQ and bitsandbytes.

Each reads the object that the file holds at `quantization_config`. Bits, groups and lists are those
of the file; widths of scales and zero points are those that the method's tool stores. Keys of
calibration and of kernels are accounted for and not used. The router stays as it is.
"""

from typing import Annotated, Final

from pydantic import ConfigDict, Field, TypeAdapter

from costmodel.inputs.hf.fields import FLAG, OBJECT_OR_NULL, TEXT, Fields
from costmodel.inputs.hf.quantization.scheme import (
    BITS,
    GROUP,
    KERNELS,
    PROJECTIONS,
    Rule,
    Scheme,
    module_list,
    names_at,
    one_format,
)
from costmodel.layers.dtype import Dtype

SCALE_BITS: Final = 16  # of AWQ and GPTQ
INDEX_BITS: Final = 32  # an entry of GPTQ's g_idx
FP32_BITS: Final = 32  # a scale of bitsandbytes
MAX_DYNAMIC: Final = 32  # expressions of GPTQ's `dynamic`
DOUBLE_QUANTISED: Final = (
    "bnb_4bit_use_double_quant: scales are costed at 8 bits for 64 elements; their own scales, 32"
    " bits for 16,384 elements, are left out."
)

_MODULES_OR_NULL: Final[TypeAdapter[list[list[str]] | None]] = TypeAdapter(
    Annotated[
        list[Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=64)]],
        Field(max_length=64),
    ]
    | None,
    config=ConfigDict(strict=True),
)


def awq(fields: Fields) -> Scheme:
    """AWQ: a 16-bit scale and, with `zero_point`, a zero point of each group."""
    bits = fields.optional("bits", BITS, 4, also=("w_bit",))
    group = fields.optional("group_size", GROUP, 128, also=("q_group_size",))
    zeros = fields.optional("zero_point", FLAG, default=True)
    kept = names_at(fields, "modules_to_not_convert")
    fields.finish(KERNELS | {"do_fuse", "exllama_config", "modules_to_fuse"})
    dtype = Dtype(
        name=f"int{bits}",
        bits=bits,
        group=max(group, 0),
        scale_bits=SCALE_BITS,
        zero_bits=bits if zeros else 0,
    )
    return one_format(fields, f"AWQ, {dtype.described}", dtype, kept)


_GPTQ_WITHOUT_COST: Final = frozenset(  # calibration, and how kernels run
    {
        "batch_size",
        "block_name_to_quantize",
        "cache_block_outputs",
        "damp_auto_increment",
        "damp_percent",
        "dataset",
        "desc_act",
        "disable_exllama",
        "exllama_config",
        "is_marlin_format",
        "max_input_length",
        "meta",
        "model_file_base_name",
        "model_name_or_path",
        "model_seqlen",
        "module_name_preceding_first_block",
        "mse",
        "pad_token_id",
        "quantizer",
        "static_groups",
        "sym",
        "tokenizer",
        "true_sequential",
        "use_cuda_fp16",
        "use_exllama",
    }
)


def gptq(fields: Fields) -> Scheme:
    """GPTQ: a 16-bit scale and a zero point of each group, an int32 g_idx of each input.

    Zero points and g_idx are stored whether or not the quantisation is symmetric or ordered by
    activations; of the layout `marlin` neither is. `dynamic` holds expressions after "-:" (left
    alone) or "+:" (with bits or a group of their own).
    """
    bits = fields.optional("bits", BITS, 4)
    group = fields.optional("group_size", GROUP, 128)
    fields.only({"pack_dtype": ("int32", None)})
    layout = fields.optional("checkpoint_format", TEXT, "gptq", also=("format",))
    if layout not in ("gptq", "gptq_v2", "marlin"):
        raise fields.refused(
            fields.spelling("checkpoint_format", "format"), "is not gptq, gptq_v2 or marlin"
        )
    with_head = fields.optional("lm_head", FLAG, default=False)
    kept = names_at(fields, "modules_to_not_convert")
    inside = fields.optional("modules_in_block_to_quantize", _MODULES_OR_NULL, None)
    dynamic = fields.optional("dynamic", OBJECT_OR_NULL, None) or {}
    fields.finish(KERNELS | _GPTQ_WITHOUT_COST)

    def stored(width: int, size: int) -> Dtype:
        marlin = layout == "marlin"
        return Dtype(
            name=f"int{width}",
            bits=width,
            group=max(size, 0),
            scale_bits=SCALE_BITS,
            zero_bits=0 if marlin else width,
            column_bits=0 if marlin else INDEX_BITS,
        )

    rules = []
    if len(dynamic) > MAX_DYNAMIC:
        raise fields.refused("dynamic", f"holds more than {MAX_DYNAMIC} expressions")
    for key in dynamic:
        expression = f"re:{key.removeprefix('-:').removeprefix('+:')}"
        modules = module_list(fields, "dynamic", [expression], "names")
        changed = fields.child("dynamic").child(key)
        width, size = (
            changed.optional("bits", BITS, bits),
            changed.optional("group_size", GROUP, group),
        )
        changed.finish(_GPTQ_WITHOUT_COST)
        dtype = None if key.startswith("-:") else stored(width, size)
        rules.append(Rule(dtype=dtype, modules=modules))
    entries = [name for names in inside or [] for name in names]
    dtype = stored(bits, group)
    if inside:
        rules.append(
            Rule(
                dtype=dtype,
                modules=module_list(fields, "modules_in_block_to_quantize", entries, "paths"),
            )
        )
    else:
        rules.append(Rule(dtype=dtype))
    return Scheme(
        method=f"GPTQ, {dtype.described}",
        rules=tuple(rules),
        kept=(module_list(fields, "modules_to_not_convert", kept, "paths"),),
        kinds=PROJECTIONS | ({"lm_head"} if with_head else set()),
        entries=(*entries, *kept, *dynamic),
    )


_BNB_WITHOUT_COST: Final = frozenset(
    {
        "bnb_4bit_compute_dtype",
        "bnb_4bit_quant_storage",
        "llm_int8_enable_fp32_cpu_offload",
        "llm_int8_has_fp16_weight",
        "llm_int8_threshold",
    }
)


def bitsandbytes(fields: Fields) -> Scheme:
    """bitsandbytes: int8 with an fp32 scale a row, or 4 bits with a scale for 64 elements.

    Double quantisation stores these scales in 8 bits, with an fp32 scale for 256 of them: these
    last 32 bits for 16,384 elements are left out.
    """
    eight = fields.optional("load_in_8bit", FLAG, default=False, also=("_load_in_8bit",))
    four = fields.optional("load_in_4bit", FLAG, default=False, also=("_load_in_4bit",))
    kind = fields.optional("bnb_4bit_quant_type", TEXT, "fp4")
    double = fields.optional("bnb_4bit_use_double_quant", FLAG, default=False)
    kept = names_at(fields, "llm_int8_skip_modules")
    fields.finish(KERNELS | _BNB_WITHOUT_COST)
    if eight == four:
        raise fields.refused("load_in_8bit", "and load_in_4bit: exactly one of them is true")
    notes: tuple[str, ...] = ()
    if eight:
        dtype = Dtype(name="int8", bits=8, scale_bits=FP32_BITS)
        method = "bitsandbytes int8"
    else:
        if kind not in ("nf4", "fp4"):
            raise fields.refused("bnb_4bit_quant_type", "is not nf4 or fp4")
        dtype = Dtype(name=kind, bits=4, group=64, scale_bits=8 if double else FP32_BITS)
        method = f"bitsandbytes {kind}"
        if double:
            notes = (DOUBLE_QUANTISED,)
    return one_format(fields, method, dtype, kept, key="llm_int8_skip_modules", notes=notes)
