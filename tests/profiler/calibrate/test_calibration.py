"""What comes out of a calibration: the file, its preset, and what people see."""

import json
from pathlib import Path

import pytest

from costmodel.errors import InputError, WorkError
from costmodel.inputs.output_file import OutputFile
from costmodel.recordings.calibration import Power, load_calibration_file
from profiler.calibrate.calibration import calibrate
from profiler.calibrate.file import calibration_file, calibration_text, write_calibration
from profiler.calibrate.operations import AttentionOperation, RowsOperation, TopKOperation
from profiler.calibrate.preset import matching_presets, preset_of
from profiler.calibrate.summary import summary, summary_table
from tests.profiler.calibrate.fake_cuda import SHAPES, FakeInstruments, Said, done


def test_a_calibration_is_written_and_read_back(tmp_path: Path) -> None:
    said = Said()
    made = done(said=said)
    write_calibration(made.calibration, OutputFile(path=tmp_path / "mine.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.json"]
    assert load_calibration_file(tmp_path / "mine.json") == made.calibration
    assert said.stages == ["launch", *SHAPES, "power"]
    assert said.advanced == 12
    assert made.left_out == 0
    assert made.calibration.power is None
    assert said.messages == ["power: not measured (NVML is not installed)"]


def test_points_hold_their_shape_and_time_one_a_line() -> None:
    lines = calibration_text(done().calibration).splitlines()
    (line,) = [each for each in lines if '"m": 256' in each]
    assert json.loads(line.rstrip(",")) == {
        "s": 1e-6,
        "q1_s": 0.9e-6,
        "q3_s": 1.2e-6,
        "kernels": 2,
        "m": 256,
        "n": 64,
        "k": 32,
    }


def test_conditions_are_those_under_load_from_the_start_on() -> None:
    conditions = done().calibration.conditions
    assert conditions.sm_clock_mhz == 1500.0
    assert conditions.started > "2026-01-01T00:00:00Z"
    assert conditions.warm_up == 3


def test_a_point_that_does_not_fit_is_left_out_and_said() -> None:
    said = Said()
    instruments = FakeInstruments(
        lambda each: isinstance(each, RowsOperation) and each.reads == 64,
    )
    curves = {**SHAPES, "rows": (*SHAPES["rows"], RowsOperation(reads=96, row_bytes=128))}
    made = calibrate(instruments, curves, said, name="mine", hardware="h200")
    assert [point.reads for point in made.calibration.rows] == [32, 96]
    assert made.left_out == 1
    assert "rows: reads=64, row_bytes=256: left out: out of memory" in said.messages


def test_a_curve_of_one_point_is_none() -> None:
    instruments = FakeInstruments(lambda each: isinstance(each, TopKOperation) and each.rows == 1)
    with pytest.raises(WorkError, match=r"^topk: 1 points could be measured; a curve needs two$"):
        done(instruments)


def test_a_calibration_without_prefill_is_none() -> None:
    """Every point that a library refuses is left out: here all of prefill."""
    refuses = FakeInstruments(
        lambda each: isinstance(each, AttentionOperation) and each.queries > 1
    )
    more = AttentionOperation(batch=4, heads=4, kv_heads=2, head_dim=8, queries=1, keys=16)
    curves = {**SHAPES, "attention": (*SHAPES["attention"], more)}
    with pytest.raises(WorkError, match=r"^what was measured is no calibration: attention: holds"):
        calibrate(refuses, curves, Said(), name="mine", hardware="h200")


def test_a_calibration_that_cannot_be_written_leaves_nothing_and_is_not_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken.json").mkdir()
    made = done().calibration
    with pytest.raises(WorkError, match=r"taken\.json.: cannot be written.*is on stdout"):
        write_calibration(made, OutputFile(path=tmp_path / "taken.json"))
    assert capsys.readouterr().out == calibration_text(made)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.json"]


def test_a_name_is_a_file_here_and_a_path_stays_one(tmp_path: Path) -> None:
    for out, path in (
        ("my-h200", Path("my-h200.json")),
        ("my.h200", Path("my.h200.json")),
        (str(tmp_path / "a.json"), tmp_path / "a.json"),
    ):
        assert calibration_file(out, force=False).path == path


def test_an_older_calibration_is_replaced_only_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("older")
    with pytest.raises(InputError, match=r"a\.json': exists; --force replaces it"):
        calibration_file(str(path), force=False)
    made = done().calibration
    write_calibration(made, calibration_file(str(path), force=True))
    assert load_calibration_file(path) == made


@pytest.mark.parametrize("out", ["", "a/b", "..", "nowhere/b.json", "/", "a.json/b"])
def test_what_is_neither_name_nor_path_is_refused(out: str) -> None:
    with pytest.raises(InputError, match=r"^out="):
        calibration_file(out, force=False)


PRESETS = ("a100-80gb", "b200", "gb200-nvl72", "h100-pcie", "h100-sxm", "h200", "l40s", "rtx-4090")


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("NVIDIA H200", ["h200"]),
        ("NVIDIA H200 NVL", []),
        ("NVIDIA H200 MIG 1g.18gb", []),
        ("NVIDIA GH200 480GB", []),
        ("NVIDIA H100 80GB HBM3", ["h100-sxm"]),
        ("NVIDIA H100 PCIe", ["h100-pcie"]),
        ("NVIDIA H100 NVL", []),
        ("NVIDIA A100-SXM4-80GB", ["a100-80gb"]),
        ("NVIDIA A100-SXM4-40GB", []),
        ("NVIDIA A100 80GB PCIe", []),
        ("NVIDIA B200", ["b200"]),
        ("NVIDIA GB200", ["gb200-nvl72"]),
        ("NVIDIA L40S", ["l40s"]),
        ("NVIDIA L40", []),
        ("NVIDIA GeForce RTX 4090", ["rtx-4090"]),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", []),
    ],
)
def test_a_gpu_is_matched_by_the_words_of_its_name(name: str, preset: list[str]) -> None:
    assert matching_presets(name, PRESETS) == preset


