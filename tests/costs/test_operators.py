"""The list of operators: its paths and order, and what stands between the layers."""

import re
from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError

from costmodel.costs.operators import build_operators, residual_adds
from costmodel.costs.totals import kept_bytes
from costmodel.inputs.model import Block, ModelConfig, Override
from costmodel.layers.absent import NoFfn, NoMixer
from costmodel.layers.altup import AltUp
from costmodel.layers.attention import Attention
from costmodel.layers.base import MemoryKind
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.laurel import Laurel
from costmodel.layers.moe import MoeFfn
from costmodel.layers.ngram import Ngram
from costmodel.layers.operator import Operator
from costmodel.layers.product_key import ProductKey
from costmodel.layers.site import expanded_paths
from costmodel.layers.ultramem import UltraMem
from tests.steps import flops, make_step, quantity, tiny_model, weights

MOE = MoeFfn(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=6)


def beside(layers: str) -> UltraMem:
    return UltraMem(layers=layers, knum=3, knn=2, key_dim=4, value_dim=4, pre_value_dim=4)


def instead(layers: str) -> ProductKey:
    return ProductKey(layers=layers, num_keys=3, num_heads=1, knn=2, key_dim=4, value_dim=8)


def at_head(layers: str, orders: int = 3) -> Ngram:
    return Ngram(layers=layers, max_ngram_size=orders, num_heads=1, vocab_size_base=5, head_dim=4)


def listed(model: ModelConfig, **step: Any) -> dict[str, Operator]:  # noqa: ANN401
    operators = build_operators(model, make_step(**step))
    by_path = {op.path: op for op in operators}
    assert len(by_path) == len(operators)
    return by_path


def single_paths(model: ModelConfig) -> list[str]:
    operators = build_operators(model, make_step())
    assert all(len(expanded_paths(op.path)) == op.count for op in operators)
    return [path for op in operators for path in expanded_paths(op.path)]


def test_the_operators_of_a_dense_model_in_order() -> None:
    assert list(listed(tiny_model())) == [
        "embed",
        "layers.0.attention_norm",
        "layers.{1-2}.attention_norm",
        "layers.{0-2}.attention.qkv",
        "layers.{0-2}.attention.rope",
        "layers.{0-2}.attention.core",
        "layers.{0-2}.attention.output",
        "layers.{0-2}.ffn_norm",
        "layers.{0-2}.ffn.gate_up",
        "layers.{0-2}.ffn.down",
        "final_norm",
        "lm_head",
    ]


def test_layers_that_differ_are_listed_apart() -> None:
    """One dense layer, then experts; a window on every other layer."""
    window = Attention(num_attention_heads=2, num_key_value_heads=1, head_dim=4, sliding_window=3)
    model = tiny_model(
        num_hidden_layers=5,
        ffn=MOE,
        overrides=(
            Override(layers="0", ffn=DenseFfn(intermediate_size=20)),
            Override(layers="1-4/2", attention=window),
        ),
    )
    ops = listed(model, cached=7)
    assert ops["layers.0.ffn.gate_up"].count == 1
    assert weights(ops["layers.0.ffn.down"]) == {"weight": ("ffn", 8, 20)}
    assert ops["layers.{1-4}.moe.experts"].count == 4
    assert "layers.{1-4}.moe.router" in ops
    assert quantity(ops["layers.{0,2,4}.attention.core"], "kv_read_bytes") == {"scores": 7 * 16}
    assert quantity(ops["layers.{1,3}.attention.core"], "kv_read_bytes") == {"scores": 2 * 16}
    assert ops["layers.{0-4}.ffn_norm"].count == 5


def test_alike_overrides_join_the_layers_they_equal() -> None:
    model = tiny_model(overrides=(Override(layers="1", ffn=DenseFfn(intermediate_size=12)),))
    assert list(listed(model)) == list(listed(tiny_model()))


