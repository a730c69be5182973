"""A model as a user writes it: selectors, merging, TOML, and every rule's refusal."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from costmodel.errors import InputError
from costmodel.inputs.model import load_model_toml, model_from_table
from costmodel.layers.attention import Attention
from costmodel.layers.base import selected_layers
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.mla import LatentAttention
from costmodel.layers.moe import MoeFfn
from costmodel.layers.ultramem import UltraMem
from tests.steps import tiny_model

ATTENTION: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
DENSE = {"kind": "dense", "intermediate_size": 16}
MOE = {"kind": "moe", "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
ULTRA = {"kind": "ultramem", "knum": 4, "knn": 3, "key_dim": 8, "value_dim": 8}
KEYS = {"layers": "1", "num_keys": 4, "num_heads": 2, "knn": 3, "key_dim": 8}
PRODUCT = {"kind": "product_key", "value_dim": 8, **KEYS}
PEER = {"kind": "peer", **KEYS}
PLE = {
    "kind": "per_layer_embedding",
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 10,
}
NGRAMS = {
    "kind": "ngram_embedding", "vocab_size": 10, "emb_neighbor_num": 2, "emb_split_num": 1,
    "ngram_vocab_size_ratio": 2,
}  # fmt: skip
MLA = {
    "kind": "mla", "num_attention_heads": 2, "kv_lora_rank": 8, "qk_nope_head_dim": 4,
    "qk_rope_head_dim": 4, "v_head_dim": 4,
}  # fmt: skip
BASE: dict[str, Any] = {
    "name": "m", "source": "s", "hidden_size": 8, "vocab_size": 10, "num_hidden_layers": 6,
    "attention": ATTENTION, "ffn": DENSE,
}  # fmt: skip


def model(**fields: Any) -> Any:  # noqa: ANN401 - a model whose parts tests look into
    return model_from_table(BASE | fields, where="model 'm.toml'")


def refusal(**fields: Any) -> str:  # noqa: ANN401
    with pytest.raises(InputError) as caught:
        model(**fields)
    message = str(caught.value)
    assert message.startswith("model 'm.toml': ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("selector", "layers"),
    [
        ("all", (0, 1, 2, 3, 4, 5)),
        (" all ", (0, 1, 2, 3, 4, 5)),
        ("3", (3,)),
        ("0-2", (0, 1, 2)),
        ("4-4", (4,)),
        ("0-5/2", (0, 2, 4)),
        ("1-5/3", (1, 4)),
        ("1,5", (1, 5)),
        ("5, 1", (1, 5)),
        ("0-1,3-5/2", (0, 1, 3, 5)),
    ],
)
def test_selectors_of_six_layers(selector: str, layers: tuple[int, ...]) -> None:
    assert selected_layers(selector, 6) == layers
    if "all" not in selector:
        config = model(overrides=[{"layers": selector, "ffn": {"intermediate_size": 20}}])
        assert config.ffn_groups[0 if 0 in layers else 1][1] == layers
    assert model(memory=[{**ULTRA, "layers": selector}]).memory[0].placement(6) == tuple(
        (i, i) for i in layers
    )


BAD_SELECTORS = [
    ("", "'' is not a layer number"),
    ("x", "'x' is not a layer number"),
    ("-1", "'' is not a layer number"),
    ("1-", "'' is not a layer number"),
    ("0-5/", "'' is not a layer number"),
    ("1,,2", "'' is not a layer number"),
    ("1.5", "'1.5' is not a layer number"),
    ("\u0663", "is not a layer number"),  # a digit, but not ours
    ("6", "'6' is not a range of the 6 layers (0 to 5)"),
    ("4-6", "'4-6' is not a range"),
    ("3-1", "'3-1' is not a range"),
    ("0-5/0", "'0-5/0' is not a range"),
    ("1,1", "a layer is listed twice"),
    ("0-3,2", "a layer is listed twice"),
    ("99999999999", "is not a layer number"),
]


@pytest.mark.parametrize(("selector", "rule"), BAD_SELECTORS)
def test_bad_selectors_are_refused(selector: str, rule: str) -> None:
    message = refusal(overrides=[{"layers": selector, "ffn": {"intermediate_size": 20}}])
    assert rule in message
    assert "layers=" in message


@pytest.mark.parametrize(
    ("selector", "pairs"),
    [("2:5", ((2, 5),)), ("0:3,4:4", ((0, 3), (4, 4))), ("4:5,0-1", ((0, 0), (1, 1), (4, 5)))],
)
def test_skip_placements(selector: str, pairs: tuple[tuple[int, int], ...]) -> None:
    assert model(memory=[{**ULTRA, "layers": selector}]).memory[0].placement(6) == pairs


@pytest.mark.parametrize(
    ("selector", "rule"),
    [
        *((s, r) for s, r in BAD_SELECTORS if "twice" not in r),
        ("1,1", "a block is listed twice"),
        ("2:5,2", "a block is listed twice"),
        ("2:6", "2:6 is not a placement in num_hidden_layers=6 blocks"),
        ("5:2", "5:2 is not a placement"),
        ("2:", "'' is not a layer number"),
        (":2", "'' is not a layer number"),
        ("1:2:3", "'2:3' is not a layer number"),
    ],
)
def test_bad_placements_are_refused(selector: str, rule: str) -> None:
    assert rule in refusal(memory=[{**ULTRA, "layers": selector}])


def test_an_override_says_only_what_differs() -> None:
    window = {"layers": "0-4/2", "attention": {"sliding_window": 7}}
    wide = {"layers": "1", "ffn": {"intermediate_size": 20}}
    config = model(overrides=[window, wide])
    plain = Attention(**ATTENTION)
    windowed = Attention(**ATTENTION, sliding_window=7)
    assert config.attention_groups == [(windowed, (0, 2, 4)), (plain, (1, 3, 5))]
    assert [config.attention_of(i) for i in (0, 1)] == [windowed, plain]
    dense = [DenseFfn(intermediate_size=size) for size in (16, 20)]
    assert config.ffn_groups == [(dense[0], (0, 2, 3, 4, 5)), (dense[1], (1,))]


@pytest.mark.parametrize("default", [{}, {"kind": "gqa"}])
@pytest.mark.parametrize("change", [{}, {"kind": "gqa"}])
def test_attention_is_gqa_unless_named(default: dict[str, str], change: dict[str, str]) -> None:
    override = {"layers": "0", "attention": {**change, "qk_norm": "head"}}
    config = model(attention={**default, **ATTENTION}, overrides=[override])
    assert config.attention_of(0) == Attention(**ATTENTION, qk_norm="head")


def test_an_override_of_another_kind_stands_alone() -> None:
    moe = model(ffn=MOE, overrides=[{"layers": "0", "ffn": DENSE}])
    assert moe.ffn_groups[0] == (DenseFfn(intermediate_size=16), (0,))
    mixed = model(overrides=[{"layers": "0", "attention": MLA}])
    assert isinstance(mixed.attention_of(0), LatentAttention)
    lacking = refusal(ffn=MOE, overrides=[{"layers": "0", "ffn": {"kind": "dense"}}])
    assert "overrides.0.ffn.dense.intermediate_size: is missing" in lacking


def test_a_replaced_ffn_is_in_no_group() -> None:
    config = model(memory=[{**PRODUCT, "layers": "1,3"}])
    assert config.ffn_groups == [(DenseFfn(intermediate_size=16), (0, 2, 4, 5))]
    kept = model(memory=[{**PRODUCT, "layers": "1,3", "replaces_ffn": False}])
    assert kept.ffn_groups == [(DenseFfn(intermediate_size=16), (0, 1, 2, 3, 4, 5))]
    assert model(memory=[{**PEER, "layers": "all"}]).ffn_groups == []


def test_a_toml_file_equals_the_same_model_in_python(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        """
name = "mine"
source = "a test"
hidden_size = 8
vocab_size = 11
num_hidden_layers = 3
tie_word_embeddings = true
post_norms = true
notes = ["one", "two"]
[attention]
num_attention_heads = 2
num_key_value_heads = 1
head_dim = 4
[ffn]
kind = "moe"
num_experts = 4
num_experts_per_tok = 2
moe_intermediate_size = 6
[[overrides]]
layers = "0"
attention.sliding_window = 5
ffn = { kind = "dense", intermediate_size = 20, activation = "gelu" }
[[memory]]
kind = "ultramem"
layers = "0:1"
knum = 4
share_ratio = 1
knn = 3
key_dim = 8
value_dim = 8
[published]
total_parameters = 1.5e9
""",
        encoding="utf-8",
    )
    config = load_model_toml(path)
    assert config.ffn == MoeFfn(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=6)
    assert config.attention_of(0) == Attention(
        num_attention_heads=2, num_key_value_heads=1, head_dim=4, sliding_window=5
    )
    assert config.ffn_groups[0] == (DenseFfn(intermediate_size=20, activation="gelu"), (0,))
    memory = UltraMem(layers="0:1", knum=4, share_ratio=1.0, knn=3, key_dim=8, value_dim=8)
    assert config == tiny_model(
        name="mine", tie_word_embeddings=True, post_norms=True, notes=("one", "two"),
        ffn=config.ffn, overrides=config.overrides, memory=(memory,),
        published={"total_parameters": 1.5e9},
    )  # fmt: skip
    path.write_text("hidden_size = 8", encoding="utf-8")
    with pytest.raises(InputError, match=r"model 'mine.toml': name: is missing; source: is miss"):
        load_model_toml(path)


def test_all_broken_rules_come_at_once() -> None:
    message = refusal(hidden_size=2, vocab_size="ten", colour="red")
    for part in ("hidden_size=2", "vocab_size='ten'", "colour='red'"):
        assert part in message


def test_bad_parts_do_not_reach_the_model() -> None:
    day = tomllib.loads("day = 2025-01-31")["day"]
    assert "source=datetime.date(2025, 1, 31): is of no JSON type" in refusal(source=day)
    assert "overrides.0=5: Input should be an object" in refusal(overrides=[5])
    assert "overrides=5" in refusal(overrides=5)
    assert "attention=5" in refusal(attention=5)
    assert "overrides.0.ffn=5" in refusal(overrides=[{"layers": "0", "ffn": 5}])
