"""A model as TOML: it reads back as the same model, and is short to read."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given

from costmodel.inputs.catalog import load_model
from costmodel.inputs.model import ModelConfig, Override, model_from_table
from costmodel.inputs.model_toml import model_table, model_toml, write_model
from costmodel.inputs.output_file import OutputFile
from costmodel.layers.attention import Attention
from costmodel.questions.matching.backbone import on_backbone
from tests.strategies import PRESETS, models


def read(text: str) -> ModelConfig:
    return model_from_table(tomllib.loads(text), where="test")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_reads_back_from_its_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.toml"
    write_model(PRESETS[name], OutputFile(path=path))
    assert load_model(str(path)) == PRESETS[name]
    assert [file.name for file in tmp_path.iterdir()] == ["model.toml"]


@given(model=models())
def test_any_model_reads_back(model: ModelConfig) -> None:
    assert model_from_table(model_table(model), where="test") == model  # as JSON has it: with None
    assert read(model_toml(model)) == model


def test_text_of_any_kind_reads_back() -> None:
    notes = (
        '"quoted" \\ and \\u0041',
        "tab\tline\nnul\0del\x7f",
        "caf\u00e9 \U0001f600",
        "[[memory]]",
    )
    model = replace(PRESETS["olmoe-1b-7b"], notes=notes, published={"a key.": 1e300})
    assert read(model_toml(model)) == model


def test_defaults_and_what_an_override_inherits_are_left_out() -> None:
    """gpt-oss-20b: every other layer differs by a window alone."""
    table = tomllib.loads(model_toml(PRESETS["gpt-oss-20b"]))
    assert table["overrides"] == [{"layers": "0-22/2", "attention": {"sliding_window": 128}}]
    assert "post_norms" not in table
    assert "gated" not in table["ffn"]


def test_windows_of_most_layers_can_be_written() -> None:
    """The default layer of a config.json may have a window that other layers lack."""
    wide = Attention(num_attention_heads=4, num_key_value_heads=4, head_dim=64)
    backbone = replace(
        PRESETS["olmoe-1b-7b"],
        attention=replace(wide, sliding_window=64),
        overrides=(Override(layers="1-15/2", attention=wide),),
    )
    (override,) = tomllib.loads(model_toml(backbone))["overrides"]
    assert override == {"layers": "1-15/2", "attention": {"sliding_window": "none"}}
    assert read(model_toml(backbone)) == backbone
    model = on_backbone(PRESETS["olmoe-1b-7b"], backbone)
    assert model.attention_groups == backbone.attention_groups
    assert read(model_toml(model)) == model
