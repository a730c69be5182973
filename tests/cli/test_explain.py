"""`sparsecost explain`: the JSON's numbers by name, operators by path, and refusals that help."""

import json
from typing import Any

import pytest
import typer

from costmodel.cli.app import app
from costmodel.cli.explain import complete_number
from costmodel.explain.numbers import STEP_NUMBERS
from costmodel.explain.request import REQUEST_BUILDERS
from tests.commands import output, refusal

STEP = ("olmoe-1b-7b", "--batch", "64", "--context", "2048")
REQUEST = ("olmoe-1b-7b", "--batch", "4", "--prompt", "300", "--output", "7")


def document(number: str, *arguments: str) -> dict[str, Any]:
    model, *options = arguments
    found = json.loads(output("explain", model, number, *options, "--json"))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("number", ["hbm_bytes.compulsory", "time.floor_s", "routing.time_s"])
def test_a_number_is_that_of_predict(number: str) -> None:
    predicted = json.loads(output("predict", *STEP, "--json"))
    section, _, name = number.partition(".")
    found = document(number, *STEP)
    assert found["value"] == predicted[section][name]
    assert found["workload"] == predicted["workload"]
    assert found["equations"][0]["result"] == pytest.approx(found["value"], rel=1e-12)


@pytest.mark.parametrize("number", ["ttft.predicted_s", "energy.total_j", "flops.total"])
def test_with_a_prompt_a_number_is_that_of_request(number: str) -> None:
    served = json.loads(output("request", *REQUEST, "--json"))
    section, _, name = number.partition(".")
    found = document(number, *REQUEST)
    assert found["value"] == served[section][name]
    assert found["request"] == {"prompt": 300, "output": 7}


def test_without_a_prompt_a_shared_name_is_that_of_predict() -> None:
    predicted = json.loads(output("predict", *STEP, "--json"))
    assert document("flops.total", *STEP)["value"] == predicted["flops"]["total"]
    assert document("flops.total", *STEP)["request"] is None
    served = json.loads(output("request", "olmoe-1b-7b", "--batch", "64", "--json"))
    only_request = document("tpot.predicted_s", *STEP[:3])
    assert only_request["value"] == served["tpot"]["predicted_s"]


@pytest.mark.parametrize("size", [("--context", "64"), ("--phase", "prefill", "--new-tokens", "9")])
def test_a_size_that_would_change_nothing_is_refused(size: tuple[str, ...]) -> None:
    assert "are of a single step" in refusal("explain", "olmoe-1b-7b", "ttft.floor_s", *size)
    refused = refusal("explain", "olmoe-1b-7b", "time.floor_s", "--prompt", "64")
    assert "--prompt and --output are of requests" in refused


def test_requests_are_named_with_their_formats() -> None:
    text = output("explain", "olmoe-1b-7b", "ttft.floor_s", "--dtype", "fp8")
    of = "1 request of 2,048 prompt and 256 output tokens, fp8 (KV bf16), uniform routing, on"
    assert f"OLMoE-1B-7B: {of} NVIDIA H200" in text


def test_a_predicted_number_names_its_calibration_and_a_backend_without_one_is_named() -> None:
    text = output("explain", STEP[0], "time.predicted_s", *STEP[1:])
    assert "Predicted by calibration h200" in text
    arguments = ("--backend", "fused", "--calibration", "h200", *STEP[1:])
    text = output("explain", STEP[0], "time.predicted_s", *arguments)
    assert "on NVIDIA H200 SXM, backend fused\n" in text
    assert "no calibration holds times of the kernels of the backend fused" in " ".join(
        text.split()
    )
    assert "Predicted by" not in text
    found = document("time.predicted_s", STEP[0], *arguments)
    assert (found["backend"], found["calibration"]["name"]) == ("fused", "h200")
    assert "Predicted by" not in output("explain", STEP[0], "kv_cache.read_bytes", *STEP[1:])


def test_of_a_docstring_a_user_reads_what_is_no_list_of_arguments() -> None:
    text = output("explain", *STEP[:1], "energy.predicted_j", *STEP[1:])
    assert "J/byte = (watts of a loop of copies - idle watts)" in text
    assert "Args:" not in text
    assert "Returns:" not in text
    assert text.count("measures both loops") == 1


