"""Measured gathers from host memory: the curve goes through them, rises, obeys the datasheet."""

import numpy as np
import pytest

from costmodel.costs.link_times import FOLDER, LinkTimes, link_times
from costmodel.errors import InputError
from costmodel.inputs.hardware import hardware_names, load_hardware
from costmodel.recordings.host_rows import Gather, load_host_rows

NARROW = (264, 320)  # whose times differ by noise alone: where they fall, both get their mean


def times() -> LinkTimes:
    found = link_times("h200")
    assert found is not None
    return found


GATHERS = times().measured.gathers


@pytest.mark.parametrize("gather", GATHERS, ids=lambda g: f"{g.rows}x{g.row_bytes}")
def test_the_curve_goes_through_the_measured_points(gather: Gather) -> None:
    near = 0.04 if gather.row_bytes in NARROW else 1e-12
    assert times().gather_s(gather.rows, gather.row_bytes) == pytest.approx(gather.host_s, rel=near)


def test_pairs_that_fall_share_their_geometric_mean() -> None:
    assert times().gather_s(24, 264) == pytest.approx((3.4e-6 * 3.2e-6) ** 0.5, rel=1e-12)
    assert times().gather_s(196_608, 320) == pytest.approx(6582.6e-6, rel=1e-12)  # does not fall


def test_more_rows_and_wider_rows_never_take_less() -> None:
    rows = np.geomspace(1, 1e7, 200)
    widths = (16, 100, 264, 300, 320, 500, 768, 1000, 1536, 1537, 2048, 17_920)
    grid = np.array([times().gather_s(rows, width) for width in widths])
    assert (np.diff(grid, axis=1) >= 0).all()
    assert (np.diff(grid, axis=0) >= -1e-12 * grid[:-1]).all()
    alone = [[times().gather_s(float(n), width) for n in rows] for width in widths]
    assert grid == pytest.approx(np.array(alone), rel=1e-12)


def test_beyond_the_measured_points() -> None:
    # a row of 4,608 bytes counts as three of 1,536; short rows take what 264 bytes take
    assert times().gather_s(128, 4608) == pytest.approx(15.6e-6, rel=1e-12)
    assert times().gather_s(6144, 64) == times().gather_s(6144, 264)
    assert times().gather_s(2 * 196_608, 1536) == pytest.approx(2 * 6989.0e-6, rel=1e-12)
    # of no rows no time, of half an expected row half of one's, which is the shortest measured
    assert times().gather_s(0, 264) == 0
    assert times().gather_s(0.5, 264) == pytest.approx(times().gather_s(1, 264) / 2)


def test_no_measurement_beats_the_datasheet_of_its_link() -> None:
    gpu = load_hardware("h200")
    assert gpu.link is not None
    assert gpu.link.name == times().measured.link
    for gather in GATHERS:
        assert gather.rows * gather.row_bytes / gather.host_s < gpu.link.bytes_per_s
        assert gather.hbm_s < gather.host_s
    for copy in times().measured.copies:
        assert copy.bytes_per_s < gpu.link.bytes_per_s


def test_a_file_stands_under_the_name_of_its_gpu() -> None:
    for path in FOLDER.glob("*.json"):
        assert load_host_rows(path).hardware == path.stem
        assert path.stem in hardware_names()
    assert link_times("h100-sxm") is None
    assert link_times("../host_rows/h200") is None


def test_a_grid_with_a_hole_is_refused(tmp_path: object) -> None:
    text = (FOLDER / "h200.json").read_text()
    line = '    {"row_bytes": 264, "rows": 24, "host_s": 3.4e-06, "hbm_s": 1.9e-06},\n'
    path = FOLDER.__class__(str(tmp_path)) / "h200.json"
    path.write_text(text.replace(line, ""))
    with pytest.raises(InputError, match="gathers: hold 23 points"):
        load_host_rows(path)
