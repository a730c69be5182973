"""Placements and sizes as users type them."""

import pytest

from costmodel.errors import InputError
from costmodel.inputs.parse import parse_placed, parse_size
from costmodel.layers.placement import IN_HBM, Placement


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GB", 2 * 10**9),
        ("1.5 TB", 1_500_000_000_000),
        ("512GiB", 512 * 2**30),
        ("100b", 100),
        (".5kB", 500),
        (" 3MiB ", 3 * 2**20),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text, field="hot_rows") == size


@pytest.mark.parametrize("text", ["", "2", "2G", "GB", "-1GB", "1e9B", "2GBps", "0B", "9999999TB"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"hot_rows=.*: must be a size from 1B to 1,000,000TB"):
        parse_size(text, field="hot_rows")


def test_placements() -> None:
    assert parse_placed(None) == IN_HBM
    assert not IN_HBM.moves
    assert IN_HBM.label == "tables=hbm"
    one = parse_placed("memory.values=disk,tables=host", hot_rows="1GB", host_memory="2TB")
    assert one == Placement(
        tables="host",
        leaves=(("memory.values", "disk"),),
        hot_rows_bytes=10**9,
        host_memory_bytes=2 * 10**12,
    )
    assert one.label == "tables=host,memory.values=disk"
    assert (one.of("memory.values"), one.of("memory.pre_values")) == ("disk", "host")
    assert parse_placed("b=host,a=hbm") == parse_placed("a=hbm,b=host")  # in any order
    assert not parse_placed("a=hbm").moves
