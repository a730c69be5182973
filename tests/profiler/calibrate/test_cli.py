"""`sparsecost calibrate`, the measurement itself replaced."""

import builtins
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from costmodel.errors import InputError, WorkError
from costmodel.recordings.calibration import load_calibration_file
from profiler.calibrate import cli as calibrate_cli
from profiler.calibrate.calibration import CalibrationResult, calibrate
from tests.profiler.calibrate.fake_cuda import SHAPES, FakeInstruments, Said

INSTALLS = r'pip install "sparsecost\[gpu\]"'


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, str]]:
    """An H200 that is measured at once, in an empty folder; the names and presets asked for."""
    asked = []

    def at_once(path: Path, preset: str) -> CalibrationResult:
        asked.append((path.stem, preset))
        return calibrate(FakeInstruments(), SHAPES, Said(), name=path.stem, hardware=preset)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(calibrate_cli, "_gpu_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(calibrate_cli, "_measure", at_once)
    return asked


def test_the_file_is_named_after_the_preset_of_the_gpu(
    measured: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    calibrate_cli.calibrate()
    assert measured == [("h200", "h200")]
    written = load_calibration_file(Path("h200.json"))
    assert (written.name, written.hardware) == ("h200", "h200")
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == ("Use it with: sparsecost predict MODEL --calibration h200.json")
    assert "1.1 us" in out
    assert err == ""


def test_name_and_preset_may_be_given(
    measured: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    calibrate_cli.calibrate(out="mine", hardware="B200", as_json=True)
    assert measured == [("mine", "b200")]
    assert load_calibration_file(Path("mine.json")).hardware == "b200"
    assert json.loads(capsys.readouterr().out)["launch"] == {"graph_s": 1.1e-6, "eager_s": 4.8e-6}


@pytest.mark.parametrize(
    ("options", "field"), [({"hardware": "h300"}, "hardware='h300'"), ({"out": "a/b"}, "out='a/b'")]
)
def test_mistakes_are_told_before_anything_is_measured(
    measured: list[tuple[str, str]], options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InputError, match=field):
        calibrate_cli.calibrate(**options)
    assert measured == []
    assert list(Path().iterdir()) == []


def test_a_gpu_that_no_preset_describes_is_not_measured(
    measured: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate_cli, "_gpu_name", lambda: "Tesla T4")
    with pytest.raises(InputError, match=r"no preset matches 'Tesla T4'.*CONTRIBUTING"):
        calibrate_cli.calibrate()
    assert measured == []


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to"), "does another process hold"),
        (torch.AcceleratorError("CUDA error: unspecified\nfor debugging"), "unspecified$"),
    ],
)
def test_a_gpu_that_fails_outside_a_point_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, message: str
) -> None:
    def fails() -> None:
        raise failure

    monkeypatch.setattr("profiler.calibrate.cuda.CudaInstruments", fails)
    with pytest.raises(WorkError, match=message):
        calibrate_cli._measure(Path("h200.json"), "h200")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_message_says_what_to_install() -> None:
    with pytest.raises(WorkError, match=f"finds no NVIDIA GPU.*{INSTALLS}"):
        calibrate_cli.calibrate()


def test_without_torch_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def lacking(name: str, *rest: Any) -> object:  # noqa: ANN401 - as __import__ takes them
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return usual(name, *rest)

    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(WorkError, match=f"calibrate needs torch; .*{INSTALLS}"):
        calibrate_cli.calibrate()
