"""Readers of config.json files of LongCat-Flash, whose layers are two blocks here.

Such a layer holds two MLAs and two dense FFNs in turn. Its experts read what the first FFN reads,
and join the stream behind the second: a shortcut over one block (arXiv 2509.01322, section 2.2).
"""

from typing import Any

from costmodel.inputs.hf.blocks import Blocks, activation, leave_out_mtp, moe
from costmodel.inputs.hf.deepseek_families import latent_attention
from costmodel.inputs.hf.fields import COUNT, FLAG, INDEX, LAYERS, VOCABULARY, WIDTH, Fields
from costmodel.layers.base import MAX_LAYERS

BLOCKS_A_LAYER = 2


def longcat_flash(fields: Fields) -> Blocks:
    """LongCat-Flash: softmax scores of real and zero-computation experts, MLA."""
    layers = fields.required("num_layers", LAYERS)
    blocks = BLOCKS_A_LAYER * layers
    if blocks > MAX_LAYERS:
        rule = f"is {blocks} blocks; a model has at most {MAX_LAYERS}"
        raise fields.refused("num_layers", rule)
    if fields.optional("num_hidden_layers", LAYERS, layers) not in (layers, blocks):
        raise fields.refused("num_hidden_layers", f"is neither num_layers={layers} nor twice that")
    leave_out_mtp(fields, "num_nextn_predict_layers")
    act = activation(fields)
    width = fields.required("ffn_hidden_size", WIDTH)
    ffn = {"kind": "dense", "intermediate_size": width, "activation": act}
    zero = fields.required("zero_expert_num", INDEX)
    experts = moe(
        fields,
        act,
        "n_routed_experts",
        width="expert_ffn_hidden_size",
        chosen=("moe_topk",),
        zero_expert_num=zero,
        score_correction_buffer=True,
        norm_topk_prob=fields.optional("norm_topk_prob", FLAG, default=False),
        router_bias=fields.optional("router_bias", FLAG, default=False),
    )
    fields.notes.append(
        f"num_layers={layers}: each is two blocks here, of one attention and one dense FFN; its"
        " experts stand beside the first FFN and join behind the second."
    )
    if zero:
        fields.notes.append(
            f"zero_expert_num={zero}: FLOPs and active parameters count the experts that compute"
            " in the mean, if all are equally popular."
        )
    first = f"0-{blocks - BLOCKS_A_LAYER}/{BLOCKS_A_LAYER}" if layers > 1 else "0"
    return Blocks(
        attention=[latent_attention(fields)] * blocks,
        ffn=[ffn] * blocks,
        model={"shortcuts": [{"layers": first, "skips": 1, "ffn": experts}]},
    )


def longcat_flash_ngram(fields: Fields) -> Blocks:
    """LongCat-Flash-Lite: LongCat-Flash with an embedding of n-grams at its input."""
    blocks = longcat_flash(fields)
    memory: dict[str, Any] = {
        "kind": "ngram_embedding",
        "layers": "input",
        "vocab_size": fields.required("vocab_size", VOCABULARY),
        "emb_neighbor_num": fields.required("emb_neighbor_num", COUNT),
        "emb_split_num": fields.required("emb_split_num", COUNT),
        "ngram_vocab_size_ratio": fields.required("ngram_vocab_size_ratio", COUNT),
    }
    blocks.model["memory"] = [memory]
    return blocks