@pytest.mark.parametrize(
    ("memory", "adds"),
    [
        ((), [0, 1, 1, 1, 1, 1, 1]),
        ((beside("all"),), [0, 2, 2, 2, 2, 2, 2]),
        ((beside("1,3"),), [0, 1, 2, 1, 2, 1, 1]),
        ((beside("0:2"),), [0, 1, 1, 2, 1, 1, 1]),  # added after block 2
        ((beside("0:3,2:3"),), [0, 1, 1, 1, 3, 1, 1]),
        ((beside("1:5"),), [0, 1, 1, 1, 1, 1, 2]),  # ... or by the last norm
        ((instead("2,5"),), [0, 1, 1, 1, 1, 1, 1]),  # in place of the FFN
        ((instead("0-5"),), [0, 1, 1, 1, 1, 1, 1]),
        ((instead("1"), beside("0:1,2")), [0, 1, 2, 2, 1, 1, 1]),
    ],
)
def test_adds_wait_for_the_norm_after_the_block(
    memory: tuple[MemoryKind, ...], adds: list[int]
) -> None:
    model = tiny_model(num_hidden_layers=6, memory=memory)
    ffn_layers = [layers for _, layers in model.ffn_groups]
    assert residual_adds(6, ffn_layers, [m.placement(6) for m in memory]) == adds
    # the same by walking through the blocks
    walked, waiting = [], 0
    replaced = {a for m in memory if m.in_place_of_ffn for a, _ in m.placement(6)}
    for block in range(6):
        walked.append(waiting)
        waiting = block not in replaced
        waiting += sum(b == block for m in memory for _, b in m.placement(6))
    assert [*walked, waiting] == adds
    # and in FLOPs: D = 8, 4 a norm and 1 an add
    norm_flops: dict[str, int] = {}
    for op in build_operators(model, make_step(batch=2)):
        if op.path.endswith(("attention_norm", "final_norm")):
            for path in expanded_paths(op.path):
                norm_flops[path] = int(op.total("flops"))
    names = [f"layers.{i}.attention_norm" for i in range(6)] + ["final_norm"]
    assert norm_flops == {name: 2 * 8 * (4 + add) for name, add in zip(names, adds, strict=True)}


@pytest.mark.parametrize("block", ["serial", "parallel"])
@pytest.mark.parametrize(
    ("memory", "joins"),
    [
        ((at_head("0"),), {}),  # nothing waits before the first block
        ((at_head("0,2"),), {2: 1}),
        ((at_head("all"),), {1: 1, 2: 1, 3: 1, 4: 1, 5: 1}),
        ((at_head("1,3"), instead("0")), {1: 1, 3: 1}),
        ((at_head("1,3,4"), beside("0,1:3")), {1: 2, 3: 1, 4: 2}),
    ],
)
def test_a_layer_at_a_blocks_head_joins_what_waits_and_then_waits_itself(
    memory: tuple[MemoryKind, ...], joins: dict[int, int], block: Block
) -> None:
    """By walking through the blocks: what waits at each place is added once, here or by a norm."""
    model = tiny_model(num_hidden_layers=6, memory=memory, block=block)
    heads = {a for m in memory if m.position != "beside_ffn" for a, _ in m.placement(6)}
    others = [m for m in memory if m.position == "beside_ffn"]
    replaced = {a for m in others if m.in_place_of_ffn for a, _ in m.placement(6)}
    joined: dict[str, int] = {}
    norms: dict[str, int] = {}
    waiting = 0
    for number in range(6):
        if number in heads:
            if waiting:
                joined[f"layers.{number}.ngram_join"] = waiting
            waiting = 1
        norms[f"layers.{number}.attention_norm"] = waiting
        waiting = (number not in replaced) + (block == "parallel")
        waiting += sum(b == number for m in others for _, b in m.placement(6))
    norms["final_norm"] = waiting
    more = block == "parallel"  # attention's output waits beside the FFN's
    assert joined == {f"layers.{n}.ngram_join": count + more for n, count in joins.items()}
    found: dict[str, Operator] = {}
    for op in build_operators(model, make_step(batch=2)):
        found |= dict.fromkeys(expanded_paths(op.path), op)
    # D = 8, two tokens: an add is 16 FLOPs, a norm four times as many
    assert {p: op.total("flops") / 16 for p, op in found.items() if p.endswith("_join")} == joined
    assert {
        p: op.total("flops") / 16 - 4
        for p, op in found.items()
        if p.endswith(("attention_norm", "final_norm"))
    } == norms
    for path, count in joined.items():  # the stream and what waits in, the stream out
        assert found[path].total("activation_bytes") == (count + 2) * 2 * 8 * 2
        assert found[path].total("compulsory_bytes") == 0


