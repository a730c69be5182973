"""`sparsecost request`: JSON, tables, CSV, and what it refuses."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.questions.request import Request, serve
from costmodel.show.request_json import request_json
from tests.commands import output, refusal
from tests.costs.calibrations import curves, write
from tests.sentences import says
from tests.show.test_contract import nulls

MODEL = "ultramemv2-227m-1.2b"
SIZES = ("--prompt", "300", "--output", "20", "--batch", "4")
SECTIONS = {
    "request", "ttft", "tpot", "latency", "throughput", "decode", "hbm_bytes", "flops", "energy",
    "cost", "memory",
}  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> str:
    return write(tmp_path / "mine.json")


def document(*options: str) -> dict[str, Any]:
    answer = json.loads(output("request", MODEL, *SIZES, *options, "--json"))
    assert isinstance(answer, dict)
    return answer


@pytest.mark.parametrize("price", [[], ["--price-per-hour", "2.5"]], ids=["free", "priced"])
@pytest.mark.parametrize("length", ["1", "20", "5000"])
@pytest.mark.parametrize("how", ["file", "none", "fp8"])
def test_every_null_has_its_reason_and_every_reason_a_null(
    how: str, length: str, price: list[str], path: str
) -> None:
    options = ["--calibration", "none" if how == "none" else path, "--output", length, *price]
    answer = document(*options, *(["--dtype", "fp8"] if how == "fp8" else []))
    assert answer["schema_version"] == 1
    assert set(answer) > SECTIONS
    assert set(nulls(answer)) == set(answer["reasons"])
    assert all(reason.strip() for reason in answer["reasons"].values())
    assert ("ttft.predicted_s" in answer["reasons"]) == (how == "none")
    assert ("energy.total_j" in answer["reasons"]) == (how != "file")
    assert ("time" in answer) == (how == "fp8")
    assert ("tpot.floor_s" in answer["reasons"]) == (length == "1")
    assert ("cost.floor_usd" in answer["reasons"]) == (not price)
    assert "queueing" in answer["left_out"]
    assert "chunked prefill" in answer["left_out"]


@pytest.mark.parametrize(
    ("model", "option", "kept"),
    [
        ("deepseek-v2-lite", "--mla-cache=expanded", 27 * 16 * (192 + 128) * 2 * 302),
        # 24 layers of 8 heads of 64, 12 of them with a window of 128
        ("gpt-oss-20b", "--window-cache=whole", 24 * 2 * 8 * 64 * 2 * 302),
    ],
)
def test_requests_take_the_conventions_of_caches(model: str, option: str, kept: int) -> None:
    options = (model, "--prompt", "300", "--output", "3", option)
    answer = json.loads(output("request", *options, "--json"))
    assert answer["memory"]["kv_end_bytes"] == kept  # the last token is not cached
    name, _, value = option.removeprefix("--").partition("=")
    for phase in ("prefill", "last_decode"):
        assert answer["workload"][phase][name.replace("-", "_")] == value
    assert "Predicted only" in output("request", *options)
    assert "Predicted only" not in output("request", *options[:-1])
    assert "Predicted only" not in output("request", "olmoe-1b-7b", *options[1:])


def test_the_json_adds_up_and_is_that_of_the_function(path: str) -> None:
    answer = document("--calibration", path, "--price-per-hour", "3")
    asked = Request(prompt=300, output=20, batch=4, price_per_hour=3.0)
    served = serve(load_model(MODEL), asked, Workload(), load_hardware("h200"), curves())
    assert answer == request_json(served)
    for kind in ("floor", "predicted"):
        ttft_s, tpot_s, latency_s = (
            answer[part][f"{kind}_s"] for part in ("ttft", "tpot", "latency")
        )
        assert latency_s == pytest.approx(ttft_s + 19 * tpot_s, rel=1e-12)
        speed = answer["throughput"]
        assert speed[f"{kind}_tokens_per_s"] == pytest.approx(4 * 20 / latency_s, rel=1e-12)
        assert speed[f"{kind}_tokens_per_s_per_user"] == pytest.approx(20 / latency_s, rel=1e-12)
        usd = 3 * latency_s / 3600
        for name, share in (
            ("", 1),
            ("_per_request", 1 / 4),
            ("_per_million_output_tokens", 1e6 / 80),
            ("_per_million_tokens", 1e6 / 1280),
        ):
            assert answer["cost"][f"{kind}_usd{name}"] == pytest.approx(usd * share, rel=1e-12)
    for work in ("hbm_bytes", "flops"):
        assert answer[work]["total"] == answer[work]["prefill"] + answer[work]["decode"]
    assert answer["request"]["total_tokens"] == 1280


def test_the_prefill_is_that_of_predict_and_so_is_a_single_decode_step(path: str) -> None:
    answer = document("--calibration", path, "--output", "2")
    common = ("--batch", "4", "--calibration", path, "--json")
    prefill, decode = (
        json.loads(output("predict", MODEL, *options, *common))
        for options in (
            ("--phase", "prefill", "--new-tokens", "300"),
            ("--context", "300"),
        )
    )
    for part, step, energy in (("ttft", prefill, "prefill_j"), ("tpot", decode, "decode_j")):
        for kind in ("floor_s", "predicted_s"):
            assert answer[part][kind] == pytest.approx(step["time"][kind], rel=1e-12)
        assert answer["energy"][energy] == pytest.approx(step["energy"]["predicted_j"], rel=1e-9)
    for phase, step in (("prefill", prefill), ("last_decode", decode)):
        assert answer["workload"][phase] == step["workload"]
    assert answer["memory"]["prefill_bytes"] == prefill["memory"]["total_bytes"]
    assert answer["memory"]["end_bytes"] == decode["memory"]["total_bytes"]
    for same in ("model", "hardware", "calibration", "backend"):
        assert answer[same] == decode[same]


def test_the_tables_say_what_is_known_and_why_the_rest_is_not(path: str) -> None:
    text = output("request", MODEL, *SIZES, "--calibration", path, "--price-per-hour", "2.5")
    assert says(text, 4, 300, 20)
    assert says(text, 19, 300, 318)
    assert says(text, 2.5, "USD", "NVIDIA H200 SXM")
    assert "Left out: chunked prefill, queueing" in text
    assert "n/a" not in text
    assert "evenly spaced" not in text
    text = output("request", MODEL, "--output", "1", "--calibration", "none")
    for reason in ("no price given", "--calibration none", "output=1"):
        assert f"n/a: {reason}" in text or f"({reason})" in text
    assert "no decode" in text
    text = output("request", MODEL, "--output", "100000", "--batch", "10000")
    assert says(text, 99_999, 4096)
    assert "does NOT fit" in text
    page = output("request", MODEL, "--markdown")
    assert page.startswith("### UltraMemV2")
    assert page.count("| quantity |") == 3


def test_csv_holds_the_numbers_of_the_json(path: str, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    options = ("--calibration", path, "--dtype", "bf16")
    assert output("request", MODEL, *SIZES, *options, "--csv", str(file)) == ""
    with file.open(encoding="utf-8", newline="") as lines:
        (row,) = csv.DictReader(lines)
    answer = document(*options)
    for section in SECTIONS:
        for name, value in answer[section].items():
            assert row.pop(f"{section}.{name}") == ("" if value is None else str(value))
    assert row == {
        "model": "UltraMemV2-227M/1.2B",
        "hardware": "NVIDIA H200 SXM",
        "calibration": "by hand",
        "dtype": "bf16",
        "kv_dtype": "bf16",
        "routing": "uniform",
        "backend": "torch",
        "gpus": "1",
        "mesh": "1 GPU",
        "ignored_keys": "",
    }


COUNT = "must be a whole number from 1 to"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--prompt 0", f"prompt='0': {COUNT} 16,777,216"),
        ("--prompt 1,2", f"prompt='1,2': {COUNT} 16,777,216"),
        ("--output 16777217", f"output='16777217': {COUNT} 16,777,216"),
        ("--output 1.5", f"output='1.5': {COUNT} 16,777,216"),
        ("--batch nan", f"batch='nan': {COUNT} 1,048,576"),
        ("--price-per-hour nan", "price_per_hour='nan': is a number of USD, such as 2.99"),
        ("--price-per-hour $3", "price_per_hour='$3': is a number of USD, such as 2.99"),
        ("--price-per-hour -1", "price_per_hour=-1.0: is a number from 0 to 1,000,000"),
        ("--price-per-hour 1e999", "price_per_hour=inf: is a number from 0 to 1,000,000"),
        ("--kv-dtype fp7", "kv_dtype='fp7': is one of fp32, bf16, fp16, fp8, int8, int4, mxfp4,"),
        ("--routing zapf", "routing='zapf': expected uniform"),
        ("--hardware h300", "hardware='h300'"),
        ("--calibration h300", "calibration='h300': is neither"),
        ("--csv a.txt", "csv='a.txt': ends in .csv"),
        ("--json --csv a.csv", "output: --json, --csv and --markdown exclude one another"),
        ("--markdown --json", "output: --json, --csv and --markdown exclude one another"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    options: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refusal("request", MODEL, *options.split()).startswith(message)
    assert list(tmp_path.iterdir()) == []
