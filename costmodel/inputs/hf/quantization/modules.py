"""The names that checkpoints give to the modules of each leaf: projections, experts, router, ends.

A leaf of the cost model may fuse several modules: `attention.qkv` is q_proj, k_proj and v_proj.
Names stand here without what stands before `layers` or before a module beside the layers, since
the same model is `model.layers` on its own and `model.language_model.layers` in a multimodal file.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from costmodel.inputs.hf.blocks import Blocks, Table

ModuleKind: TypeAlias = Literal["linear", "expert", "router", "embedding", "lm_head"]

FRONTS: Final = ("", "model.", "language_model.", "language_model.model.", "model.language_model.")
"""What checkpoints and tools write before the names of this file."""

NAMED_MIXERS: Final = ("gqa", "mla", "msa", "compressed")
"""The mixers whose modules have names here."""

ROUTER_NAMES: Final = (
    *("mlp.gate", "mlp.router", "block_sparse_moe.gate", "mlp.gate.wg"),
    "feed_forward.router",
)

_GATED: Final = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}  # and Mixtral's spelling
_SHARED: Final = (
    *("mlp.shared_experts", "mlp.shared_expert", "mlp.shared_mlp"),
    "feed_forward.shared_expert",
)
_DENSE: Final = ("mlp", "feed_forward")  # the latter of Llama 4, as above


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A matrix or table of a checkpoint; of experts, one projection of one expert."""

    leaf: str  # as `Operator.leaf`
    layer: int | None  # None: it stands beside the layers
    kind: ModuleKind
    names: tuple[str, ...]  # all spellings, each without its front; the first is for people


def modules_of(blocks: Blocks, *, tied: bool, experts: Sequence[int]) -> Iterator[Module]:
    """The modules of a model, layer by layer, then the embedding and the LM head.

    Args:
        blocks: The layers.
        tied: Whether the LM head is the embedding, and so has its names and its kind.
        experts: The experts of each layer to list; a name that is beyond a layer's is left out.
    """
    for layer, (attention, ffn) in enumerate(zip(blocks.attention, blocks.ffn, strict=True)):
        yield from _attention(layer, attention)
        if ffn["kind"] == "moe":
            yield from _moe(layer, ffn, experts)
        else:
            yield from _feed_forward(layer, ffn)
    for leaf, kind in _ENDS.items():
        table: ModuleKind = "embedding" if tied else kind
        yield Module(leaf=leaf, layer=None, kind=table, names=_END_NAMES[table])


_ENDS: Final[dict[str, ModuleKind]] = {"embed": "embedding", "lm_head": "lm_head"}
_END_NAMES: Final[dict[ModuleKind, tuple[str, ...]]] = {
    "embedding": ("embed_tokens",),
    "lm_head": ("lm_head",),
}


def _attention(layer: int, table: Table) -> Iterator[Module]:
    leaves: dict[str, list[tuple[str, ...]]]
    if table["kind"] == "compressed":
        yield from _compressed(layer, table)
        return
    if table["kind"] != "mla":
        leaves = {
            "attention.qkv": [(f"{letter}_proj", "qkv_proj") for letter in "qkv"],
            "attention.output": [("o_proj",)],
        }
        if table["kind"] == "msa":
            leaves["attention.index_qk"] = [
                (f"indexer.{letter}_proj", f"index_{letter}_proj") for letter in "qk"
            ]
    else:
        fused = ("fused_qkv_a_proj_with_mqa", "fused_qkv_a_proj")
        query = "q_proj" if table["q_lora_rank"] is None else "q_a_proj"
        leaves = {
            "attention.qkv_down": [(query, *fused), ("kv_a_proj_with_mqa", *fused)],
            "attention.k_up": [("kv_b_proj",)],
            "attention.v_up": [("kv_b_proj",)],
            "attention.output": [("o_proj",)],
        }
        if table["q_lora_rank"] is not None:
            leaves["attention.q_up"] = [("q_b_proj",)]
        if table.get("index_topk") and not table.get("shared_index"):
            leaves["attention.index_query"] = [("indexer.wq_b",)]
            leaves["attention.index_key"] = [("indexer.wk",)]
            weights = ["self_attn.indexer.weights_proj"]  # as a router's, releases leave it alone
            yield _in_layer("attention.index_weights", layer, "router", weights)
    for leaf, projections in leaves.items():
        for names in projections:
            yield _in_layer(leaf, layer, "linear", [f"self_attn.{name}" for name in names])


