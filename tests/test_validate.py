"""`sparsecost validate`: errors worked out by hand from recordings with chosen ratios."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from costmodel.beside import COMPULSORY, FLOOR, PREDICTED, Gpus
from costmodel.inputs.recording import Check, Recording
from costmodel.validate import ErrorLine, Validation, validate
from tests.commands import output, refusal
from tests.costs.calibrations import write
from tests.recordings import (
    CPU,
    case,
    everything,
    leaf_paths,
    recording,
    run,
    session,
    workload,
    written,
)
from tests.steps import tiny_model

DENSE = tiny_model()  # see tests/test_join.py for its numbers
PATHS = leaf_paths(DENSE)
FAILED = Check(name="copy: bytes read", known=1e9, measured=1.02e9, tolerance=0.01)


def two_cases() -> Recording:
    """Reads of twice and half of 3336 and, with a fourth cached token, 3384; one count is wrong."""
    return recording(
        DENSE,
        case(time=run({"parameters": 1672}), counters=run({"hbm_read_bytes": 6672.0})),
        case(
            workload(context=4),
            time=run({"parameters": 1671}, {"launches": [0, *([1] * (len(PATHS) - 1))]}),
            counters=run({"hbm_read_bytes": 1692.0}),
        ),
    )


def checked(*made: Recording) -> Validation:
    return validate([(f"r{i}", each) for i, each in enumerate(made)], Gpus("none"))


def line(
    found: Validation, quantity: str, level: str = "step", basis: str = PREDICTED
) -> ErrorLine:
    (only,) = [
        each
        for each in (*found.errors, *found.errors_by_kind)
        if (each.quantity, each.level, each.basis) == (quantity, level, basis)
    ]
    return only


def test_twice_and_half_are_each_100_percent_off() -> None:
    found = line(checked(two_cases()), "hbm_read_bytes", basis=COMPULSORY)
    assert (found.compared, found.equal, found.no_ratio) == (2, 0, 0)
    assert found.median_ratio == pytest.approx((2 + 0.5) / 2)
    assert found.error == pytest.approx(1.0)


def test_the_worst_row_is_the_farthest_on_either_side() -> None:
    made = recording(
        DENSE,
        case(counters=run({"hbm_read_bytes": 6672.0})),
        case(workload(context=4), counters=run({"hbm_read_bytes": 3384 / 3})),
    )
    found = line(checked(made), "hbm_read_bytes", basis=COMPULSORY)
    assert found.worst is not None
    assert found.worst.row.ratio == pytest.approx(1 / 3)
    assert found.worst.case == "decode, batch 1, context 4, bf16, uniform"


def test_exact_counts_say_how_many_are_equal() -> None:
    found = line(checked(two_cases()), "parameters")
    assert (found.compared, found.equal) == (2, 1)
    assert found.worst is not None
    assert (found.worst.row.predicted, found.worst.row.measured) == (1672, 1671)


def test_a_zero_beside_a_number_is_the_worst_of_all() -> None:
    found = line(checked(two_cases()), "launches", "leaf")
    assert found.no_ratio == 1
    assert found.worst is not None
    assert (found.worst.row.path, found.worst.row.measured) == ("embed", 0)
    assert found.compared == len(PATHS)
    assert found.predicted_only == len(PATHS)  # of the case that gives no launches


def test_kinds_are_told_apart() -> None:
    column = [1e-6] * len(PATHS)
    found = checked(recording(DENSE, case(time=run(operators={"kernel_s": column}))))
    # 4 products in each of 3 layers, and the head; a lookup
    assert line(found, "kernel_s", "matmul", FLOOR).compared == 13
    assert line(found, "kernel_s", "gather", FLOOR).compared == 1
    gather = line(found, "kernel_s", "gather", FLOOR).median_ratio
    assert gather == pytest.approx(1e-6 / ((16 + 8) / 4.8e12))


def test_every_row_is_counted_in_one_line_and_listed_once() -> None:
    full = everything(DENSE, [workload(), workload(batch=2)])
    found = checked(two_cases(), full, recording(DENSE, case(), sessions=(session(CPU),)))
    lines = found.errors
    counted = sum(x.compared + x.measured_only + x.predicted_only + x.neither for x in lines)
    listed = [entry for group in found.groups for entry in group]
    assert counted == len(listed) == len(set(listed))
    for group in found.groups:
        distances = [entry.distance for entry in group]
        assert distances == sorted(distances, reverse=True)


def test_the_label_says_what_predicted(tmp_path: Path) -> None:
    made = recording(DENSE, case(), sessions=(session(), session(CPU)))
    named = validate([("r", made)], Gpus(write(tmp_path / "mine.json"))).calibrations
    assert named == (
        "A processor: not predicted (no hardware preset for this machine)",
        "NVIDIA H200: calibration by hand, measured 2026-11-23T12:00:00Z",
    )
    assert "no calibration is applied" in checked(made).calibrations[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recordings").mkdir()
    return tmp_path / "recordings"


def test_the_command_reads_the_recordings_folder(folder: Path) -> None:
    assert "there is no recordings/*.json here" in refusal("validate")
    written(two_cases(), folder, "tiny.json")
    shown = output("validate", "--calibration", "none")
    title, _, _, _, *lines = shown.splitlines()
    assert title == "Measured over predicted, 2 cases"
    parameters, *_ = lines
    assert "tiny, decode, batch 1, context 4, bf16, uniform, step" in parameters
    assert parameters.split()[-9:-3] == ["2", "1", "0.9997x", "0.0299", "%", "0.9994x"]
    assert "NVIDIA H200: no calibration is applied" in shown
    assert "more rows: --all lists them, --csv writes them." in shown
    assert "more rows" not in output("validate", "--all")


def test_failed_self_checks_and_broken_bounds_come_first(folder: Path) -> None:
    big = recording(
        tiny_model(vocab_size=2**20, hidden_size=512),  # a head of 2^30 bytes
        case(counters=run({"hbm_read_bytes": 1e6})),
        sessions=(session(), session(CPU, FAILED)),
    )
    path = str(written(big, folder))
    first, told, _, *rest = output("validate", path, "--calibration", "none").splitlines()
    assert first == "Self-checks that FAILED: 1"
    assert told == (
        "made, session of 2026-01-02T03:04:05Z: copy: bytes read: measured 1.02e+09,"
        " known 1e+09, tolerance 0.01"
    )
    assert rest[0] == "Measured below the bound, the farthest first: 1"
    assert "hbm_read_bytes of the step = 1e+06: below the bound" in rest[1]


def test_json_holds_it_all(folder: Path) -> None:
    path = str(written(two_cases(), folder))
    found: dict[str, Any] = json.loads(output("validate", path, "--json"))
    assert found["schema_version"] == 1
    assert found["failed_self_checks"] == found["below_bound"] == []
    (reads,) = [
        each
        for each in found["errors"]
        if (each["quantity"], each["level"]) == ("hbm_read_bytes", "step")
    ]
    assert reads["error"] == pytest.approx(1.0)
    assert reads["worst"]["unit"] == "bytes"
    assert [each["case"] for each in found["achieved"]] == [
        "decode, batch 1, context 3, bf16, uniform",
        "decode, batch 1, context 4, bf16, uniform",
    ]
    assert found["achieved"][0]["mbu"] is None
    assert "mbu" in found["achieved"][0]["reasons"]
    parameters = [row["measured"] for row in found["rows"] if row["quantity"] == "parameters"]
    assert parameters == [1671]  # the other is equal
    every = json.loads(output("validate", path, "--json", "--all"))
    assert every["rows_not_listed"] == 0
    assert len(every["rows"]) == len(found["rows"]) + found["rows_not_listed"]
    assert {row["path"] for row in every["rows"]} == {"step", *PATHS}


def test_at_most_twenty_rows_of_a_quantity_are_listed(folder: Path) -> None:
    path = str(written(everything(DENSE, [workload(), workload(batch=2)]), folder))
    rows = json.loads(output("validate", path, "--json"))["rows"]
    numbers = [row["quantity"] for row in rows]
    assert max(numbers.count(each) for each in set(numbers)) == 20


def test_csv_holds_every_row(folder: Path) -> None:
    path = str(written(two_cases(), folder, "=cmd.json"))
    output("validate", path, "--csv", "rows.csv")
    with Path("rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    every = json.loads(output("validate", path, "--json", "--all"))["rows"]
    assert len(rows) == len(every)
    assert {row["recording"] for row in rows} == {"'=cmd"}
    assert {row["path"] for row in rows} == {"step", *PATHS}


def test_markdown_and_two_files_of_one_name(folder: Path) -> None:
    (folder / "again").mkdir()
    paths = [str(written(two_cases(), each)) for each in (folder, folder / "again")]
    page = output("validate", *paths, "--markdown")
    assert page.startswith("### Measured over predicted, 4 cases\n")
    assert "again/made.json | decode" in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--json", "--markdown"], "--json, --csv and --markdown exclude one another"),
        (["--csv", "rows.txt"], "ends in .csv"),
        (["--calibration", "nobody"], "calibration='nobody'"),
    ],
)
def test_options_that_do_not_go_are_refused(folder: Path, arguments: list[str], said: str) -> None:
    assert said in refusal("validate", str(written(two_cases(), folder)), *arguments)


def test_too_many_files_are_refused() -> None:
    assert "at most 256 are read at once" in refusal("validate", *["x.json"] * 257)
