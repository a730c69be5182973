"""Measured gathers from host memory: the curve goes through them, rises, obeys the datasheet."""

import numpy as np
import pytest

from costmodel.costs.link_times import FOLDER, LinkTimes, link_times
from costmodel.errors import InputError
from costmodel.inputs.hardware import hardware_names, load_hardware
from costmodel.recordings.host_rows import Gather, load_host_rows

LARGE = 2**33  # bytes of the largest measured table


def times() -> LinkTimes:
    found = link_times("h200")
    assert found is not None
    return found


GATHERS = times().measured.gathers


@pytest.mark.parametrize("gather", GATHERS, ids=lambda g: f"{g.rows}x{g.row_bytes}-{g.table_bytes}")
def test_the_curve_goes_through_the_measured_points(gather: Gather) -> None:
    """But for those that fall as rows get wider, by noise, whose times share their mean."""
    found = times().gather_s(gather.rows, gather.row_bytes, gather.table_bytes)
    falls = gather.rows <= 96 or gather.row_bytes <= 768
    assert found == pytest.approx(gather.host_s, rel=0.04 if falls else 1e-12)


def test_pairs_that_fall_share_their_geometric_mean() -> None:
    """Of 1 GiB, 96 rows: 6.4 us at 256 bytes, 5.9 at 768; 32,768 rows do not fall."""
    found = {(g.rows, g.row_bytes): g.host_s for g in GATHERS if g.table_bytes == 2**30}
    assert found[96, 256] > found[96, 768]
    mean = (found[96, 256] * found[96, 768]) ** 0.5
    assert times().gather_s(96, 256, 2**30) == pytest.approx(mean, rel=1e-12)
    assert times().gather_s(32_768, 768, 2**30) == pytest.approx(found[32_768, 768], rel=1e-12)


def test_short_rows_of_a_larger_table_take_longer() -> None:
    """Log t is linear in the log of the table's bytes; beyond the measured sizes it stays."""
    gib = [times().gather_s(8192, 256, size) for size in (2**30, 2**32, LARGE)]
    assert gib == pytest.approx([109.2e-6, 241.6e-6, 271.6e-6], rel=1e-3)
    middle = times().gather_s(8192, 256, 2**31)
    assert middle == pytest.approx((gib[0] * gib[1]) ** 0.5, rel=1e-12)
    assert times().gather_s(8192, 256, 2**20) == gib[0]
    assert times().gather_s(8192, 256, 2**40) == gib[2]


def test_more_rows_and_wider_rows_never_take_less() -> None:
    rows = np.geomspace(1, 1e7, 200)
    widths = (16, 100, 264, 300, 320, 500, 768, 1000, 1536, 1537, 2048, 17_920)
    grid = np.array([times().gather_s(rows, width, LARGE) for width in widths])
    assert (np.diff(grid, axis=1) >= 0).all()
    assert (np.diff(grid, axis=0) >= -1e-12 * grid[:-1]).all()
    alone = [[times().gather_s(float(n), width, LARGE) for n in rows] for width in widths]
    assert grid == pytest.approx(np.array(alone), rel=1e-12)


def test_beyond_the_measured_points() -> None:
    """A row of 9,216 bytes counts as three of 3,072; short rows take what 256 bytes take."""
    link = times()
    assert link.gather_s(128, 9216, LARGE) == pytest.approx(link.gather_s(384, 3072, LARGE))
    assert link.gather_s(8192, 64, LARGE) == link.gather_s(8192, 256, LARGE)
    most = link.gather_s(131_072, 1536, LARGE)
    assert link.gather_s(2 * 131_072, 1536, LARGE) == pytest.approx(2 * most, rel=1e-12)
    # of no rows no time, of half an expected row half of one's, which is the shortest measured
    assert link.gather_s(0, 256, LARGE) == 0
    assert link.gather_s(0.5, 256, LARGE) == pytest.approx(link.gather_s(1, 256, LARGE) / 2)


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
    line = next(line for line in text.splitlines(keepends=True) if '"row_bytes": 256' in line)
    path = FOLDER.__class__(str(tmp_path)) / "h200.json"
    path.write_text(text.replace(line, ""))
    with pytest.raises(InputError, match="gathers: hold 119 points"):
        load_host_rows(path)
