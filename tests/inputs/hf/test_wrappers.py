"""Multimodal files: the text model alone, a note on what is left out, nothing ambiguous."""

import json
from pathlib import Path
from typing import Any

import pytest

from costmodel.errors import InputError
from costmodel.inputs.hf.config import load_hf_config
from costmodel.inputs.model import ModelConfig

TEXT = {
    "model_type": "mistral",
    "hidden_size": 640,
    "intermediate_size": 1600,
    "num_hidden_layers": 7,
    "num_attention_heads": 10,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "vocab_size": 9000,
}
WRAPPER = {"model_type": "mistral3", "text_config": TEXT, "vision_config": {"hidden_size": 64}}


def read(folder: Path, **keys: object) -> ModelConfig:
    path = folder / "config.json"
    path.write_text(json.dumps({**WRAPPER, **keys}))
    return load_hf_config(path)


def test_the_text_model_alone_is_read(tmp_path: Path) -> None:
    model = read(
        tmp_path,
        architectures=["Mistral3ForConditionalGeneration"],
        image_token_index=10,
        multimodal_projector_bias=False,
        projector_hidden_act="gelu",
        spatial_merge_size=2,
        vision_feature_layer=-1,
        torch_dtype="bfloat16",
        hidden_size=640,
    )
    assert (model.hidden_size, model.num_hidden_layers, model.vocab_size) == (640, 7, 9000)
    assert model.source == "config.json (model_type mistral3)"
    assert any("towers" in note and "left out" in note for note in model.notes)


@pytest.mark.parametrize("key", ["llm_config", "language_config"])
def test_other_names_of_the_text_model(tmp_path: Path, key: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "internvl_chat", key: TEXT}))
    assert load_hf_config(path).hidden_size == 640


def test_text_models_that_are_another_familys(tmp_path: Path) -> None:
    vl = {**TEXT, "model_type": "qwen3_vl_text", "rope_scaling": {"mrope_section": [24, 20, 20]}}
    plain = {**TEXT, "model_type": "qwen3"}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(plain))
    qwen3 = load_hf_config(path)
    wrapped = read(tmp_path, model_type="qwen3_vl", text_config=vl)
    assert (wrapped.attention, wrapped.ffn) == (qwen3.attention, qwen3.ffn)


def test_tied_embeddings_may_stand_in_either_place(tmp_path: Path) -> None:
    assert not read(tmp_path).tie_word_embeddings
    assert read(tmp_path, tie_word_embeddings=True).tie_word_embeddings
    assert read(tmp_path, text_config={**TEXT, "tie_word_embeddings": True}).tie_word_embeddings


def test_a_quantisation_may_stand_in_either_place(tmp_path: Path) -> None:
    config = {
        "quant_method": "fp8",
        "modules_to_not_convert": ["model.language_model.layers.0.mlp"],
    }
    for keys in (
        {"quantization_config": config},
        {"text_config": {**TEXT, "quantization_config": config}},
        {"quantization_config": config, "text_config": {**TEXT, "quantization_config": config}},
    ):
        storage = read(tmp_path, **keys).storage
        assert storage is not None
        layers = {leaf.leaf: leaf.layers for leaf in storage.weights.leaves}
        assert layers["ffn.down"] == (1, 2, 3, 4, 5, 6)
        assert dict(storage.weights.groups)["attention"].name == "fp8"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"llm_config": TEXT}, "text_config and llm_config: it is not clear which of them"),
        ({"hidden_size": 512}, "hidden_size=512: differs from that of text_config"),
        ({"num_experts": 8}, "num_experts=8: is not modelled"),
        (
            {"text_config": {**TEXT, "tie_word_embeddings": True}, "tie_word_embeddings": False},
            "tie_word_embeddings=False: differs from that of text_config",
        ),
        (
            {"text_config": {**TEXT, "model_type": "mamba"}},
            "'mistral3': is not one of .* [(]text_config.model_type='mamba' is not, either[)]",
        ),
    ],
)
def test_what_is_ambiguous_is_refused(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, **keys)
