"""The word "none" clears an optional field of a layer, and no other field."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from costmodel.costs.predict import predict
from costmodel.errors import InputError
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.model import ModelConfig, load_model_toml, model_from_table
from costmodel.inputs.workload import Workload
from costmodel.layers.attention import Attention
from costmodel.layers.mla import LatentAttention

WINDOWED = """
name = "windowed"
source = "a test"
hidden_size = 4096
vocab_size = 32000
num_hidden_layers = 32

[attention]
num_attention_heads = 32
num_key_value_heads = 32
head_dim = 128
sliding_window = 4096
rotary_dim = 64
qk_norm = "head"

[ffn]
kind = "dense"
intermediate_size = 11008

[[overrides]]
layers = "3-31/4"
attention = { sliding_window = "none" }
"""


def read(text: str) -> ModelConfig:
    return model_from_table(tomllib.loads(text), where="test")


def test_layers_without_the_default_window(tmp_path: Path) -> None:
    """24 layers keep 4,096 of 6,144 tokens, eight keep all, 2 x 32 x 128 x 2 bytes a token."""
    path = tmp_path / "windowed.toml"
    path.write_text(WINDOWED)
    model = load_model_toml(path)
    costs = predict(model, Workload(context=6143), load_hardware("h200")).costs
    assert costs.kv_cache.stored_bytes == (24 * 4096 + 8 * 6144) * 16384 == 2_415_919_104


def test_other_fields_are_inherited() -> None:
    kinds = [kind for kind, _ in read(WINDOWED).attention_groups]
    assert [(kind.sliding_window, kind.rotary_dim) for kind in kinds] == [(4096, 64), (None, 64)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("field", ["sliding_window", "rotary_dim"])
def test_the_default_layer_may_say_it_too(field: str) -> None:
    (whole,) = (line for line in WINDOWED.splitlines() if line.startswith(field))
    text = WINDOWED.partition("[[overrides]]")[0].replace(whole, f'{field} = "none"')
    attention = read(text).attention
    assert isinstance(attention, Attention)
    assert getattr(attention, field) is None
    assert attention.qk_norm == "head"


def test_queries_that_are_not_compressed() -> None:
    latent: dict[str, Any] = {
        "kind": "mla", "num_attention_heads": 4, "kv_lora_rank": 16, "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8, "v_head_dim": 8, "q_lora_rank": 32,
    }  # fmt: skip
    table = tomllib.loads(WINDOWED) | {
        "attention": latent,
        "overrides": [{"layers": "0", "attention": {"q_lora_rank": "none"}}],
    }
    model = model_from_table(table, where="test")
    ranks = [
        kind.q_lora_rank for kind, _ in model.attention_groups if isinstance(kind, LatentAttention)
    ]
    assert ranks == [None, 32]


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("head_dim = 128", 'head_dim = "none"', "attention.gqa.head_dim='none'"),
        ('sliding_window = "none"', 'num_attention_heads = "none"', "num_attention_heads='none'"),
        ('kind = "dense"', 'kind = "none"', "'none'"),
        ('sliding_window = "none"', 'sliding_window = "None"', "sliding_window='None'"),
    ],
)
def test_fields_that_need_a_value_refuse_it(old: str, new: str, field: str) -> None:
    with pytest.raises(InputError) as caught:
        read(WINDOWED.replace(old, new))
    assert field in str(caught.value)


def test_a_word_that_some_field_takes_keeps_its_meaning() -> None:
    """No norm of queries and keys is spelt "none" as well; the field is not optional."""
    text = WINDOWED.replace('sliding_window = "none"', 'qk_norm = "none"')
    norms = [kind.qk_norm for kind, _ in read(text).attention_groups]  # type: ignore[attr-defined]
    assert norms == ["head", "none"]