def _compressed(layer: int, table: Table) -> Iterator[Module]:
    """DeepSeek-V4 and V4.1, as transformers names them; releases leave compressors alone."""
    linears = [
        ("attention.qkv_down", "q_a_proj"),
        ("attention.qkv_down", "kv_proj"),
        ("attention.q_up", "q_b_proj"),
        ("attention.output", "o_a_proj"),
        ("attention.output_down", "o_b_proj"),
    ]
    kept: list[tuple[str, str]] = []
    owns = bool(table.get("compress_ratio")) and not table.get("shared_entries")
    chooses = bool(table.get("index_topk")) and not table.get("shared_index")
    indexer = "compressor.indexer"
    if owns:
        kept += [("attention.compress_in", f"compressor.{name}_proj") for name in ("kv", "gate")]
    if chooses:
        linears.append(("attention.index_query", f"{indexer}.q_b_proj"))
        kept.append(("attention.index_weights", f"{indexer}.weights_proj"))
    if owns and chooses and table.get("keys_of_entries"):
        kept.append(("attention.index_key", f"{indexer}.k_proj"))
    elif owns and chooses:
        kept += [("attention.index_compress_in", f"{indexer}.{n}_proj") for n in ("kv", "gate")]
    for leaf, name in linears:
        yield _in_layer(leaf, layer, "linear", [f"self_attn.{name}"])
    for leaf, name in kept:
        yield _in_layer(leaf, layer, "router", [f"self_attn.{name}"])


def _moe(layer: int, table: Table, experts: Sequence[int]) -> Iterator[Module]:
    yield _in_layer("moe.router", layer, "router", ROUTER_NAMES)
    for expert in experts:
        if expert >= table["num_experts"]:
            continue
        for projection, letter in _GATED.items():
            fused = "gate_up_proj" if projection != "down_proj" else projection
            names = [
                f"mlp.experts.{expert}.{projection}",
                f"block_sparse_moe.experts.{expert}.{letter}",
                f"mlp.experts.{fused}",  # all experts as one tensor
                f"mlp.experts.{projection}",
                f"feed_forward.experts.{expert}.{projection}",
                f"feed_forward.experts.{fused}",
            ]
            yield _in_layer("moe.experts", layer, "expert", names)
    if table.get("shared_intermediate_size"):
        yield from _gated("moe.shared_gate_up", "moe.shared_down", layer, _SHARED)
    if table.get("shared_expert_gate"):
        yield _in_layer("moe.shared_gate", layer, "router", ["mlp.shared_expert_gate"])


def _feed_forward(layer: int, table: Table) -> Iterator[Module]:
    if table.get("gated", True):
        yield from _gated("ffn.gate_up", "ffn.down", layer, _DENSE)
        return
    yield _in_layer("ffn.gate_up", layer, "linear", ["mlp.up_proj", "mlp.c_fc"])
    yield _in_layer("ffn.down", layer, "linear", ["mlp.down_proj", "mlp.c_proj"])


def _gated(up: str, down: str, layer: int, parents: Sequence[str]) -> Iterator[Module]:
    """The three projections of a gated FFN, in a module with one of the names `parents`."""
    for leaf, names in (
        (up, ("gate_proj", "gate_up_proj")),
        (up, ("up_proj", "gate_up_proj")),
        (down, ("down_proj",)),
    ):
        yield _in_layer(
            leaf, layer, "linear", [f"{parent}.{name}" for parent in parents for name in names]
        )


def _in_layer(leaf: str, layer: int, kind: ModuleKind, names: Sequence[str]) -> Module:
    return Module(
        leaf=leaf, layer=layer, kind=kind, names=tuple(f"layers.{layer}.{name}" for name in names)
    )


_FRONT: Final = re.compile(
    r"(?:model\.language_model|language_model\.model|language_model|model)\."
)


def without_front(name: str) -> str:
    """A name as it stands in `Module.names`: without what stands before its layer or module."""
    front = _FRONT.match(name)
    return name[front.end() :] if front else name
