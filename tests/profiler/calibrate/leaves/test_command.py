"""`sparsecost calibrate --leaves` on a CPU, from the command to the file; and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from costmodel.errors import InputError
from costmodel.recordings.leaf_calibration import load_leaf_calibration
from profiler.calibrate import cli as calibrate_cli
from profiler.calibrate.leaves import command, measure
from profiler.calibrate.leaves.shapes import Shape
from tests.profiler.runs.cases import PREFILL, work
from tests.reference_model.tiny import MOE, small, ultramem_v2

SHAPES = (
    Shape(family="experts", model=small(ffn=MOE), workload=work(batch=5, dtype="bf16")),
    Shape(
        family="memory",
        model=small(ultramem_v2(layers="all")),
        workload=work(**PREFILL, dtype="bf16"),
    ),
)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder, and two tiny shapes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "small_shapes", lambda: SHAPES)
    return tmp_path


def calibrate(**options: Any) -> None:  # noqa: ANN401 - options of the command
    calibrate_cli.calibrate(**({"leaves": "whole", "device": "cpu", "out": "made.json"} | options))


@pytest.mark.slow
def test_two_shapes_are_measured_and_nothing_is_measured_twice(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrate()
    made = load_leaf_calibration(folder / "made.json")
    assert [shape.family for shape in made.shapes] == ["experts", "memory"]
    experts, memory = made.shapes
    paths = {point.path for point in experts.points}
    assert {"embed", "layers.1.moe.router", "layers.1.moe.experts", "lm_head"} <= paths
    assert "layers.1.memory.values" in {point.path for point in memory.points}
    for shape in made.shapes:
        for point in shape.points:
            assert point.work is not None, point.path
            assert point.readings["time"].has_values
            assert not point.readings["counters"].has_values  # of no CPU
    (chosen,) = experts.accesses.values()
    assert chosen.trials == 5
    out, err = capsys.readouterr()
    count = sum(len(shape.points) for shape in made.shapes)
    assert f"2 of 2 shapes, points: {count} by time, 0 by trace, 0 by counters" in out
    assert err.count("time random") + err.count(" time ") >= 2

    def forbidden(*_: object, **__: object) -> None:
        pytest.fail("all is measured")

    monkeypatch.setattr(measure, "LineProcess", forbidden)
    calibrate(resume=True, as_json=True)
    assert json.loads(capsys.readouterr().out)["points"] == {
        "time": count,
        "trace": 0,
        "counters": 0,
    }
    again = load_leaf_calibration(folder / "made.json")
    assert again.shapes == made.shapes


def test_an_interrupt_keeps_what_was_measured(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.profiler.calibrate.leaves.test_journal import SESSION, measured, point

    def interrupted(journal: Any, *_: object) -> None:  # noqa: ANN401
        for event in (SESSION, point(0, "lm_head", 1e-6), measured(0)):
            journal.add(event)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "measure", interrupted)
    with pytest.raises(typer.Exit) as ended:
        calibrate()
    assert ended.value.exit_code == 130
    assert "--resume" in capsys.readouterr().err
    assert len(load_leaf_calibration(folder / "made.json").shapes) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": "made.txt"}, r"out='made.txt': must end in \.json"),
        ({"minutes": "0"}, "minutes='0'"),
        ({"hardware": "h200"}, "leaves=whole: takes no --hardware"),
        ({"force": True}, "leaves=whole: takes no --force"),
        ({"leaves": None, "minutes": "3"}, "minutes: goes with --leaves alone"),
        ({"leaves": None, "backend": "fused"}, "backend: goes with --leaves alone"),
        ({"out": "missing/made.json"}, "missing"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(
    folder: Path, options: dict[str, Any], message: str
) -> None:
    lone = {"device": "cuda"} if "leaves" in options else {}
    with pytest.raises(InputError, match=message):
        calibrate(**lone, **options)
    assert list(folder.iterdir()) == []


def test_files_of_another_occasion_are_not_written_over(folder: Path) -> None:
    (folder / "made.json").write_text("{}")
    with pytest.raises(InputError, match="made"):
        calibrate()
    assert [path.name for path in folder.iterdir()] == ["made.json"]
