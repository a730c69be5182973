"""Numbers as people read them, worked out by hand."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel import units


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (1, "1"),
        (1.5, "1.5"),
        (0.027134, "0.02713"),
        (1097.4, "1097"),
        (9999.6, "10000"),
        (123456, "123500"),
        (1e22, "10000000000000000000000"),
        (-2.5, "-2.5"),
        (0.00001234567, "0.00001235"),
        (1e-12, "0.000000000001"),
        (99.995, "100"),
    ],
)
def test_four_significant_digits(value: float, text: str) -> None:
    assert units.significant(value) == text


def test_other_numbers_of_digits() -> None:
    assert units.significant(0.123456, 2) == "0.12"
    assert units.significant(1234567, 6) == "1234570"


@given(st.floats(min_value=1e-300, max_value=1e300), st.integers(min_value=1, max_value=8))
def test_no_exponent_and_no_more_than_the_digits_are_lost(value: float, digits: int) -> None:
    text = units.significant(value, digits)
    assert set(text) <= set("0123456789.")
    assert float(text) == pytest.approx(value, rel=10.0 ** (1 - digits))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "n/a"),
        (0, "0 B"),
        (1, "1 B"),
        (0.25, "0.25 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (4_190_000_000, "4.19 GB"),
        (1e12, "1 TB"),
        (2.5e15, "2.5 PB"),
        (4.377e18, "4.377 EB"),
        (10**22, "10000 EB"),
        (-1500, "-1.5 kB"),
        (np.float64(2e6), "2 MB"),
    ],
)
def test_traffic_is_si(value: float | None, text: str) -> None:
    assert units.traffic(value) == text


def test_flops_and_rates() -> None:
    assert units.flops(9_368_000_000) == "9.368 GFLOP"
    assert units.flops(None) == "n/a"
    assert units.scaled(989.4e12, "FLOP/s") == "989.4 TFLOP/s"
    assert units.scaled(4.8e12, "B/s") == "4.8 TB/s"
    assert units.scaled(700, "W") == "700 W"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "n/a"),
        (0, "0"),
        (1_234_567, "1,234,567"),
        (64.0, "64"),
        (63.999, "64.00"),
        (1234.5, "1,234.50"),
        (2**70, "1,180,591,620,717,411,303,424"),
        (np.int64(1024), "1,024"),
    ],
)
def test_counts_are_whole_or_have_two_decimals(value: float | None, text: str) -> None:
    assert units.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1 k"),
        (227_400_000, "227.4 M"),
        (6_919_161_856, "6.919 B"),
        (671_026_419_200, "671 B"),
        (1_000_000_000_000, "1 T"),
        (10**17, "100000 T"),
    ],
)
def test_parameters_are_in_millions_and_billions(value: int, text: str) -> None:
    assert units.parameters(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "n/a"),
        (0, "0.00 GiB"),
        (5000, "4.883 KiB"),
        (2**20, "1 MiB"),
        (100 * 2**20, "100 MiB"),
        (128 * 2**20, "0.12 GiB"),
        (2**30, "1.00 GiB"),
        (141_000_000_000, "131.32 GiB"),
        (2**50, "1,048,576.00 GiB"),
    ],
)
def test_capacities_are_in_gib_and_never_read_0_unless_they_are(
    value: int | None, text: str
) -> None:
    assert units.capacity(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "n/a"),
        (912_000, "912000 s"),
        (1.0, "1 s"),
        (0.9, "900 ms"),
        (1.2345e-3, "1.234 ms"),
        (1.2346e-3, "1.235 ms"),
        (2.5e-6, "2.5 us"),
        (3e-9, "3 ns"),
        (0.0, "0 ns"),
        (1e-13, "0.0001 ns"),
    ],
)
def test_times(value: float | None, text: str) -> None:
    assert units.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "n/a"),
        (4.44, "4.440x"),
        (1.0, "1.000x"),
        (0.993, "0.9930x"),
        (0.99996, "1.000x"),
        (12.345678, "12.35x"),
        (1234.5, "1234x"),
        (98765.4, "98770x"),
        (1e-5, "0.00001000x"),
    ],
)
def test_ratios_keep_small_differences_visible(value: float | None, text: str) -> None:
    assert units.ratio(value) == text


@given(st.floats(min_value=0, max_value=1e30))
def test_traffic_reads_back(value: float) -> None:
    factors = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}

    number, unit = units.traffic(value).split()
    assert float(number) * factors[unit.removesuffix("B")] == pytest.approx(value, rel=1e-3)


FORMATTED: list[tuple[units.Unit, object, str]] = [
    ("count", 1_234_567, "1,234,567"),
    ("parameters", 6_919_161_856, "6.919 B"),
    ("parameters", 227_400_000.0, "227.4 M"),
    ("tokens", 2048, "2,048"),
    ("flops", 9_368_000_000, "9.368 GFLOP"),
    ("bytes", 4_190_000_000, "4.19 GB"),
    ("capacity", 2**30, "1.00 GiB"),
    ("s", np.float64(0.9), "900 ms"),
    ("j", 0.49403, "0.494 J"),
    ("w", 700, "700 W"),
    ("usd", 0.0000024081, "0.000002408 USD"),
    ("share", 0.40812, "40.8 %"),
    ("percent", 0.27387, "+0.274 %"),
    ("percent", -0.30317, "-0.303 %"),
    ("ratio", 4.44, "4.440x"),
    ("tokens_per_s", 862.94, "862.9 tok/s"),
    ("flops_per_s", 989.4e12, "989.4 TFLOP/s"),
    ("bytes_per_s", 4.8e12, "4.8 TB/s"),
    ("bool", True, "yes"),
    ("bool", np.bool_(0), "NO"),
    ("text", "memory", "memory"),
]


@pytest.mark.parametrize(("unit", "value", "text"), FORMATTED)
def test_each_unit_has_one_form(unit: units.Unit, value: float, text: str) -> None:
    assert units.formatted(value, unit) == text
    assert units.formatted(None, unit) == "n/a"


def test_every_unit_is_among_them() -> None:
    assert {unit for unit, *_ in FORMATTED} == set(get_args(units.Unit))


@pytest.mark.parametrize(
    ("unit", "prefix", "name", "size"),
    [
        ("bytes", "G", "GB", 1e9),
        ("capacity", "Gi", "GiB", 1_073_741_824),
        ("s", "m", "ms", 0.001),
        ("s", "u", "us", 0.000001),
        ("flops", "G", "GFLOP", 1e9),
        ("parameters", "B", "B", 1e9),
        ("share", "", "%", 0.01),
        ("count", "", "count", 1),
        ("j", "", "J", 1),
    ],
)
def test_a_column_has_one_unit(unit: units.Unit, prefix: str, name: str, size: float) -> None:
    assert units.scale(unit, prefix) == (name, size)
