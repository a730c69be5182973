"""Reader of Kimi Linear: Kimi delta attention, and MLA without positions in some blocks.

Published files hold `linear_attn_config`, whose lists count blocks from 1 (`configuration_kimi.py`
of moonshotai/Kimi-Linear-48B-A3B-Instruct); files that transformers writes hold its sizes at the
top, and `layer_types`. The defaults of the two classes differ, that of transformers puts MLA in
other blocks than the published lists: so sizes and blocks are never taken from a default.
"""

from typing import Final, TypeVar

from pydantic import TypeAdapter

from costmodel.errors import InputError
from costmodel.inputs.hf.blocks import CHOSEN, Blocks, Table, leave_out_mtp, num_layers
from costmodel.inputs.hf.deepseek_families import (
    check_dense_blocks,
    first_dense,
    latent_attention,
    noaux_tc,
    shared_width,
)
from costmodel.inputs.hf.fields import (
    COUNT,
    INDEX,
    INDICES_OR_NULL,
    NAMES_OR_NULL,
    OBJECT_OR_NULL,
    WIDTH,
    WIDTH_OR_NULL,
    Fields,
)
from costmodel.inputs.hf.hybrid_families import mixed

T = TypeVar("T")
NESTED: Final = "linear_attn_config"


def kimi_linear(fields: Fields) -> Blocks:
    """Kimi Linear: KDA or MLA; DeepSeek-V3's router, dense first blocks."""
    leave_out_mtp(fields, "num_nextn_predict_layers", "num_mtp_layers")
    width = fields.optional("dense_ffn_hidden", WIDTH_OR_NULL, None)
    if width not in (None, fields.required("intermediate_size", WIDTH)):
        raise fields.refused("dense_ffn_hidden", "is not intermediate_size")
    sparse = noaux_tc(
        fields,
        chosen=("num_experts_per_token", *CHOSEN),
        shared_intermediate_size=shared_width(fields, 0),
    )
    ffn = first_dense(fields, _dense_blocks(fields), sparse)
    check_dense_blocks(fields, ffn)
    return Blocks(attention=_mixers(fields), ffn=ffn)


def _dense_blocks(fields: Fields) -> int:
    """How many blocks `mlp_layer_types` calls dense before the first other one.

    Without the list the file must hold `first_k_dense_replace`: it is 0 or 1 by default.
    """
    types = fields.optional("mlp_layer_types", NAMES_OR_NULL, None)
    if types is None:
        return fields.required("first_k_dense_replace", INDEX)
    return next((i for i, name in enumerate(types) if name != "dense"), len(types))


def _mixers(fields: Fields) -> list[Table]:
    """KDA or MLA of each block, by the lists, by `layer_types`, or by both if they agree."""
    layers = num_layers(fields)
    has_nested = fields.optional(NESTED, OBJECT_OR_NULL, None) is not None
    nested = fields.child(NESTED) if has_nested else None
    kda: Table = {
        "kind": "kimi_delta_attention",
        "num_heads": _size(fields, nested, "num_heads", "linear_num_heads", COUNT),
        "head_dim": _size(fields, nested, "head_dim", "linear_head_dim", WIDTH),
        "short_conv_kernel_size": _size(
            fields, nested, "short_conv_kernel_size", "linear_conv_kernel_dim", COUNT
        ),
    }
    listed = _listed(nested, layers) if nested is not None else None
    if listed is None and not fields.holds("layer_types"):
        lists = f"{fields.prefix}{NESTED}.kda_layers"
        raise InputError(f"{fields.where}: {lists}: is missing, and so is layer_types")
    if nested is not None:
        nested.finish(())
    mla = {**latent_attention(fields, None), "mla_use_nope": True}
    names = ("full_attention", "linear_attention")
    mixers = mixed(fields, [mla] * layers, kda, names, listed)
    if listed is not None and [table is mla for table in mixers] != listed:
        raise fields.refused("layer_types", f"differs from the lists of {NESTED}")
    return mixers


def _size(
    fields: Fields, nested: Fields | None, inner: str, outer: str, rule: TypeAdapter[T]
) -> T:
    """A size of KDA that stands in `linear_attn_config`, at the top, or the same at both."""
    at_top = fields.optional(outer, rule, None)
    if nested is None or (at_top is not None and not nested.holds(inner)):
        return fields.required(outer, rule)
    size = nested.required(inner, rule)
    if at_top not in (None, size):
        raise fields.refused(outer, f"differs from {NESTED}.{inner}={size}")
    return size


def _listed(nested: Fields, layers: int) -> list[bool] | None:
    """Whether each block has MLA, by lists of blocks counted from 1; None: there are no lists.

    A list may go on behind the last block: for layers of multi-token prediction.
    """
    kda = nested.optional("kda_layers", INDICES_OR_NULL, None)
    full = nested.optional("full_attn_layers", INDICES_OR_NULL, None)
    if kda is None and full is None:
        return None
    kda = nested.required("kda_layers", INDICES_OR_NULL) or []
    full = nested.required("full_attn_layers", INDICES_OR_NULL) or []
    for key, numbers in (("kda_layers", kda), ("full_attn_layers", full)):
        if 0 in numbers:
            raise nested.refused(key, "counts blocks from 1, and holds 0")
    both = sorted(set(kda) & set(full))
    if both:
        raise nested.refused("full_attn_layers", f"holds {both[0]}, which kda_layers holds, too")
    neither = sorted(set(range(1, layers + 1)) - set(kda) - set(full))
    if neither:
        rule = f"lacks {neither[0]} of num_hidden_layers={layers}, and so does full_attn_layers"
        raise nested.refused("kda_layers", rule)
    return [block in set(full) for block in range(1, layers + 1)]