def test_past_ids_are_kept_as_far_back_as_the_longest_ngram_reaches() -> None:
    plain = listed(tiny_model(memory=(beside("0"),)))
    assert "token_history" not in plain
    model = tiny_model(memory=(at_head("0", orders=4), at_head("1", orders=2)))
    history = listed(model, batch=2, new_tokens=5)["token_history"]
    assert history.total("flops") == 0
    # three ids before the new ones of each sequence, read and written
    assert quantity(history, "io_bytes") == {"window": 2 * (2 * 3 * 8)}
    # ten new ids in; those and the past ones out
    assert quantity(history, "activation_bytes") == {"window": 10 * 8 + (10 + 6) * 8}
    paths = list(listed(model))
    assert paths.index("embed") < paths.index("token_history")
    assert paths.index("token_history") < paths.index("layers.0.ngram.hash")


def test_the_attention_output_waits_for_the_ffn_norm() -> None:
    ops = listed(tiny_model(memory=(instead("0"),)))
    assert flops(ops["layers.{0-2}.ffn_norm"]) == {
        "residual_add": ("elementwise", 8),
        "norm": ("norm", 32),
    }


def test_memory_stands_at_its_input_block() -> None:
    ops = listed(tiny_model(num_hidden_layers=6, memory=(beside("0:2,3:5"),)))
    assert ops["layers.{0,3}.memory.retrieve"].count == 2
    assert ops["layers.{0-5}.ffn.gate_up"].count == 6


def test_memory_in_place_of_the_ffn_leaves_no_ffn() -> None:
    paths = single_paths(tiny_model(memory=(instead("1"),)))
    assert "layers.1.memory.values" in paths
    assert not [path for path in paths if path.startswith("layers.1.ffn.")]
    assert [path for path in paths if path.endswith("ffn.down")] == [
        "layers.0.ffn.down",
        "layers.2.ffn.down",
    ]
    assert "layers.1.ffn_norm" in paths  # it feeds the memory
    everywhere = single_paths(tiny_model(memory=(instead("all"),)))
    assert not [path for path in everywhere if ".ffn." in path]


@pytest.mark.parametrize(
    "model",
    [
        tiny_model(),
        tiny_model(num_hidden_layers=1),
        tiny_model(ffn=MOE, post_norms=True, memory=(beside("0:2"), instead("1"))),
    ],
)
def test_each_layer_has_each_of_its_operators_once(model: ModelConfig) -> None:
    counted = Counter(single_paths(model))
    assert set(counted.values()) == {1}
    for layer in range(model.num_hidden_layers):
        for leaf in ("attention_norm", "attention.qkv", "attention.core", "ffn_norm"):
            assert f"layers.{layer}.{leaf}" in counted


def test_norms_after_the_sublayers() -> None:
    plain = listed(tiny_model(memory=(instead("1"),)))
    ops = listed(tiny_model(memory=(instead("1"),), post_norms=True))
    added = {path: op for path, op in ops.items() if path not in plain}
    assert {path: op.count for path, op in added.items()} == {
        "layers.{0-2}.post_attention_norm": 3,
        "layers.{0,2}.post_ffn_norm": 2,  # block 1 has no FFN
    }
    for op in added.values():
        assert flops(op) == {"norm": ("norm", 4 * 8)}
        assert weights(op) == {"weight": ("norm", 8, 1)}
    none = listed(tiny_model(memory=(instead("all"),), post_norms=True))
    assert not [path for path in none if path.endswith("post_ffn_norm")]


def test_layers_of_one_thing_have_one_norm_and_add_what_the_layer_before_made() -> None:
    """A mixer alone, an FFN alone, both, and an FFN alone at the end."""
    model = tiny_model(
        num_hidden_layers=4,
        overrides=(
            Override(layers="0", ffn=NoFfn()),
            Override(layers="1,3", attention=NoMixer()),
        ),
    )
    operators = listed(model)
    norms = {path: op for path, op in operators.items() if "norm" in path}
    adds = {path: quantity(op, "operations").get("residual_add", 0) for path, op in norms.items()}
    assert adds == {
        "layers.0.attention_norm": 0,
        "layers.2.attention_norm": 1,
        "layers.{1-3}.ffn_norm": 1,
        "final_norm": 1,
    }
    assert "layers.{0,2}.attention.core" in operators
    assert "layers.{1-3}.ffn.gate_up" in operators
    assert model.attention_groups == [(model.attention, (0, 2))]
    assert model.ffn_groups == [(model.ffn, (1, 2, 3))]
    assert kept_bytes(model, make_step()) == (2 * 2 * 4 * 2 * 1, 0)  # K and V of 4, two layers


