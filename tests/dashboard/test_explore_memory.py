"""Explore: how many sequences fit, which batch meets a target, and what of the memory counts."""

import json
from functools import partial

import pytest
from streamlit.testing.v1 import AppTest

from costmodel import units
from costmodel.costs.predict import predict
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from dashboard.app.widgets import plain
from dashboard.pages.explore.memory import TOO_FULL, how_many_fit
from tests.commands import output
from tests.dashboard.pages import chosen, opened

pytestmark = pytest.mark.slow  # draws pages

page = partial(opened, "explore", model="olmoe-1b-7b")


def answer(at: AppTest) -> str:
    """What stands behind the question of how many sequences fit."""
    question = "How many sequences fit? "
    (text,) = [each.value for each in at.markdown if each.value.startswith(question)]
    return str(text.removeprefix(question))


def test_how_many_fit_is_told_in_words_as_predict_counts_it() -> None:
    said = json.loads(output("predict", "olmoe-1b-7b", "--batch", "64", "--json"))["memory"]
    told = answer(page(batch="64"))
    assert told.startswith(f"{said['max_batch']:,} sequences of 2,048 tokens fit on one GPU")
    room = said["capacity_bytes"] - said["weights_bytes"] - said["buffers_bytes"]
    assert units.capacity(room) in told
    assert f"{room // (16 * 16 * 128 * 2 * 2):,} tokens" in told  # K and V of 16 layers, bf16
    assert told.endswith("; 64 are asked for.")


def test_a_model_that_no_gpu_holds_says_what_its_weights_take() -> None:
    told = how_many_fit(chosen(model="deepseek-v3").predict())
    stored = predict(load_model("deepseek-v3"), Workload(), load_hardware("h200")).memory
    assert told.startswith("No sequence of 2,048 tokens fits on one GPU: weights and buffers")
    assert units.capacity(stored.weights_bytes) in told


def test_a_share_of_the_memory_and_a_reserve_are_set_and_travel_with_the_link() -> None:
    typed = ("--memory-fraction", "0.8", "--memory-reserve", "10GiB")
    said = json.loads(output("predict", "olmoe-1b-7b", "--batch", "64", *typed, "--json"))
    at = page(batch="64", mem_share="0.8", mem_reserve="10")
    assert answer(at).startswith(f"{said['memory']['max_batch']:,} sequences ")
    assert "0.8 of its memory less 10.00 GiB" in at.text[0].value
    report = opened("report", model="olmoe-1b-7b", mem_share="0.8", mem_reserve="10")
    assert " ".join(typed) in " ".join(each.value for each in report.code).replace(" \\\n ", "")


def test_the_bar_of_a_step_that_does_not_fit_is_another_one() -> None:
    fits, full = page(batch="64"), page(batch="900")
    assert TOO_FULL not in str(fits.main)
    assert any("background-color: #D55E00" in each.proto.body for each in full.get("html"))
    assert not any("background-color: #D55E00" in each.proto.body for each in fits.get("html"))
    assert "Does NOT fit" in full.get("progress")[0].proto.text


def test_the_batch_that_meets_a_target_is_that_of_the_command() -> None:
    said = json.loads(output("request", "olmoe-1b-7b", "--target-tpot", "10", "--json"))
    target = said["target"]
    assert target["batch"] == said["request"]["batch"]
    assert said["tpot"]["predicted_s"] <= 0.01
    at = page(ex_tpot="10")
    assert plain(target["answer"]) in [each.value for each in at.info]
    assert not [each for each in page().info if "at once" in each.value]
    several = page(ex_tpot="10", gpus="2")
    assert any("one GPU only" in each.value for each in several.info)
