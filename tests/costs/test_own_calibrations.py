"""Calibrations in a folder of one's own: offered by a GPU's name, apart from shipped ones."""

from pathlib import Path

import pytest

from costmodel.costs.calibrations import calibrated, calibration_names, offered_names
from costmodel.costs.kernel_times import Curves
from costmodel.costs.own_calibrations import VARIABLE
from costmodel.errors import InputError
from tests.costs.calibrations import write


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder


def test_a_file_of_the_gpus_name_is_its_calibration(own: Path) -> None:
    assert calibrated("b200") is calibrated("gb10")  # that of another GPU
    write(own / "b200.json", hardware="b200", name="mine")
    curves = calibrated("b200")
    assert isinstance(curves, Curves)
    assert (curves.calibration.name, curves.foreign) == ("mine", False)
    assert calibrated("B200", "own/b200") is curves
    assert offered_names() == (*calibration_names(), "own/b200")
    write(own / "b200.json", hardware="b200", name="changed")
    again = calibrated("b200")
    assert isinstance(again, Curves)
    assert again.calibration.name == "changed"


def test_a_shipped_one_is_not_replaced_but_ones_own_can_be_asked_for(own: Path) -> None:
    write(own / "h200.json", name="mine")
    shipped, mine = calibrated("h200"), calibrated("h200", "own/h200")
    assert isinstance(shipped, Curves)
    assert isinstance(mine, Curves)
    assert shipped.calibration.name == "h200"
    assert mine.calibration.name == "mine"


def test_a_file_measured_on_another_gpu_is_refused(own: Path) -> None:
    write(own / "b200.json", hardware="h200")
    with pytest.raises(InputError, match="was measured on hardware='h200'"):
        calibrated("b200")


@pytest.mark.parametrize(
    "name",
    [
        "own/../secret",
        "own/..",
        "own//secret",
        "own/../mine/../secret",
        "own/secret\0",
    ],
)
def test_no_name_leaves_the_folder(name: str, own: Path) -> None:
    write(own.parent / "secret.json", hardware="b200")
    with pytest.raises(InputError, match=r"calibration=.*is none of your own"):
        calibrated("b200", name)


def test_a_gpu_by_a_hostile_name_finds_nothing(own: Path) -> None:
    write(own.parent / "secret.json", hardware="secret", name="secret")
    for hardware in ("../secret.toml", "mine/../../secret.toml", "../secret"):
        curves = calibrated(hardware)
        assert isinstance(curves, Curves)
        assert curves.foreign
