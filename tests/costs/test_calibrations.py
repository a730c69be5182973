"""Which calibration speaks for a GPU: its own, one that is named, none; and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from costmodel.costs import calibrations as module
from costmodel.costs.calibrations import calibrated, calibration_names
from costmodel.costs.kernel_times import LEAVES, Curves
from costmodel.costs.latency import Unknown
from costmodel.errors import InputError
from costmodel.inputs.hardware import hardware_names
from tests.commands import refusal
from tests.costs.calibrations import attention, table, write


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of shipped calibrations with one for the H200 and one under another name."""
    folder = tmp_path / "calibrations"
    folder.mkdir()
    write(folder / "h200.json")
    write(folder / "h200-cold.json", name="cold")
    monkeypatch.setattr(module, "FOLDER", folder)
    yield folder
    module._shipped.cache_clear()


def name_of(curves: Curves | Unknown) -> str:
    assert isinstance(curves, Curves)
    return curves.calibration.name


@pytest.mark.usefixtures("shipped")
def test_a_gpu_has_its_own_unless_another_is_named() -> None:
    assert calibration_names() == ("h200", "h200-cold")
    assert name_of(calibrated("h200")) == "by hand"
    assert name_of(calibrated("H200")) == "by hand"
    assert name_of(calibrated("h200", "H200-Cold")) == "cold"
    assert calibrated("h200") is calibrated("h200", "h200")  # parsed once


@pytest.mark.usefixtures("shipped")
def test_a_hardware_file_speaks_for_the_preset_of_its_name() -> None:
    assert name_of(calibrated("somewhere/H200.toml")) == "by hand"
    assert calibrated("somewhere/mine.toml") == Unknown(
        reason="no calibration for GPU 'mine'; `sparsecost calibrate` makes one"
    )


def test_without_a_shipped_one_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FOLDER", tmp_path / "missing")
    assert calibration_names() == ()
    assert calibrated("h200") == Unknown(
        reason="no calibration for GPU 'h200'; `sparsecost calibrate` makes one"
    )


@pytest.mark.usefixtures("shipped")
def test_none_is_none() -> None:
    nothing = calibrated("h200", "none")
    assert isinstance(nothing, Unknown)
    assert "--calibration none" in nothing.reason


def test_a_file_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.JSON")
    assert name_of(calibrated("h200", path)) == "by hand"
    write(tmp_path / "mine.JSON", name="changed")
    assert name_of(calibrated("h200", path)) == "changed"


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize("gpu", ["b200", "mine.toml"])
def test_a_calibration_of_another_gpu_is_refused(gpu: str, tmp_path: Path) -> None:
    for asked in ("h200", write(tmp_path / "a.json")):
        with pytest.raises(InputError, match=r"calibration=.*: was measured on hardware='h200'"):
            calibrated(gpu, asked)


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ("h100", r"calibration='h100': is neither one of those shipped \(h200, h200-cold\)"),
        ("", "calibration='': is neither"),
        ("../h200", r"file='../h200': does not exist"),
        ("a.json", r"file='a.json': does not exist"),
        ("\0.json", r"file=.*: does not exist|cannot be read"),
    ],
)
def test_what_does_not_exist_is_refused(asked: str, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        calibrated("h200", asked)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("[]", "an object is expected"),
        ("{}", "schema_version: is missing"),
        ('{"launch": {"graph_s": NaN}}', "not finite"),
    ],
)
def test_a_file_that_is_none_is_refused(text: str, rule: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rule):
        calibrated("h200", str(path))


@pytest.mark.parametrize(
    ("curve", "change", "rule"),
    [
        ("attention", {"queries": 101}, "attention.0: queries=101: exceeds keys=100"),
        ("attention", {"kv_heads": 3}, "attention.0: heads=4: is no multiple of kv_heads=3"),
        ("attention", {"kv_heads": 8}, "attention.0: heads=4: is no multiple of kv_heads=8"),
        ("attention", {"q1_s": 1.0}, "lies outside q1_s=1.0 to"),
        ("topk", {"chosen": 101}, "topk.0: chosen=101: exceeds width=100"),
        ("topk", {"q3_s": 1e-9}, "lies outside q1_s="),
        ("move", {"q1_s": 1.0}, "move.0: s=2e-06: lies outside q1_s=1.0 to q3_s=2e-06"),
        ("gemm", {"q3_s": 1e-9}, "lies outside"),
        ("grouped", {"s": 1e-9}, "lies outside"),
        ("rows", {"s": 1.0}, "rows.0: s=1.0: lies outside"),
        ("move", {"s": 5e-324, "q1_s": 5e-324}, "move.0.s=5e-324: Input should be greater"),
    ],
)
def test_a_point_that_no_kernel_has_is_refused(
    curve: str, change: dict[str, float], rule: str, tmp_path: Path
) -> None:
    """By the command that would predict with it, in one line."""
    points = table()[curve]
    path = write(tmp_path / "bad.json", **{curve: [points[0] | change, *points[1:]]})
    told = refusal("predict", "olmoe-1b-7b", "--phase", "prefill", "--calibration", path)
    assert told.startswith(f"calibration 'bad.json': {curve}.0")
    assert rule in told


def test_as_many_queries_as_keys_are_a_prompt(tmp_path: Path) -> None:
    prompt = attention(5, 1, 100, 100)
    path = write(tmp_path / "a.json", attention=[*table()["attention"], prompt])
    assert name_of(calibrated("h200", path)) == "by hand"


def test_every_shipped_calibration_is_valid_and_named_after_a_gpu() -> None:
    for name in calibration_names():
        assert name.removesuffix(LEAVES) in hardware_names()
        curves = calibrated(name.removesuffix(LEAVES), name)
        assert isinstance(curves, Curves)
        assert curves.name == name


def test_an_alias_of_a_gpu_has_its_calibration() -> None:
    assert calibrated("NVIDIA H200") is calibrated("h200")
