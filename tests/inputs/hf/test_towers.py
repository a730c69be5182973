"""Towers of multimodal files: counted as transformers builds them, resident, never read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from costmodel.costs.predict import predict
from costmodel.costs.step import step_costs
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.hf.config import load_hf_config
from costmodel.inputs.model import ModelConfig, model_from_table
from costmodel.inputs.model_toml import model_table
from costmodel.inputs.workload import Workload
from costmodel.questions.capacity import max_context
from costmodel.questions.designs.evaluate import evaluate
from costmodel.questions.matching.backbone import on_backbone
from costmodel.questions.sweep import sweep
from costmodel.show.prediction_json import prediction_json
from costmodel.show.tables.presets import model_table as shown_model
from tests.strategies import PRESETS

DATA = Path(__file__).parents[2] / "data"
H200 = load_hardware("h200")

# By transformers 5.24.0 (torch 2.13.0) on the meta device: parameters of
# `AutoModelForImageTextToText`, which `python -m tests.inputs.hf.count_in_transformers` asks again.
WHOLE = {
    "hf/gemma-3-4b": 4_300_079_472,
    "hf/gemma-3-27b": 27_432_406_640,
    "hf_towers/llava-1.5-13b": 13_351_494_656,
    "hf_towers/mistral-small-3.1-24b": 24_011_361_280,
    "hf_towers/qwen2.5-vl-7b": 8_292_166_656,
    "hf_towers/qwen3-vl-8b": 8_767_123_696,
    "hf_towers/qwen3-vl-30b-a3b": 31_070_754_032,
}
TEXT = {
    "model_type": "mistral",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 100,
    "tie_word_embeddings": False,
}
VISION = {
    "model_type": "pixtral",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 50,
    "patch_size": 8,
}
MISTRAL3 = {
    "model_type": "mistral3",
    "tie_word_embeddings": False,
    "text_config": TEXT,
    "vision_config": VISION,
    "spatial_merge_size": 3,
}
LLAVA = {**MISTRAL3, "model_type": "llava"}
del LLAVA["spatial_merge_size"]
SIGLIP = {**VISION, "model_type": "siglip_vision_model", "vision_use_head": False}
SMALL: dict[str, tuple[dict[str, Any], int]] = {  # what published files rarely hold
    "llava with pixtral": (LLAVA, 82_464),
    "llava with siglip": ({**LLAVA, "vision_config": SIGLIP}, 79_888),
    "llava with siglip of one channel": (
        {**LLAVA, "vision_config": {**SIGLIP, "num_channels": 1}},
        75_792,
    ),
    "patches of two layers": ({**LLAVA, "vision_feature_layer": [-1, -2]}, 84_512),
    "a projector without biases": ({**LLAVA, "multimodal_projector_bias": False}, 82_336),
    "mistral3": (MISTRAL3, 91_584),
    "mistral3 with biases": ({**MISTRAL3, "multimodal_projector_bias": True}, 91_712),
}


def read(folder: Path, table: object) -> ModelConfig:
    path = folder / "config.json"
    path.write_text(json.dumps(table))
    return load_hf_config(path)


def whole(model: ModelConfig) -> int:
    text = step_costs(model, Workload().step()).parameters.total
    return text + sum(tower.parameters for tower in model.towers)


@pytest.mark.parametrize("name", WHOLE)
def test_a_published_model_is_whole(name: str) -> None:
    model = load_hf_config(DATA / f"{name}.json")
    assert whole(model) == WHOLE[name]
    assert len(model.towers) == 2
    (note,) = model.notes
    assert all(f"{tower.name} ({tower.parameters:,} parameters)" in note for tower in model.towers)
    assert "no step reads them" in note


@pytest.mark.parametrize("name", SMALL)
def test_a_small_model_is_whole(name: str, tmp_path: Path) -> None:
    table, counted = SMALL[name]
    assert whole(read(tmp_path, table)) == counted


def test_every_file_is_counted() -> None:
    files = {f"hf_towers/{path.stem}" for path in (DATA / "hf_towers").glob("*.json")}
    assert files == {name for name in WHOLE if name.startswith("hf_towers/")}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"vision_config": {"hidden_size": 64}}, "vision_config.model_type: is missing"),
        ({"vision_config": None}, "vision_config=None: Input should be a valid dictionary"),
        ({"vision_config": {**VISION, "model_type": "vit"}}, "model_type='vit': is not one of"),
        ({"vision_config": {**VISION, "patch_size": [8, 8]}}, r"patch_size=[8, 8]: "),
        ({"vision_config": {**VISION, "hidden_size": True}}, "hidden_size=True: "),
        ({"vision_config": {**VISION, "num_experts": 4}}, "num_experts=4: is not modelled"),
        ({"vision_config": {**VISION, "rungs": 3}}, "field 'vision_config.rungs'=3: is not"),
        ({"vision_config": {**SIGLIP, "vision_use_head": True}}, "vision_use_head=True: a tower"),
        ({"spatial_merge_size": None}, "spatial_merge_size=None: "),
        ({"vision_feature_layer": []}, "vision_feature_layer"),
        ({"model_type": "internvl"}, "those of model_type 'internvl' are not counted"),
    ],
)
def test_what_cannot_be_counted_is_left_out_by_name(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    model = read(tmp_path, {**MISTRAL3, **change})
    assert model.towers == ()
    (note,) = model.notes
    assert "towers (vision, audio) and their projectors are left out: " in note
    assert reason in note


def test_a_merger_that_leads_elsewhere_is_left_out(tmp_path: Path) -> None:
    table = json.loads((DATA / "hf_towers" / "qwen3-vl-8b.json").read_text())
    table["vision_config"]["out_hidden_size"] = 3584
    (note,) = read(tmp_path, table).notes
    assert "out_hidden_size=3584: differs from 4096 of the text" in note


def test_the_format_is_the_files(tmp_path: Path) -> None:
    formats = {None: 2, "bfloat16": 2, "float16": 2, "torch.float32": 4}
    tower = 3 * (2 * 32 + 4 * 32**2 + 3 * 32 * 48) + 3 * 8 * 8 * 32 + 32
    for stated, size in formats.items():
        model = read(tmp_path, {**LLAVA, "dtype": stated})
        tower_read, projector = model.towers
        assert (tower_read.parameters, tower_read.stored_bytes) == (tower, size * tower)
        assert projector.stored_bytes == size * (32 * 64 + 64 + 64 * 64 + 64)


def test_a_quantisation_is_of_the_text_model(tmp_path: Path) -> None:
    stated = {"quantization_config": {"quant_method": "fp8"}}
    plain, quantised = read(tmp_path, MISTRAL3), read(tmp_path, {**MISTRAL3, **stated})
    assert quantised.towers == plain.towers
    assert "left out of the file's quantisation" in quantised.notes[0]
    assert "audio_config is left out" in read(tmp_path, {**MISTRAL3, "audio_config": {}}).notes[0]


GEMMA = load_hf_config(DATA / "hf" / "gemma-3-4b.json")
TOWERS_BYTES = 2 * (416_866_032 + 2_950_272)


def test_towers_are_resident_and_nothing_else() -> None:
    workload = Workload(batch=4, context=1000)
    found, text = (
        prediction_json(predict(model, workload, H200))
        for model in (GEMMA, replace(GEMMA, towers=()))
    )
    assert found["memory"]["towers_bytes"] == TOWERS_BYTES
    assert [tower["stored_bytes"] for tower in found["model"]["towers"]] == [
        2 * 416_866_032,
        2 * 2_950_272,
    ]
    assert text["memory"]["towers_bytes"] == 0
    room = text["memory"].pop("total_bytes") + TOWERS_BYTES
    assert found["memory"].pop("total_bytes") == room
    fewer = text["memory"].pop("max_batch") - found["memory"].pop("max_batch")
    assert fewer > 0
    left = text["memory"].pop("kv_room_bytes") - TOWERS_BYTES
    assert found["memory"].pop("kv_room_bytes") == left
    assert found["memory"].pop("kv_room_tokens") < text["memory"].pop("kv_room_tokens")
    del found["memory"]["towers_bytes"], text["memory"]["towers_bytes"]
    del found["model"], text["model"]
    assert found == text


def test_towers_decide_what_fits() -> None:
    workload = Workload(batch=4, context=1000)
    prediction = predict(GEMMA, workload, H200)
    exactly = replace(H200, capacity_bytes=int(prediction.memory.total_bytes))
    short = replace(H200, capacity_bytes=int(prediction.memory.total_bytes) - 1)
    assert predict(GEMMA, workload, exactly).memory.max_batch == 4
    assert max_context(predict(GEMMA, workload, exactly)) == 1000
    assert not predict(GEMMA, workload, short).memory.fits
    assert predict(replace(GEMMA, towers=()), workload, short).memory.fits


def test_grids_and_designs_hold_towers() -> None:
    workload = Workload(batch=4, context=1000)
    memory = predict(GEMMA, workload, H200).memory
    grid = sweep(
        GEMMA, workload, batches=[4], contexts=[1000], routings=[workload.routing], hardwares=[H200]
    ).table()
    assert grid["memory.towers_bytes"].flat[0] == TOWERS_BYTES
    assert grid["memory.total_bytes"].flat[0] == memory.total_bytes
    assert grid["memory.max_batch"].flat[0] == memory.max_batch
    reason = predict(GEMMA, workload, H200).calibration
    designs = evaluate([GEMMA], workload, H200, reason, batches=[4], contexts=[1000])
    assert designs.columns["memory.total_bytes"].flat[0] == memory.total_bytes


def test_towers_stay_with_their_backbone_and_in_a_file() -> None:
    assert on_backbone(PRESETS["olmoe-1b-7b"], GEMMA).towers == GEMMA.towers
    assert on_backbone(GEMMA, PRESETS["olmoe-1b-7b"]).towers == ()
    table = model_table(GEMMA)
    assert table["towers"] == [
        {"name": "vision tower", "parameters": 416_866_032},
        {"name": "projector", "parameters": 2_950_272},
    ]
    assert model_from_table(table, where="test") == GEMMA
    assert ("vision tower, beside the text model", "416,866,032") in shown_model(GEMMA).rows


@pytest.mark.parametrize(
    ("tower", "message"),
    [
        ({"name": "", "parameters": 1}, "towers.0.name"),
        ({"name": "a", "parameters": 0}, "towers.0.parameters"),
        ({"name": "a", "parameters": 1, "dtype": "fp8"}, "towers.0.dtype"),
    ],
)
def test_a_tower_of_a_file_keeps_rules(tower: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_from_table({**model_table(GEMMA), "towers": [tower]}, where="test")
