"""Reader of Kimi Linear: Kimi delta attention, and MLA without positions in some blocks.

Published files hold `linear_attn_config`, whose lists count blocks from 1 (`configuration_kimi.py`
of moonshotai/Kimi-Linear-48B-A3B-Instruct); files that transformers writes hold its sizes at the
top, and `layer_types`. The two classes differ in which blocks have MLA, which are dense and how
many experts are shared where a file does not say: it must say. So it must the sizes of KDA.
"""

from typing import Final

from pydantic import TypeAdapter

from costmodel.errors import InputError
from costmodel.inputs.hf.blocks import CHOSEN, Blocks, Table, leave_out_mtp, num_layers
from costmodel.inputs.hf.deepseek_families import (
    Spellings,
    check_dense_blocks,
    first_dense,
    latent_attention,
    noaux_tc,
)
from costmodel.inputs.hf.fields import (
    ANYTHING,
    COUNT,
    INDEX,
    INDEX_OR_NULL,
    INDICES_OR_NULL,
    NAMES_OR_NULL,
    OBJECT_OR_NULL,
    WIDTH,
    WIDTH_OR_NULL,
    Fields,
)
from costmodel.inputs.hf.hybrid_families import Mixer, mixed

_NESTED: Final = "linear_attn_config"
_NAMES: Final = Spellings(
    chosen=("num_experts_per_token", *CHOSEN),
    groups=("num_expert_group", "n_group"),
    norm=("moe_renormalize", "norm_topk_prob"),
)


def kimi_linear(fields: Fields) -> Blocks:
    """Kimi Linear: KDA or MLA; DeepSeek-V3's router, dense first blocks."""
    leave_out_mtp(fields, "num_nextn_predict_layers", "num_mtp_layers")
    dense = fields.optional("dense_ffn_hidden", WIDTH_OR_NULL, None)
    if dense not in (None, fields.required("intermediate_size", WIDTH)):
        raise fields.refused("dense_ffn_hidden", "is not intermediate_size")
    also = ("n_shared_experts",)
    shared = fields.required("num_shared_experts", INDEX_OR_NULL, also=also) or 0
    width = shared * fields.required("moe_intermediate_size", WIDTH)
    sparse = noaux_tc(fields, names=_NAMES, shared_intermediate_size=width)
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
    held = fields.optional(_NESTED, OBJECT_OR_NULL, None) is not None
    if not held and not fields.holds("linear_num_heads"):
        missing = f"{fields.prefix}{_NESTED}: is missing"
        raise InputError(f"{fields.where}: {missing}, and so is linear_num_heads")
    nested = fields.child(_NESTED) if held else None
    kda: Table = {
        "kind": "kimi_delta_attention",
        "num_heads": _size(fields, nested, "num_heads", "linear_num_heads", COUNT),
        "head_dim": _size(fields, nested, "head_dim", "linear_head_dim", WIDTH),
        "short_conv_kernel_size": _size(
            fields, nested, "short_conv_kernel_size", "linear_conv_kernel_dim", COUNT
        ),
    }
    listed = None
    if nested is not None:
        needed = fields.optional("layer_types", ANYTHING, None) is None
        listed = _listed(nested, layers, needed=needed)
        nested.finish(())
    mla = {**latent_attention(fields, None), "mla_use_nope": True}
    names: tuple[Mixer, Mixer] = ("full_attention", "linear_attention")
    mixers = mixed(fields, [mla] * layers, kda, names, listed)
    if listed is not None and [table is mla for table in mixers] != listed:
        raise fields.refused("layer_types", f"differs from the lists of {_NESTED}")
    return mixers


def _size(
    fields: Fields, nested: Fields | None, inner: str, outer: str, rule: TypeAdapter[int]
) -> int:
    """A size of KDA that stands in `linear_attn_config`, at the top, or the same at both."""
    at_top = fields.optional(outer, rule, None)
    if nested is None:
        return fields.required(outer, rule)
    size = nested.required(inner, rule)
    if at_top not in (None, size):
        raise fields.refused(outer, f"differs from {_NESTED}.{inner}={size}")
    return size


def _listed(nested: Fields, layers: int, *, needed: bool) -> list[bool] | None:
    """Whether each block has MLA, by lists of blocks counted from 1.

    None: there are no lists, and none are needed. A list may go on behind the last block: for
    layers of multi-token prediction.
    """
    keys = ("kda_layers", "full_attn_layers")
    if not needed and not any(nested.holds(key) for key in keys):
        return None
    lists = [nested.required(key, INDICES_OR_NULL) for key in keys]
    kda, full = (set(blocks or ()) for blocks in lists)
    for key, blocks in zip(keys, (kda, full), strict=True):
        if 0 in blocks:
            raise nested.refused(key, "counts blocks from 1, and holds 0")
    both = sorted(kda & full)
    if both:
        raise nested.refused("full_attn_layers", f"holds {both[0]}, which kda_layers holds, too")
    neither = sorted(set(range(1, layers + 1)) - kda - full)
    if neither:
        rule = f"lacks {neither[0]} of num_hidden_layers={layers}, and so does full_attn_layers"
        raise nested.refused("kda_layers", rule)
    return [block in full for block in range(1, layers + 1)]
