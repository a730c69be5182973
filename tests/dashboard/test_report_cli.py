"""`sparsecost report`: files whole or not at all, and one line for what is wrong."""

import importlib.util
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from costmodel.errors import shown
from costmodel.inputs.output_file import OutputFile
from dashboard.report.document import Report, load_report, report_text
from dashboard.report.files import FORMATS, save
from tests.commands import output, refusal, run
from tests.dashboard.reports import OLMOE, RECORDINGS, ULTRAMEM, usual, workbook

QUICK = ("--contents", "summary,operators")

TRACE = ("--routing", "trace.json")  # of two tokens


def report(path: Path) -> Report:
    found = load_report(path)
    assert found is not None
    return found


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_the_command_gives_the_report_that_is_built(tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    assert not output(
        *("report", ULTRAMEM, OLMOE, "--batch", "64", "--compare-batch", "1,64,1024"),
        *("--price-per-hour", "3", "--recording", str(RECORDINGS / f"h200-{OLMOE}.json")),
        *("--out", str(out)),
    )
    text = report_text(replace(report(out), made=usual().made))
    assert text.replace(f"h200-{OLMOE}", OLMOE) == report_text(usual())


def test_a_file_of_every_format_is_drawn_again_from_the_json(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    save(usual(), OutputFile(path=kept))
    for suffix in FORMATS:
        first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix.upper()}"
        save(usual(), OutputFile(path=first))
        assert not output("report", str(kept), "--out", str(second))
        if suffix == ".xlsx":
            assert workbook(second.read_bytes()) == workbook(first.read_bytes())
        else:
            assert second.read_bytes() == first.read_bytes()


def test_lists_of_batches_and_contexts_are_told_step_by_step(tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    output("report", OLMOE, "--batch", "2,3", "--context", "5,7", *QUICK, "--out", str(out))
    steps = [(step.batch, step.context) for step in report(out).steps]
    assert steps == [(2, 5), (3, 5), (2, 7), (3, 7)]
    assert report(out).inputs.workload.compared_batches[:4] == (1, 2, 3, 4)
    assert report(out).contents == ("summary", "operators")


def test_the_options_of_a_workload_reach_the_report(tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    output(
        *("report", OLMOE, "--routing", "zipf:1.0", "--dtype", "fp8", "--attention-flops", "full"),
        *("--logits", "all", "--backend", "fused", "--hardware", "b200", *QUICK),
        *("--out", str(out)),
    )
    data = json.loads(
        output(
            *("predict", OLMOE, "--routing", "zipf:1.0", "--dtype", "fp8", "--hardware", "b200"),
            *("--attention-flops", "full", "--logits", "all", "--backend", "fused", "--json"),
        )
    )
    found = report(out)
    assert found.steps[0].values["flops.total"] == data["flops"]["total"]
    assert found.steps[0].values["time.floor_s"] == data["time"]["floor_s"]
    reason = "time.predicted_s"
    assert found.steps[0].reasons[reason] == data["reasons"][reason]
    assert found.inputs.workload.kv_dtype == "bf16"


def test_a_transferred_time_has_its_interval_and_label(tmp_path: Path) -> None:
    out, page = tmp_path / "a.json", tmp_path / "a.md"
    for file in (out, page):
        output("report", OLMOE, "--dtype", "fp8", "--hardware", "b200", *QUICK, "--out", str(file))
    (step,) = report(out).steps
    label = "transferred from h200: not measured on this GPU and in these formats"
    assert str(step.transferred).endswith(label)
    assert label in page.read_text(encoding="utf-8")


def test_a_model_and_a_recording_that_come_twice_get_numbers(tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    source = RECORDINGS / f"h200-{OLMOE}.json"
    (again / source.name).write_bytes(source.read_bytes())
    out = tmp_path / "a.json"
    output(
        *("report", OLMOE, OLMOE, "--recording", str(source), "--recording"),
        *(str(again / source.name), "--contents", "measured", "--out", str(out)),
    )
    assert [model.name for model in report(out).inputs.models] == [
        "OLMoE-1B-7B",
        "OLMoE-1B-7B (2)",
    ]
    assert [each.name for each in report(out).inputs.recordings] == [
        f"h200-{OLMOE}",
        f"h200-{OLMOE} (2)",
    ]
    assert str(tmp_path) not in out.read_text()


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ((OLMOE, "--out", "a.txt"), "out='a.txt': ends in one of .html, .md, .csv"),
        ((OLMOE, "--out", "a"), "ends in one of"),
        ((OLMOE, "--out", "a.html.gz"), "ends in one of"),
        ((OLMOE, *QUICK, "--out", "none/a.md"), "cannot be written: No such file or directory"),
        ((OLMOE, *QUICK, "--out", "folder.md"), "cannot be written: is a directory"),
        (("nobody", "--out", "a.md"), "model='nobody': is neither a preset"),
        (("none.json", "--out", "a.md"), "file='none.json': does not exist"),
        (("kept.json", OLMOE, "--out", "a.md"), "a report that is read stands alone"),
        (("kept.json", "--batch", "2", "--out", "a.md"), "batch: stands in the report"),
        (("kept.json", "--phase", "decode", "--out", "a.md"), "phase: stands in the report"),
        (("kept.json", "--recording", "x", "--out", "a.md"), "recording: stands in the report"),
        (("recording.json", "--out", "a.md"), "recording.json"),
        ((OLMOE, "--contents", "summary,all", "--out", "a.md"), "contents='all': is not one of"),
        ((OLMOE, "--contents", "", "--out", "a.md"), "contents='': is not one of"),
        ((OLMOE, "--price-per-hour", "inf", "--out", "a.md"), "price_per_hour=inf"),
        ((OLMOE, "--compare-batch", "0", "--out", "a.md"), "batch='0'"),
        ((OLMOE, "--recording", "none.json", "--out", "a.md"), "does not exist"),
        ((ULTRAMEM, "--recording", "recording.json", "--out", "a.md"), "is not a model of this"),
        ((*(OLMOE,) * 9, "--out", "a.md"), "models=9: a report holds 1 to 8"),
        ((OLMOE, "--calibration", "nobody", "--out", "a.md"), "calibration='nobody'"),
        ((OLMOE, *TRACE, "--batch", "3", "--out", "a.md"), "a step of 3 tokens is beyond it"),
        (
            (OLMOE, *TRACE, "--compare-batch", "1,4", "--out", "a.md"),
            "a step of 4 tokens is beyond it; a report takes the batches of --batch and",
        ),
    ],
)
def test_what_is_wrong_is_told_in_one_line_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], rule: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.md").mkdir()
    (tmp_path / "kept.json").write_text(report_text(usual()))
    (tmp_path / "recording.json").write_bytes((RECORDINGS / f"h200-{OLMOE}.json").read_bytes())
    section = {"population": 64, "trials": 2, "draws": 8, "counts": [[0, 48], [1, 16]]}
    trace = {"schema_version": 1, "source": "by hand", "experts": section}
    (tmp_path / "trace.json").write_text(json.dumps(trace))
    before = names(tmp_path)
    assert rule in refusal("report", *arguments)
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    ("library", "suffix"),
    [("jinja2", ".html"), ("plotly", ".html"), ("xlsxwriter", ".xlsx"), ("pyarrow", ".parquet")],
)
def test_without_the_dashboard_extra_a_format_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, suffix: str
) -> None:
    found = importlib.util.find_spec

    def without(name: str, *rest: Any) -> Any:  # noqa: ANN401 - as the original
        return None if name == library else found(name, *rest)

    monkeypatch.setattr("dashboard.report.files.find_spec", without)
    done = run("report", OLMOE, "--out", str(tmp_path / f"a{suffix}"))
    assert done.code == 1
    assert library in done.err
    assert 'pip install "sparsecost[dashboard]"' in done.err
    assert done.err.count("\n") == 1
    assert names(tmp_path) == []
    assert not output("report", OLMOE, *QUICK, "--out", str(tmp_path / "a.md"))


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_is_replaced_whole_if_asked_and_a_failure_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("old")
    command = ("report", OLMOE, *QUICK, "--out", str(path))
    assert refusal(*command) == f"out={shown(str(path))}: exists; --force replaces it"

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        failed = run(*command, "--force")
    assert (failed.code, failed.out) == (1, "")
    told = f"error: out={shown(str(path))}: cannot be written: No space left on device\n"
    assert failed.err == told
    assert names(tmp_path) == [path.name]
    assert path.read_text() == "old"
    assert not output(*command, "--force")
    assert names(tmp_path) == [path.name]
    assert path.read_bytes() != b"old"


def test_a_report_is_never_written_over_what_it_reads(tmp_path: Path) -> None:
    kept, recording = tmp_path / "kept.json", tmp_path / "recording.json"
    save(usual(), OutputFile(path=kept))
    recording.write_bytes((RECORDINGS / f"h200-{OLMOE}.json").read_bytes())
    texts = (kept.read_bytes(), recording.read_bytes())
    measured = ("report", OLMOE, "--recording", str(recording), "--contents", "measured")
    for command, out in ((("report", str(kept)), kept), (measured, recording)):
        told = refusal(*command, "--out", str(out), "--force")
        assert told.endswith("is an input of this command, and no input is written over")
    assert (kept.read_bytes(), recording.read_bytes()) == texts


def test_a_model_may_be_a_file_of_its_own(tmp_path: Path) -> None:
    """A config.json beside the JSON of a report: they are told apart by what they hold."""
    config = Path(__file__).parents[1] / "data" / "hf"
    path = next(iter(sorted(config.glob("*.json"))))
    out = tmp_path / "a.json"
    assert not output("report", str(path), *QUICK, "--out", str(out))
    assert len(report(out).steps) == 1
