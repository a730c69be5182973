"""Storage formats on the command line: every command takes them and says whose they are."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from costmodel.inputs.model_toml import model_toml
from costmodel.layers.formats import Storage, parse_formats
from tests.commands import output, refusal
from tests.steps import tiny_model
from tests.strategies import PRESETS

SHIPPED = "checkpoint experts=mxfp4 (KV bf16)"
STEP = ("gpt-oss-20b", "--context", "512")


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A model file that states how it is stored."""
    path = tmp_path / "own.toml"
    text = model_toml(tiny_model())
    weights = 'weights = { default = "fp8:128x128", groups = { embedding = "bf16" } }'
    stated = f'[storage]\norigin = "my own file"\nkv_dtype = "fp8:tensor"\n{weights}\n'
    path.write_text(f"{text}\n{stated}", encoding="utf-8")
    return str(path)


def first_line(*arguments: str) -> str:
    return output(*arguments).splitlines()[0]


@pytest.mark.parametrize(
    "command",
    [
        ("predict", *STEP),
        ("compare", "gpt-oss-20b", "gpt-oss-120b", "--batch", "1"),
        ("sweep", "gpt-oss-20b", "gpt-oss-120b", "--batch", "1,2"),
        ("request", "gpt-oss-20b", "--prompt", "20", "--output", "3"),
    ],
    ids=lambda command: command[0],
)
def test_the_first_line_says_that_the_checkpoint_is_costed(command: tuple[str, ...]) -> None:
    assert SHIPPED in first_line(*command, "--dtype", "checkpoint")
    assert "bf16 (KV bf16)" in first_line(*command)  # presets, unless told otherwise
    assert "experts=fp8" in first_line(*command, "--dtype", "experts=fp8")


def test_an_explanation_is_of_the_checkpoint_too() -> None:
    options = ("memory.weights_bytes", *STEP[1:], "--dtype", "checkpoint")
    found = json.loads(output("explain", "gpt-oss-20b", *options, "--json"))
    assert found["value"] == 13_761_264_768
    assert SHIPPED in output("explain", "gpt-oss-20b", *options)
    bound = output("explain", "gpt-oss-20b", "time.floor_s", *options[1:], "--kv-dtype", "fp8")
    assert "fp8 at that of fp8" in bound


def test_a_match_costs_both_models_in_the_formats_asked_for() -> None:
    pair = ("olmoe-227m-1.2b", "--to", "ultramemv2-227m-1.2b")
    found = json.loads(
        output("match", *pair, "--dtype", "fp8", "--kv-dtype", "fp8:tensor", "--json")
    )
    assert (found["dtype"], found["kv_dtype"]) == ("fp8", "fp8:tensor")
    assert found["transferred_from"] == "h200"
    assert found["reasons"] == {}
    table = output("match", *pair, "--dtype", "fp8")
    assert "transferred from h200: not measured in these formats" in table
    assert "Predicted by calibration" not in table
    assert "decode, context 2,048, fp8 (KV bf16), uniform routing" in table
    assert "dtype='checkpoint'" in refusal("match", *pair, "--dtype", "checkpoint")


def test_the_json_has_the_format_of_each_group() -> None:
    found = json.loads(output("predict", *STEP, "--dtype", "checkpoint", "--json"))
    assert found["model"]["formats"] == {
        **dict.fromkeys(("embedding", "attention", "router", "lm_head"), "bf16"),
        "experts": "mxfp4",
    }
    assert found["workload"]["dtype"] == "checkpoint"
    assert "quantization_config mxfp4" in found["workload"]["dtype_stored_as"]
    assert found["hardware"]["peak_used"] == "bf16"
    assert found["time"]["transferred_from"] == "h200"
    assert found["time"]["not_measured"] == "in these formats"
    assert "in bf16 alone" in found["reasons"]["energy.predicted_j"]