def test_a_cost_takes_a_price() -> None:
    assert document("cost.predicted_usd", *REQUEST)["reason"] == "no price given"
    priced = document("cost.predicted_usd", *REQUEST, "--price-per-hour", "3.6")
    latency = document("latency.predicted_s", *REQUEST)["value"]
    assert priced["value"] == pytest.approx(3.6 * latency / 3600)


@pytest.mark.parametrize("path", ["layers.{0-15}.moe.router", "layers.7.moe.router", "moe.router"])
def test_an_operator_is_explained_by_any_of_its_names(path: str) -> None:
    text = output("explain", STEP[0], path, *STEP[1:])
    # by hand: 64 tokens x 64 experts x (2 x 2048 of the product + 4 of the softmax)
    assert "Model FLOPs = 2 N D E + 4 N E\n" in text
    assert "= 2 * 64 * 2048 * 64 + 4 * 64 * 64\n= 16,793,600 (16.79 MFLOP)\n" in text
    assert "\nN          64  new tokens of all sequences, B T\n" in text
    assert "\nSource: arXiv 2409.02060" in text
    order = ("Scores of all experts", "2 N D E", "hidden size", "= 2 * 64", "16,793,600", "Source:")
    places = [text.index(part) for part in order]
    assert places == sorted(places)


def test_the_same_as_markdown() -> None:
    text = output("explain", *STEP[:1], "moe.router", *STEP[1:], "--markdown")
    assert "### Model FLOPs = 2 N D E + 4 N E\n" in text
    assert "| N | 64 | new tokens of all sequences, B T |" in text


def test_the_terms_of_a_total_are_printed_with_their_sum() -> None:
    text = output("explain", STEP[0], "kv_cache.read_bytes", *STEP[1:])
    # 16 layers x 2 x 16 heads x 128 x 2 B x 64 sequences x 2048 tokens
    (sum_line,) = (line for line in text.splitlines() if line.startswith("sum"))
    assert sum_line.split() == ["sum", "17,179,869,184"]


def test_an_unknown_number_says_why() -> None:
    text = output("explain", STEP[0], "time.predicted_s", *STEP[1:], "--calibration", "none")
    assert "n/a: " in text
    assert "= n/a" not in text


@pytest.mark.parametrize(
    ("number", "near"),
    [
        ("hbm_bytes.compulsary", "hbm_bytes.compulsory"),
        ("kv_stored_bytes", "kv_cache.stored_bytes"),
        ("ttft_s", "ttft.predicted_s"),
        ("layers.3.moe.routr", "moe.router"),
        ("moe.expert", "moe.experts"),
    ],
)
def test_a_wrong_number_is_answered_with_those_near_it(number: str, near: str) -> None:
    line = refusal("explain", "olmoe-1b-7b", number)
    assert line.startswith(f"number='{number}': ")
    assert near in line.partition("near it: ")[2].split(", ")


@pytest.mark.parametrize(
    "number", ["", "x" * 5000, "\x1b[31m", "layers.99.moe.router", "../../etc"]
)
def test_nonsense_is_refused_in_one_line(number: str) -> None:
    assert refusal("explain", "olmoe-1b-7b", number).startswith("number=")


def test_a_leaf_of_several_operators_is_answered_with_their_paths() -> None:
    line = refusal("explain", "olmoe-1b-7b", "attention_norm")
    assert "layers.0.attention_norm, layers.{1-15}.attention_norm" in line


@pytest.mark.parametrize(
    ("option", "value"), [("--prompt", "0"), ("--output", "x"), ("--price-per-hour", "-1")]
)
def test_sizes_of_a_request_keep_its_rules(option: str, value: str) -> None:
    field = option.removeprefix("--").replace("-", "_")
    assert refusal("explain", *REQUEST[:1], "ttft.floor_s", option, value).startswith(f"{field}=")


def test_numbers_and_leaves_are_completed() -> None:
    context = typer.Context(typer.main.get_command(app))
    assert set(complete_number(context, "")) >= {*STEP_NUMBERS, *REQUEST_BUILDERS}
    context.params = {"model": "olmoe-1b-7b"}
    assert complete_number(context, "moe.") == ["moe.router", "moe.experts"]
    context.params = {"model": "no-such-model"}
    assert complete_number(context, "ttft.f") == ["ttft.floor_s"]