def test_a_gpu_without_a_preset_is_refused_with_the_way_out() -> None:
    assert preset_of("NVIDIA H200") == "h200"
    with pytest.raises(InputError, match=r"no preset matches 'Tesla T4'; name one with --hardware"):
        preset_of("Tesla T4")


def test_the_summary_holds_the_best_of_every_curve() -> None:
    """Each point takes 1 us, so the largest is the best, and rates are amounts times 1e6."""
    instruments = FakeInstruments()
    instruments.measured_power = Power(
        idle_w=110.0, copy_w=487.0, copy_bytes_per_s=4e12, gemm_w=689.0, gemm_flops_per_s=7e14
    )
    summed_up = summary(done(instruments), Path("mine.json"))
    assert summed_up["best"] == pytest.approx(
        {
            "copy_bytes_per_s": 2**20 * 1e6,
            "gemm_flops_per_s": 2 * 256 * 64 * 32 * 1e6,
            "skinny_gemm_bytes_per_s": 8 * 16 * 2 * 1e6,
            "grouped_bytes_per_s": 4 * 8 * 8 * 2 * 1e6,
            "rows_bytes_per_s": 64 * 256 * 1e6,
            "decode_attention_bytes_per_s": 2 * 2 * 2 * 16 * 8 * 2 * 1e6,
        }
    )
    assert summed_up["points"] == 12
    assert summed_up["power"] == {"idle_w": 110.0, "copy_w": 487.0, "gemm_w": 689.0}
    shown = summary_table(summed_up)
    assert ("launch, eager", "4.8 us", "the host being the bottleneck") in shown.rows
    assert ("power", "110 W idle", "487 W copy, 689 W gemm") in shown.rows
    assert shown.notes[-1].endswith("sparsecost predict MODEL --calibration mine.json")
