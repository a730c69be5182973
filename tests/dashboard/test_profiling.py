"""What the Profile page asks for becomes the command line that the profiler checks itself."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from costmodel.recordings.quantities import RUNS
from dashboard.app.own_model import model_text
from dashboard.app.selection import OWN
from dashboard.pages.profile import data as profiling
from dashboard.pages.profile.data import (
    NEEDS_GPU,
    ProfileForm,
    arguments,
    default_file_name,
    has_gpu,
    has_torch,
    run_rows,
)
from tests.dashboard.pages import chosen

OUT = Path("recordings/x.json")
FORM = ProfileForm(
    model="olmoe-1b-7b",
    phase="decode",
    batch="1,16",
    context="512",
    new_tokens="64",
    routing=("uniform", "scores"),
    runs=("time", "trace"),
    device="cpu",
    backend="torch",
    standard=False,
    resume=False,
)
DECODE = (
    "profile olmoe-1b-7b --phase decode --batch 1,16 --context 512 --routing uniform,scores"
    " --runs time,trace --device cpu --out recordings/x.json"
)


def line(**changes: Any) -> str:  # noqa: ANN401 - any field
    return " ".join(arguments(replace(FORM, **changes), OUT))


def test_decode_says_nothing_of_new_tokens() -> None:
    assert line() == DECODE


def test_kernels_other_than_those_of_pytorch_are_named() -> None:
    assert line(backend="fused") == f"{DECODE} --backend fused"


def test_prefill_says_how_many_tokens_are_new() -> None:
    assert line(phase="prefill") == DECODE.replace("decode", "prefill").replace(
        "--context 512", "--context 512 --new-tokens 64"
    )


def test_the_standard_plan_stands_in_place_of_all_lists() -> None:
    assert line(standard=True, batch="broken", routing=()) == (
        "profile olmoe-1b-7b --plan standard --runs time,trace --device cpu --out recordings/x.json"
    )


def test_each_population_may_have_a_routing_of_its_own() -> None:
    both = "experts=uniform,rows=zipf:1.0"
    assert f"--routing uniform,{both},scores" in line(routing=("uniform", both, "scores"))


def test_going_on_with_a_file_is_said_last() -> None:
    assert line(resume=True) == f"{DECODE} --resume"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"runs": ()}, "runs"),
        ({"runs": ("time", "--out")}, "runs='--out'"),
        ({"device": "tpu"}, "device='tpu'"),
        ({"phase": "train"}, "phase='train'"),
        ({"routing": ()}, "routing"),
        ({"routing": ("uniform", "--help")}, "routing"),
        ({"routing": ("zipf:99",)}, "routing"),
        ({"routing": ("experts=uniform,rows=zipf:99",)}, "routing"),
        ({"routing": ("experts=uniform,rows=/dev/null",)}, "routing"),
        ({"batch": ""}, "batch"),
        ({"batch": "0"}, "batch"),
        ({"batch": "1,-1"}, "batch"),
        ({"batch": "1; rm -rf /"}, "batch"),
        ({"context": "-1"}, "context"),
        ({"context": "9999999999"}, "context"),
        ({"phase": "prefill", "new_tokens": "0"}, "new_tokens"),
        ({"phase": "prefill", "new_tokens": "x"}, "new_tokens"),
    ],
)
def test_a_value_that_breaks_a_rule_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as refused:
        line(**changes)
    assert str(refused.value).startswith(field)


def test_a_new_file_is_named_after_the_preset_or_the_own_model() -> None:
    assert default_file_name(chosen(model="olmoe-1b-7b")) == "olmoe-1b-7b.json"
    fused = chosen(model="olmoe-1b-7b", backend="fused")
    assert default_file_name(fused) == "olmoe-1b-7b-fused.json"
    own = chosen(model=OWN, own=model_text(replace(load_model("olmoe-1b-7b"), name="../A <B> 1/")))
    assert default_file_name(own) == "a-b-1.json"
    nameless = replace(own, model=replace(own.model, name="\u0416"))
    assert default_file_name(nameless) == "own-model.json"


def test_torch_is_looked_for_and_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    names = []

    def find_spec(name: str) -> None:
        names.append(name)

    monkeypatch.setattr(profiling, "find_spec", find_spec)
    assert has_torch() is False
    assert names == ["torch"]


def test_every_run_says_what_it_measures_and_what_a_cpu_gives() -> None:
    rows = {row["Run"]: row for row in run_rows(RUNS)}
    assert list(rows) == list(RUNS)
    assert "energy" in rows["energy"]["Measures"]
    assert "HBM bytes read" in rows["counters"]["Measures"]
    assert "time as a CUDA graph" in rows["time"]["Measures"]
    # profiler/runs/cpu.py: the run `time` gives all but `graph_s`; it is the only one
    assert "CUDA graph" in rows["time"]["On a CPU"]
    assert [rows[run]["On a CPU"] for run in ("trace", "counters", "energy")] == [NEEDS_GPU] * 3


def test_a_gpu_is_told_by_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(profiling, "DEVICE_FILE", tmp_path / "nvidiactl")
    assert not has_gpu()
    (tmp_path / "nvidiactl").touch()
    assert has_gpu()
