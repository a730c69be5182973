"""Schemes of MLX: the key `quantization` with a group size and bits, and modules of their own."""

import re
from typing import Any, Final

from costmodel.inputs.hf.fields import FLAG, TEXT, Fields
from costmodel.inputs.hf.quantization.module_lists import ModuleList
from costmodel.inputs.hf.quantization.modules import ModuleKind
from costmodel.inputs.hf.quantization.scheme import BITS, GROUP, PROJECTIONS, Rule, Scheme
from costmodel.layers.dtype import Dtype

MAX_FORMATS: Final = 32  # that modules of one file have
AFFINE_BITS: Final = 16  # a scale, and a bias
EXPONENT_BITS: Final = 8  # the scale of a group of mxfp4, nvfp4 or mxfp8
_SETTINGS: Final = frozenset({"bits", "group_size", "mode"})
_ALL_EXPERTS: Final = re.compile(r"\.(mlp|block_sparse_moe)\.switch_mlp\.")  # one tensor in MLX
_TABLES: Final[frozenset[ModuleKind]] = frozenset({"embedding", "lm_head"})
_ROUTER: Final[frozenset[ModuleKind]] = frozenset({"router"})
_ROUTER_IS_LINEAR: Final = frozenset(  # in MLX's models; other routers are never quantised
    {"gpt_oss", "minimax_m2", "mixtral", "olmoe", "qwen3_moe"}
)


def mlx(fields: Fields, table: dict[str, Any]) -> Scheme:
    """Projections, experts, embedding and LM head in one format, but for modules named by path.

    Args:
        fields: The object at `quantization`.
        table: The same as plain values. A key with an object is a module with settings of its
            own; with `false` it is left alone, with `true` it has the common format.

    Raises:
        InputError: A setting breaks a rule.
    """
    common = _dtype(fields)
    paths: dict[Dtype | None, list[str]] = {}
    for path, change in table.items():
        if path in _SETTINGS:
            continue
        if isinstance(change, bool):
            dtype = common if fields.optional(path, FLAG, default=False) else None
        elif isinstance(change, dict):
            module = fields.child(path)
            dtype = _dtype(module, common)
            module.finish(())
        else:
            continue
        paths.setdefault(dtype, []).append(_ALL_EXPERTS.sub(".mlp.experts.", path))
        if len(paths) > MAX_FORMATS:
            raise fields.refused(path, f"is a format more than the {MAX_FORMATS} that are read")
    fields.finish(())
    field = f"{fields.where}: {fields.prefix}"
    return Scheme(
        method=f"MLX, {common.described}",
        rules=(
            *(
                Rule(dtype=dtype, modules=ModuleList(names, style="names", field=field))
                for dtype, names in paths.items()
            ),
            Rule(dtype=common),
        ),
        kinds=PROJECTIONS
        | _TABLES
        | (_ROUTER if fields.model_type in _ROUTER_IS_LINEAR else frozenset()),
        entries=tuple(path for path in table if path not in _SETTINGS),
    )


def _dtype(fields: Fields, common: Dtype | None = None) -> Dtype:
    """The format of bits, group size and mode; what is left out is `common`'s."""
    if common is None:
        bits = fields.required("bits", BITS)
        group = fields.required("group_size", GROUP)
    else:
        bits = fields.optional("bits", BITS, common.bits)
        group = fields.optional("group_size", GROUP, common.group)
    mode = fields.optional("mode", TEXT, "affine")
    if group < 1:
        raise fields.refused("group_size", "is not a number of elements")
    if mode == "affine":
        return Dtype(
            name=f"int{bits}",
            bits=bits,
            group=group,
            scale_bits=AFFINE_BITS,
            zero_bits=AFFINE_BITS,
        )
    if mode not in ("mxfp4", "mxfp8", "nvfp4") or bits != int(mode[-1]):
        raise fields.refused("mode", f"is not affine, mxfp4, mxfp8 or nvfp4 of bits={bits}")
    return Dtype(name=mode, bits=bits, group=group, scale_bits=EXPONENT_BITS)