def test_a_model_may_begin_with_an_ffn() -> None:
    operators = listed(tiny_model(overrides=(Override(layers="0", attention=NoMixer()),)))
    assert quantity(operators["layers.0.ffn_norm"], "operations").get("residual_add") is None
    assert quantity(operators["layers.{1-2}.ffn_norm"], "operations")["residual_add"] == 1


def test_a_memory_layer_may_stand_where_there_is_no_ffn() -> None:
    model = tiny_model(memory=(beside("0"),), overrides=(Override(layers="0-1", ffn=NoFfn()),))
    operators = listed(model)
    assert "layers.{0,2}.ffn_norm" in operators
    assert "layers.2.ffn.down" in operators


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attention": NoMixer()}, "attention.kind='no_mixer': of all layers"),
        (
            {"overrides": (Override(layers="1", attention=NoMixer(), ffn=NoFfn()),)},
            "overrides.layers: layer 1 has neither a mixer nor an FFN",
        ),
        (
            {"overrides": (Override(layers="0", ffn=NoFfn()),), "memory": (beside("0:1"),)},
            "memory.layers='0:1': 0:1 skips blocks, which a memory layer cannot in layer 0",
        ),
        ({"ffn": NoFfn(), "block": "parallel"}, "block='parallel': has a mixer and an FFN in"),
        ({"ffn": NoFfn(), "block": "norms_behind"}, "block='norms_behind': has a mixer and"),
        ({"ffn": NoFfn(), "altup": AltUp()}, "altup: is of layers with a mixer and an FFN"),
        (
            {
                "overrides": (Override(layers="1", attention=NoMixer()),),
                "laurel": Laurel(laurel_rank=4),
            },
            "laurel: is of layers with a mixer and an FFN",
        ),
    ],
)
def test_rules_of_absent_halves(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        tiny_model(**fields)


def test_the_embedding_reads_distinct_rows() -> None:
    # 2 tokens of 11: 11 (1 - (10/11)^2) = 21/11 rows of 8
    embed = listed(tiny_model(), batch=1, new_tokens=2)["embed"]
    assert embed.total("flops") == 0
    assert quantity(embed, "weight_bytes") == {"rows": pytest.approx(21 / 11 * 16, rel=1e-12)}
    assert quantity(embed, "io_bytes") == {"rows": 2 * 8}
    assert quantity(embed, "activation_bytes") == {"rows": 2 * 8 * 2}
    assert weights(embed) == {"weight": ("embedding", 11, 8)}
    int8 = listed(tiny_model(), dtype="int8")["embed"]
    assert int8.total("weight_bytes") == 8 + 2
    assert int8.touched is None  # no memory table


@pytest.mark.parametrize(("logits", "tokens"), [("last", 2), ("all", 6)])
def test_logits_of_the_last_token_or_of_all(logits: str, tokens: int) -> None:
    ops = listed(tiny_model(), batch=2, new_tokens=3, cached=4, logits=logits)
    head = ops["lm_head"]
    assert flops(head) == {"gemm": ("matmul", 2 * tokens * 8 * 11)}
    assert quantity(head, "weight_bytes") == {"gemm": 11 * 8 * 2}
    assert quantity(head, "io_bytes") == {"gemm": tokens * 11 * 2}
    assert quantity(head, "activation_bytes") == {"gemm": tokens * 8 * 2}
    assert ops["final_norm"].total("flops") == tokens * 8 * (4 + 1)
    assert ops["layers.{0-2}.ffn_norm"].total("flops") == 6 * 8 * (4 + 1)


def test_a_tied_table_is_read_at_both_ends_of_the_step() -> None:
    untied, tied = (listed(tiny_model(tie_word_embeddings=tied), batch=1) for tied in (False, True))
    for path in ("embed", "lm_head"):
        assert tied[path].parts == untied[path].parts
    assert weights(untied["lm_head"]) == {"weight": ("lm_head", 11, 8)}
    assert tied["lm_head"].weights == tied["embed"].weights
    assert tied["embed"].weights[0].shared
