"""What `sparsecost validate` prints and writes, from recordings with chosen ratios."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from costmodel.recordings import folders
from costmodel.recordings.recording import Check, Recording
from costmodel.show.tables.validation_cells import fitted
from costmodel.show.text import Table
from tests.commands import output, refusal
from tests.commands import run as run_command
from tests.recording_values import (
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
from tests.sentences import says
from tests.steps import tiny_model
from tests.validation.test_validate import AT_3, two_cases

if TYPE_CHECKING:
    from costmodel.recordings.quantities import RunName

DENSE = tiny_model(name="Tiny-2K/9K")  # see tests/validation/test_join.py for its numbers
PATHS = leaf_paths(DENSE)
FAILED = Check(name="copy: bytes read", known=1e9, measured=1.02e9, tolerance=0.01)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recordings").mkdir()
    return tmp_path / "recordings"


def named() -> Recording:
    return replace(two_cases(), model=DENSE)


def row(shown: str, *starts: str) -> list[str]:
    """The cells of the one line that starts with these words."""
    (only,) = [text.split() for text in shown.splitlines() if text.startswith(" ".join(starts))]
    return only


def test_ones_own_recordings_are_read_by_themselves(folder: Path) -> None:
    assert "own: there is no recordings/*.json here" in refusal("validate", "--own")
    written(named(), folder, "tiny.json")
    assert "leave out the names or --own" in refusal("validate", "x.json", "--own")
    assert list(json.loads(output("validate", "--own", "--json"))["ignored_keys"]) == ["own/tiny"]
    shown = output("validate", "--own", "--calibration", "none")
    title, *_ = shown.splitlines()
    assert says(title, 2, 1)
    # 1671 and 1672 of 1672: the median between them, and half of 0.0598 % off
    wrong = row(shown, "parameters ")
    assert wrong[1:4] == ["2", "0.9997x", "0.9995x"]
    assert wrong[5:] == ["0.0299", "%", "0.9994x", "Tiny-2K", "1", "x", "4"]
    assert says(shown, "NOT EQUAL", "parameters", 1, 2)
    assert "NVIDIA H200: no calibration is applied" in shown


def test_ones_own_recordings_are_no_part_of_the_shipped(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = folder.parent / "shipped"
    shipped.mkdir()
    monkeypatch.setattr(folders, "SHIPPED", shipped)
    written(named(), shipped, "ours.json")
    alone = run_command("validate", "--json")
    assert (alone.code, alone.err) == (0, "")
    written(named(), folder, "tiny.json")
    beside = run_command("validate", "--json")
    assert beside.out == alone.out
    assert beside.err == "not counted: 1 recording of your own in recordings; see --own\n"
    assert output("validate", "ours", "--json") == alone.out
    assert output("validate", "ours.json", "--json") == alone.out


def test_a_bound_has_a_ratio_and_no_error(folder: Path) -> None:
    """A step of 1 us beside a bound of 3,406 bytes at 4.8 TB/s."""
    made = recording(DENSE, case(time=run({"graph_s": 1e-6})))
    shown = output("validate", str(written(made, folder)), "--calibration", "none")
    found = row(shown, "time as a CUDA graph / bound")
    assert found[7:] == [
        *("decode", "1", "1409x", "1409x", "1409x", "-", "1409x", "Tiny-2K", "1", "x", "3")
    ]


def test_predicted_reads_have_an_error(folder: Path) -> None:
    shown = output("validate", str(written(named(), folder)), "--calibration", "none")
    assert row(shown, "HBM bytes read  decode")[3:] == [
        *("decode", "2", "1.250x", "0.6500x", "1.850x", "100", "%"),
        *("2.000x", "Tiny-2K", "1", "x", "3"),
    ]


def test_exact_counts_are_told_in_one_line(folder: Path) -> None:
    time = run({"parameters": 1672, "kv_held_bytes": 192})
    path = str(written(recording(DENSE, case(time=time)), folder))
    shown = output("validate", path)
    assert says(shown, "parameters", "KV cache held", 1)
    assert "NOT EQUAL" not in shown


def test_steps_far_off_are_listed_and_near_ones_are_not(folder: Path) -> None:
    def shown(factor: float) -> str:
        time = run({"resident_memory_bytes": AT_3 * factor})
        text = output("validate", str(written(recording(DENSE, case(time=time)), folder)))
        return " ".join(text.split())

    assert "resident memory 3.536 kB 3.925 kB 1.110x Tiny-2K 1 x 3" in shown(1.11)
    assert "Worst steps" not in shown(1.09)


def test_the_worst_steps_of_a_phase_are_its_own(folder: Path) -> None:
    prefill = workload(phase="prefill", context=0, new_tokens=4)
    many, more = run({"launches": 10**4}), run({"launches": 10**5})
    made = recording(DENSE, case(trace=many), case(prefill, trace=more))
    shown = output("validate", str(written(made, folder)))
    block = shown[shown.index("Worst steps") :].split("What was achieved")[0]
    places = [text.rpartition("x  ")[2] for text in block.splitlines() if "kernel launches" in text]
    assert places == ["Tiny-2K 1 x 3", "Tiny-2K prefill 4"]


def test_a_line_ends_where_a_terminal_does() -> None:
    table = Table(
        title="t",
        headers=("a\nlonger header", "n", "at"),
        rows=(("x" * 30, "1", "y" * 200), ("x", "1", "short")),
        ends_in_text=True,
    )
    long, short = fitted(table).rows
    assert len(long[2]) == 120 - (30 + 2) - (1 + 2)
    assert long[2].endswith("y...")
    assert short[2] == "short"


def test_what_is_not_compared_is_counted_by_the_reason(folder: Path) -> None:
    lacking: dict[RunName, str] = {
        "counters": "does not fit: 9 GiB are needed",
        "energy": "does not fit: 8 GiB",
    }
    made = recording(
        DENSE,
        case(time=run({"parameters": 1672}), trace=run(), lacking=lacking),
    )
    shown = output("validate", str(written(made, folder)))
    told = shown[shown.index("What is not compared") :].splitlines()
    assert says(told[1], 1, "counters", 1, "energy", "does not fit")
    assert says(told[2], "buffer_bytes", "kv_held_bytes")
    rows = json.loads(output("validate", str(written(made, folder)), "--json", "--all"))["rows"]
    assert says("\n".join(told), len(rows), 1, len(rows) - 1)
    refused = [row for row in rows if "does not fit" in (row["reason"] or "")]
    assert says("\n".join(told[3:]), len(refused), "does not fit")


def test_all_lists_every_line_case_and_row(folder: Path) -> None:
    path = str(written(named(), folder))
    some, every = output("validate", path), output("validate", path, "--all")
    assert "--all" in some
    assert "--all" not in every
    listed = json.loads(output("validate", path, "--json", "--all"))
    block = every[every.index("Every line of errors") :].split("\n\n")[0]
    lines = len(listed["errors"]) + len(listed["errors_by_kind"])
    assert len(block.splitlines()) == lines + 4  # a title, two lines of headers, a rule
    assert every.count("decode, batch 1, context 4, bf16, uniform") == len(listed["rows"]) / 2


def test_decode_at_the_usual_context_is_what_was_achieved(folder: Path) -> None:
    timed = run({"graph_s": 1e-3})
    usual = recording(
        DENSE,
        case(workload(batch=4, context=2048), time=timed),
        case(workload(batch=4, context=512), time=timed),
        case(workload(batch=8, context=2048), lacking={"time": "does not fit"}),
    )
    shown = output("validate", str(written(usual, folder)))
    table = shown[shown.index("What was achieved") :]
    assert says(table.splitlines()[0], "uniform", "decode", 2048)
    assert row(table, "Tiny-2K")[:5] == ["Tiny-2K", "4", "x", "2,048", "4"]
    assert not any(
        "bandwidth" in line for line in table.splitlines()[1:4]
    )  # nothing of it is known
    assert "Without a time: 1 of these cases." in table
    assert "Other cases: 1, which --all lists." in table
    every = output("validate", str(written(usual, folder)), "--all")
    assert "Tiny-2K 8 x 2,048" in every[every.index("What was achieved") :]


def test_failed_self_checks_and_broken_bounds_come_first(folder: Path) -> None:
    big = recording(
        tiny_model(vocab_size=2**20, hidden_size=512),  # a head of 2^30 bytes
        case(counters=run({"hbm_read_bytes": 1e6})),
        sessions=(session(), session(CPU, FAILED)),
    )
    path = str(written(big, folder))
    first, told, _, *rest = output("validate", path, "--calibration", "none").splitlines()
    assert first.startswith("SELF-CHECKS FAILED")
    assert says(told, "copy: bytes read", 1.02e9, 1e9, 1, "made", "2026-01-02T03:04:05Z")
    assert rest[0].startswith("MEASURED BELOW THE BOUND")
    assert says(rest[1], "hbm_read_bytes", 1e6)


def test_json_holds_it_all(folder: Path) -> None:
    path = str(written(named(), folder))
    document: dict[str, Any] = json.loads(output("validate", path, "--json"))
    assert document["schema_version"] == 1
    assert document["failed_self_checks"] == document["below_bound"] == []
    (reads,) = [
        row
        for row in document["errors"]
        if (row["quantity"], row["level"]) == ("hbm_read_bytes", "step")
    ]
    assert reads["median_ratio"] == pytest.approx(1.25)
    assert reads["error"] == pytest.approx(1.0)  # twice and half
    assert (reads["worst"]["unit"], reads["worst"]["recording"]) == ("bytes", "own/made")
    assert [row["case"] for row in document["achieved"]] == [
        "decode, batch 1, context 3, bf16, uniform",
        "decode, batch 1, context 4, bf16, uniform",
    ]
    assert document["achieved"][0]["mbu"] is None
    assert "mbu" in document["achieved"][0]["reasons"]
    lacking = {(row["run"], row["cases"]) for row in document["lacking_runs"]}
    assert lacking == {("trace", 1), ("energy", 2)}
    parameters = [row["measured"] for row in document["rows"] if row["quantity"] == "parameters"]
    assert parameters == [1671]  # the other is equal
    every = json.loads(output("validate", path, "--json", "--all"))
    assert every["rows_not_listed"] == 0
    assert len(every["rows"]) == len(document["rows"]) + document["rows_not_listed"]
    assert {row["path"] for row in every["rows"]} == {"step", *PATHS}


def test_at_most_twenty_rows_of_a_quantity_are_listed(folder: Path) -> None:
    path = str(written(everything(DENSE, [workload(), workload(batch=2)]), folder))
    rows = json.loads(output("validate", path, "--json"))["rows"]
    numbers = [row["quantity"] for row in rows]
    assert max(numbers.count(quantity) for quantity in set(numbers)) == 20


def test_csv_holds_every_row(folder: Path) -> None:
    path = str(written(named(), folder.parent, "=cmd.json"))
    output("validate", path, "--csv", "rows.csv")
    with Path("rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    every = json.loads(output("validate", path, "--json", "--all"))["rows"]
    assert len(rows) == len(every)
    assert {row["recording"] for row in rows} == {"'=cmd"}
    assert {row["path"] for row in rows} == {"step", *PATHS}


def test_markdown_and_two_files_of_one_name(folder: Path) -> None:
    again = folder.parent / "again"
    again.mkdir()
    paths = [str(written(named(), place)) for place in (folder.parent, again)]
    page = output("validate", *paths, "--markdown")
    assert page.startswith("### Measured over predicted, 4 cases of 2 recordings\n")
    assert "Tiny-2K #2: recording " in page
    assert page.count("again/made.json") == 1


@pytest.mark.slow
def test_the_shipped_recordings_are_read_in_120_columns() -> None:
    shown = output("validate")
    assert max(map(len, shown.splitlines())) <= 120
    assert says(shown, "parameters", "buffers", "KV cache held", "FLOPs counted")
    assert "NOT EQUAL" not in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--json", "--markdown"], "--json, --csv and --markdown exclude one another"),
        (["--csv", "rows.txt"], "ends in .csv"),
        (["--calibration", "nobody"], "calibration='nobody'"),
    ],
)
def test_options_that_do_not_go_are_refused(folder: Path, arguments: list[str], said: str) -> None:
    assert said in refusal("validate", str(written(named(), folder)), *arguments)


def test_too_many_files_are_refused() -> None:
    assert "at most 256 are read at once" in refusal("validate", *["x.json"] * 257)
