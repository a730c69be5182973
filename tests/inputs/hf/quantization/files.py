"""Small config.json files, and what their storage says of each leaf."""

import json
from pathlib import Path
from typing import Any

from costmodel.inputs.hf.config import load_hf_config
from costmodel.layers.dtype import Dtype
from costmodel.layers.formats import Storage

DENSE = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
}
EXPERTS = {
    **DENSE,
    "model_type": "qwen3_moe",
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
}
LLAMA_4 = {
    **DENSE,
    "model_type": "llama4_text",
    "intermediate_size_mlp": 1024,
    "num_local_experts": 8,
    "num_experts_per_tok": 1,
    "interleave_moe_layer_step": 2,
}
LATENT = {
    **DENSE,
    "model_type": "deepseek_v3",
    "num_key_value_heads": 8,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}


def storage(folder: Path, table: dict[str, Any], **keys: object) -> Storage:
    """What the file of `table` and `keys` says of its storage."""
    path = folder / "config.json"
    path.write_text(json.dumps({**table, **keys}), encoding="utf-8")
    stated = load_hf_config(path).storage
    assert stated is not None
    return stated


GROUPS = {
    "attention": {"attention.qkv", "attention.qkv_down", "attention.k_up", "attention.output"},
    "ffn": {"ffn.gate_up", "ffn.down"},
    "shared_experts": {"moe.shared_gate_up", "moe.shared_down"},
    "experts": {"moe.experts"},
    "router": {"moe.router"},
    "embedding": {"embed"},
    "lm_head": {"lm_head"},
}


def quantised(stated: Storage) -> set[str]:
    """The leaves or groups of leaves stored otherwise than the default, in all their layers."""
    assert all(leaf.layers is None for leaf in stated.weights.leaves)
    return {leaf.leaf for leaf in stated.weights.leaves} | {g for g, _ in stated.weights.groups}


def format_of(stated: Storage, leaf: str, layer: int | None = None) -> Dtype:
    """The format of a leaf in a layer; the narrowest statement wins."""
    for entry in stated.weights.leaves:
        if entry.leaf == leaf and (entry.layers is None or layer in entry.layers):
            return entry.dtype
    for group, dtype in stated.weights.groups:
        if leaf in GROUPS[group]:
            return dtype
    return stated.weights.default


def formats_of(stated: Storage) -> set[Dtype]:
    """All formats but the default."""
    return {leaf.dtype for leaf in stated.weights.leaves} | {d for _, d in stated.weights.groups}
