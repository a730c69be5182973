"""A benchmark that is cut off has kept what it finished."""

import json
from pathlib import Path

import pytest

from benchmarks import report as module
from benchmarks.report import Case, Report


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "circumstances", dict)


def test_a_case_is_on_the_disk_before_the_next_one_begins(tmp_path: Path) -> None:
    out = tmp_path / "out.json"

    def cut_off(case: Case) -> None:
        case("first", lambda: {"us": {"median": 2.0}, "bytes": 8})
        assert json.loads(out.read_text())["steps"]["first"]["us"]["median"] == 2.0
        raise KeyboardInterrupt

    report = Report([str(out), "steps", "model=a"])
    report.data["ceilings"] = [{"copy_bytes_per_s": 4e6, "product_flops_per_s": 1.0}]
    with pytest.raises(KeyboardInterrupt):
        report.phase("steps", cut_off)
    first = json.loads(out.read_text())["steps"]["first"]
    assert first["reference_us"] == 2.0  # 8 bytes at 4 bytes a microsecond
    assert first["ratio"] == 1.0
    assert report.models == ["a"]


def test_a_failure_is_kept_as_its_text_and_other_phases_are_left_out(tmp_path: Path) -> None:
    def fails(case: Case) -> None:
        case("bad", lambda: {"us": 1 / 0})
        case("good", lambda: {"us": 1})

    report = Report([str(tmp_path / "out.json"), "steps"])
    report.phase("layers", fails)
    report.phase("steps", fails)
    assert "layers" not in report.data
    assert report.data["steps"]["bad"] == {"error": "ZeroDivisionError: division by zero"}
    assert report.data["steps"]["good"] == {"us": 1}
