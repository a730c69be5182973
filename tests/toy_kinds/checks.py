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

from costmodel.costs.operators import build_operators
from costmodel.costs.predict import predict, step_costs
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
PAGES = ("explore", "compare", "tradeoffs", "measured", "profile", "report", "method")


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


def test_both_backends_have_kernels_for_it() -> None:
    for operator in predicted()["operators"]:
        launches = operator["launches_by_backend"]
        assert launches["torch"] >= launches["fused"] >= 1, operator["path"]


def test_a_grid_equals_single_predictions() -> None:
    grid = sweep(
        MODEL, WORKLOAD, batches=(1, B), contexts=(7, S), routings=(Uniform(),), hardwares=(GPU,)
    )
    alone = predict(MODEL, WORKLOAD, GPU)
    last = list(grid.records())[-1]
    assert last["hbm_bytes.compulsory"] == alone.costs.totals.compulsory_bytes
    assert last["flops.total"] == alone.costs.totals.flops
    assert last["memory.max_batch"] == alone.memory.max_batch


def test_generate_profile_and_validate_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "toy.json"
    made = json.loads(command("generate", str(TOML), "--new-tokens", "3", "--json"))
    assert made
    sizes = ("--batch", "1,2", "--context", "16", "--phase", "decode")
    command("profile", str(TOML), *sizes, "--device", "cpu", "--out", str(out))
    table = tmp_path / "rows.csv"
    command("validate", str(out), "--csv", str(table))
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    exact = {"parameters", "buffer_bytes", "kv_held_bytes", "flops_counted"}
    steps = [row for row in rows if row["quantity"] in exact and row["path"] == "step"]
    assert {row["quantity"] for row in steps} == exact
    assert all(float(row["measured"]) == float(row["predicted"]) for row in steps)
    chosen = {row["path"] for row in rows if row["quantity"] == "distinct"}
    assert chosen == {"layers.0.memory.hash", "layers.2.memory.hash"}


def test_every_operator_is_explained() -> None:
    """Its formula is in the letters of the step; with the values put in it is its FLOPs."""
    sizes = ("--batch", str(B), "--context", str(S))
    flops = {
        "layers.{0-3}.attention.update": 2 * B * D,
        "layers.{0-3}.attention.output": 2 * B * D * D,
        "layers.{0,2}.memory.hash": 0,
        "layers.{0,2}.memory.rows": 2 * B * 4 * D,
    }
    paths = {operator.path for operator in build_operators(MODEL, WORKLOAD.step())}
    assert set(flops) < paths
    for path in paths:
        told = command("explain", str(TOML), path, *sizes)
        if path in flops:
            assert f"{flops[path]:,}" in told, told
    for number in ("kv_cache.state_bytes", "hbm_bytes.state", "hbm_bytes.compulsory"):
        assert command("explain", str(TOML), number, *sizes)


def test_sizes_of_a_kind_are_swept_and_matched() -> None:
    names = [field.name for field in swept_fields(MODEL)]
    assert {"num_rows", "num_reads"} <= set(names)
    made = designs(MODEL, {"num_rows": (300, 500), "num_reads": (2, 4)})
    assert len(made.models) == 4
    assert {values["num_rows"] for values in made.values} == {300, 500}
    arguments = ("--to", str(TOML), "--vary", "num_rows,intermediate_size", "--json")
    matched = json.loads(command("match", "olmoe-227m-1.2b", *arguments))
    wanted = load_model("olmoe-227m-1.2b")
    parameters = step_costs(wanted, WORKLOAD.step()).parameters.total_without_embeddings
    assert matched["matched"]["parameters"]["found"] == pytest.approx(parameters, rel=0.01)


@pytest.mark.parametrize("page", PAGES)
def test_every_page(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSECOST_RECORDINGS", str(tmp_path))
    link = packed(TOML.read_text())
    assert link is not None
    at = opened(page, own=link, batch=str(B), context=str(S))
    assert not at.error
    assert MODEL.name in str([element.value for element in (*at.title, *at.text, *at.caption)])