def test_a_users_file_is_costed_as_it_is_stored_unless_told_otherwise(own: str) -> None:
    title = first_line("predict", own)
    assert "checkpoint fp8:128x128,embedding=bf16 (KV fp8:tensor)" in title
    assert "Stored as my own file" in output("predict", own)
    assert "bf16 (KV bf16)" in first_line("predict", own, "--dtype", "bf16")
    found = json.loads(output("predict", own, "--json"))
    assert found["workload"]["kv_dtype"] == "fp8:tensor"
    assert found["model"]["formats"]["ffn"] == "fp8:128x128"
    assert found["hardware"]["peak_used"] == "fp8"
    assert found["hardware"]["other_peaks_used"] == ["bf16"]


def test_models_of_different_formats_stand_side_by_side(own: str, tmp_path: Path) -> None:
    both = ("olmoe-1b-7b", own)
    title = first_line("compare", *both, "--batch", "1")
    assert "bf16 (KV bf16) and checkpoint fp8:128x128" in title
    found: dict[str, Any] = json.loads(output("compare", *both, "--batch", "1", "--json"))
    assert found["workload"]["dtype"] == "bf16 and checkpoint"
    assert [model["formats"]["lm_head"] for model in found["models"]] == ["bf16", "fp8:128x128"]
    assert [row["transferred_from"] for row in found["rows"]] == [None, "h200"]
    assert "measured on this GPU" in found["reasons"]["rows.transferred_from"]
    assert {line["metric"] for line in found["advantages"]} == {
        "hbm_bytes.compulsory",
        "time.floor_s",
        "time.predicted_s",
    }
    path = tmp_path / "sweep.csv"
    output("sweep", *both, "--batch", "1,2", "--out", str(path))
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["dtype"] for row in rows] == ["bf16", "bf16", "checkpoint", "checkpoint"]
    assert [bool(row["time.predicted_s"]) for row in rows] == [True] * 4
    assert [row["time.transferred_from"] for row in rows] == ["", "", "h200", "h200"]
    assert all(row["memory.fits"] == "True" for row in rows)


def test_a_preset_that_does_not_fit_names_its_shipped_formats() -> None:
    does_not = output("predict", *STEP, "--hardware", "rtx-4090")
    assert "does NOT fit" in does_not
    assert "experts=mxfp4 (--dtype checkpoint)" in does_not
    fits = output("predict", *STEP, "--hardware", "rtx-4090", "--dtype", "checkpoint")
    assert "NOT fit" not in fits
    served = output("request", "gpt-oss-20b", "--hardware", "rtx-4090")
    assert "--dtype checkpoint" in served
    compared = output("compare", "gpt-oss-20b", "olmoe-1b-7b", "--hardware", "rtx-4090")
    assert "gpt-oss-20b: The release is stored in other formats" in compared


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("olmoe-1b-7b --dtype checkpoint", "dtype='checkpoint': needs a model that states"),
        ("gpt-oss-20b --dtype experts=fp9", "dtype='fp9': is one of"),
        ("gpt-oss-20b --dtype expert=fp8", "dtype='expert=fp8'"),
        ("gpt-oss-20b --dtype=", "dtype='': is one of"),
        ("gpt-oss-20b --kv-dtype fp8:128x128", "kv_dtype='fp8:128x128': blocks of rows"),
        ("gpt-oss-20b --kv-dtype checkpoint", "kv_dtype='checkpoint': is one of"),
        ("gpt-oss-20b --dtype fp32 --fp32-math tf32 --hardware mi300x", "tf32"),
    ],
)
def test_what_cannot_be_costed_is_refused(options: str, message: str) -> None:
    assert message in refusal("predict", *options.split())


def test_storages_of_presets_are_as_a_user_would_write_them() -> None:
    for name in ("gpt-oss-20b", "deepseek-v3"):
        storage = PRESETS[name].storage
        assert isinstance(storage, Storage)
        assert parse_formats(storage.weights.label, field="dtype") == storage.weights
