"""Checks of the two toy kinds, run within a copy of the project that has their files.

`tests/test_toy_kinds.py` makes the copy and runs this file there: in the project itself the kinds
do not exist.
"""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from costmodel.costs.predict import predict
from costmodel.explain.numbers import STEP_NUMBERS, explain_operator, explain_step
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.questions.sweep import sweep
from costmodel.routing.popularity import Uniform
from dashboard.app.own_model import packed
from dashboard.pages.tradeoffs.data import designs, swept_fields
from reference_model.model import build_model
from tests.dashboard.pages import opened
from tests.reference_model.test_keystone import (
    DECODE,
    PREFILL,
    cache_is_predicted,
    flops_are_predicted,
    step_of,
    structure_is_predicted,
)

TOML = Path(__file__).with_name("toy.toml")
MODEL = load_model(str(TOML))
B, S, D, L = 3, 50, 32, 4
WORKLOAD = Workload(batch=B, context=S)
GPU = load_hardware("h200")
SAYS_NO_MODEL = ("tradeoffs", "claims", "profile", "report", "method")
PAGES = ("explore", "compare", "tradeoffs", "measured", "claims", "profile", "report", "method")


def command(*arguments: str) -> str:
    """What the command line prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", "from costmodel.cli.main import main; main()", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def predicted() -> dict[str, Any]:
    """`predict --json` of the toy."""
    arguments = ("--batch", str(B), "--context", str(S), "--json")
    found: dict[str, Any] = json.loads(command("predict", str(TOML), *arguments))
    return found


def test_keystone() -> None:
    model = build_model(MODEL, device="meta")
    structure_is_predicted(model, step_of(DECODE[0]))
    for sizes in (*DECODE, *PREFILL):
        cache_is_predicted(model, step_of(sizes))
        flops_are_predicted(model, step_of(sizes))


def test_state_and_rows_by_hand() -> None:
    data = predicted()
    state = L * D * 2  # one vector of bf16 a layer and sequence, whatever the context
    assert data["kv_cache"]["bytes_per_token"] == 0
    assert data["kv_cache"]["stored_bytes"] == 0
    assert data["kv_cache"]["state_bytes_per_sequence"] == state
    assert data["kv_cache"]["state_bytes"] == B * state
    assert data["hbm_bytes"]["state"] == 2 * B * state  # read and written
    assert data["memory"]["state_bytes"] == B * state
    assert data["flops"]["by_kind"]["recurrence"] == L * 2 * B * D
    rows = 500 * (1 - (1 - 1 / 500) ** (4 * B))
    assert data["routing"]["expected_distinct_rows"] == pytest.approx(rows, rel=1e-9)
    assert data["hbm_bytes"]["table_rows"] == pytest.approx(2 * rows * D * 2, rel=1e-9)


def test_plain_pytorch_has_kernels_for_it_and_fused_ones_are_known_to_lack() -> None:
    data = predicted()
    for operator in data["operators"]:
        launches = operator["launches_by_backend"]
        assert launches["torch"] >= 1, operator["path"]
        assert launches["fused"] is None
    reason = data["reasons"]["operators.launches_by_backend.fused"]
    assert reason.startswith("the backend fused has no kernels for ")


def test_every_number_and_operator_is_explained() -> None:
    prediction = predict(MODEL, WORKLOAD, GPU)
    for number in STEP_NUMBERS:
        found = explain_step(prediction, number)
        assert found.reason if found.value is None else found.equations, number
    for operator in prediction.costs.operators:
        (flops, *_) = explain_operator(prediction, operator.path).equations
        assert flops.result == operator.total("flops")
        assert flops.values, operator.path  # its letters have values
    # by hand: 2 FLOPs x 3 tokens x 4 rows x 32
    assert "= 2 * 3 * 4 * 32\n= 768 " in command(
        "explain", str(TOML), "memory.rows", "--batch", "3"
    )


def test_a_grid_equals_single_predictions() -> None:
    grid = sweep(
        MODEL, WORKLOAD, batches=(1, B), contexts=(7, S), routings=(Uniform(),), hardwares=(GPU,)
    )
    alone = predict(MODEL, WORKLOAD, GPU)
    last = list(grid.records())[-1]
    assert last["hbm_bytes.compulsory"] == alone.costs.totals.compulsory_bytes
    assert last["flops.total"] == alone.costs.totals.flops
    assert last["memory.max_batch"] == alone.memory.max_batch


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile of the toy on this CPU."""
    out = tmp_path_factory.mktemp("recordings") / "toy.json"
    sizes = ("--batch", "1,2", "--context", "16", "--phase", "decode")
    command("profile", str(TOML), *sizes, "--device", "cpu", "--out", str(out))
    return out


def test_it_generates() -> None:
    assert json.loads(command("generate", str(TOML), "--new-tokens", "3", "--json"))


def test_a_profile_on_a_cpu_is_validated(recorded: Path, tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    command("validate", str(recorded), "--csv", str(table))
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    exact = {"parameters", "buffer_bytes", "kv_held_bytes", "flops_counted"}
    steps = [row for row in rows if row["quantity"] in exact and row["path"] == "step"]
    assert {row["quantity"] for row in steps} == exact
    assert all(float(row["measured"]) == float(row["predicted"]) for row in steps)
    chosen = {row["path"] for row in rows if row["quantity"] == "distinct"}
    assert chosen == {"layers.0.memory.hash", "layers.2.memory.hash"}


def test_the_command_explains_an_operator_and_a_total() -> None:
    sizes = ("--batch", str(B), "--context", str(S))
    rows = command("explain", str(TOML), "layers.{0,2}.memory.rows", *sizes)
    assert f"{2 * B * 4 * D:,}" in rows
    state = command("explain", str(TOML), "kv_cache.state_bytes", *sizes)
    assert f"{B * L * D * 2:,}" in state


def test_sizes_of_a_kind_are_swept_and_matched() -> None:
    names = [field.name for field in swept_fields(MODEL)]
    assert {"num_rows", "num_reads"} <= set(names)
    made = designs(MODEL, {"num_rows": (300, 500), "num_reads": (2, 4)})
    assert len(made.models) == 4
    assert {values["num_rows"] for values in made.values} == {300, 500}
    arguments = ("--to", str(TOML), "--vary", "num_rows,intermediate_size", "--json")
    matched = json.loads(command("match", "olmoe-227m-1.2b", *arguments))
    (parameters, flops) = matched["matched"]
    assert parameters["quantity"] == "parameters.total_without_embeddings"
    assert abs(parameters["difference_percent"]) < 1
    assert abs(flops["difference_percent"]) < 1


@pytest.mark.parametrize("page", PAGES)
def test_every_page(page: str, recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSECOST_RECORDINGS", str(recorded.parent))
    link = packed(TOML.read_text())
    assert link is not None
    at = opened(page, own=link, batch=str(B), context=str(S))
    assert not at.error
    if page not in SAYS_NO_MODEL:
        assert MODEL.name in str([element.value for element in (*at.title, *at.text, *at.caption)])
