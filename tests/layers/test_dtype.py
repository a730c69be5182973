"""Bytes of a stored row, scales and zero points by hand, and the names users write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.errors import InputError
from costmodel.layers.dtype import (
    DTYPES,
    MAX_GROUP,
    MIN_GROUP,
    Dtype,
    default_kv_dtype,
    parse_dtype,
    parse_kv_dtype,
)


def parsed(text: str) -> Dtype:
    return parse_dtype(text, field="dtype")


@pytest.mark.parametrize(
    ("text", "cols", "row_bytes"),
    [
        ("fp32", 192, 192 * 4),
        ("bf16", 192, 192 * 2),
        ("fp16", 5, 10),
        ("fp8", 192, 192 + 4),  # one 32-bit scale a row
        ("fp8:64", 192, 192 + 3 * 4),
        ("fp8:64", 193, 193 + 4 * 4),  # the 193rd element opens a group
        ("int8", 192, 192 + 2),  # one 16-bit scale a row
        ("int8:128", 192, 192 + 2 * 2),
        # int4: 16-bit scale and 4-bit zero point, 20 bits a group, whole bytes a row
        ("int4", 128, (128 * 4 + 20 + 4) // 8),  # 532 bits: 66.5 bytes, so 67
        ("int4", 192, (192 * 4 + 2 * 20) // 8),  # 808 bits: 101
        ("int4", 129, (129 * 4 + 2 * 20 + 4) // 8),  # 556 bits: 70
        ("int4", 256, (256 * 4 + 2 * 20) // 8),  # 1064 bits: 133
        ("int4", 1, 3),  # 24 bits
        ("int4:32", 192, (192 * 4 + 6 * 20) // 8),  # 888 bits: 111
        ("int4:32", 33, (33 * 4 + 2 * 20 + 4) // 8),  # 172 bits: 22
        ("int4:65536", 192, (192 * 4 + 20 + 4) // 8),  # 788 bits: 99
    ],
)
def test_bytes_of_a_row_by_hand(text: str, cols: int, row_bytes: int) -> None:
    assert parsed(text).row_bytes(cols) == row_bytes


@pytest.mark.parametrize(
    ("text", "rows", "cols", "matrix_bytes"),
    [
        ("bf16", 3, 5, 30),
        ("fp8", 3, 5, 3 * (5 + 4)),
        ("mxfp4", 2, 2880, 2 * (1440 + 90)),  # 90 groups of 32, a scale of 8 bits each
        ("mxfp4", 1, 33, (33 * 4 + 2 * 8 + 4) // 8),  # 148 bits: 19
        ("nvfp4", 2, 32, 2 * (16 + 2) + 8),  # 2 fp8 scales a row; two fp32 scalars a matrix
        ("fp8:tensor", 3, 5, 15 + 4),
        ("int8:tensor", 3, 5, 15 + 4),
        ("fp8:128x128", 128, 128, 128 * 128 + 4),
        ("fp8:128x128", 129, 257, 129 * 257 + 2 * 3 * 4),  # blocks at both edges
        ("fp8:16x64", 33, 64, 33 * 64 + 3 * 4),
    ],
)
def test_bytes_of_a_matrix_by_hand(text: str, rows: int, cols: int, matrix_bytes: int) -> None:
    assert parsed(text).matrix_bytes(rows, cols) == matrix_bytes


def test_gptq_keeps_an_index_for_each_input() -> None:
    gptq = Dtype(name="int4", bits=4, group=128, scale_bits=16, zero_bits=4, column_bits=32)
    assert gptq.matrix_bytes(10, 256) == 10 * 133 + 256 * 4
    assert gptq.row_bytes(256) == 133


def test_a_row_by_itself_keeps_nothing_of_a_whole_matrix() -> None:
    assert parsed("fp8:tensor").row_bytes(64) == 64  # of a cache: no scale a token and head
    assert parsed("fp8").row_bytes(64) == 64 + 4
    assert parsed("nvfp4").row_bytes(32) == 18
    assert parsed("fp8:16x64").row_bytes(65) == 65 + 2 * 4


@given(rows=st.integers(1, 900), cols=st.integers(1, 900), block=st.integers(8, 300))
def test_blocks_cover_a_matrix(rows: int, cols: int, block: int) -> None:
    blocks = len(
        {(r // block, c // (2 * block)) for r in range(0, rows, block) for c in range(cols)}
    )
    dtype = parsed(f"fp8:{block}x{2 * block}")
    assert dtype.matrix_bytes(rows, cols) == rows * cols + 4 * blocks


@given(cols=st.integers(1, 5000), group=st.integers(MIN_GROUP, 300))
def test_a_group_of_a_row_is_a_row_of_that_group(cols: int, group: int) -> None:
    bits = 0
    for start in range(0, cols, group):  # group by group, in bits
        bits += 4 * min(group, cols - start) + 16 + 4
    assert parsed(f"int4:{group}").row_bytes(cols) == (bits + 7) // 8


@given(cols=st.integers(4, 2**20), group=st.integers(32, MAX_GROUP))
def test_fewer_bits_are_never_more_bytes(cols: int, group: int) -> None:
    int4, fp8, bf16 = (parsed(t).row_bytes(cols) for t in (f"int4:{group}", "fp8", "bf16"))
    assert int4 <= fp8 <= bf16 < parsed("fp32").row_bytes(cols)
    assert parsed("int8").row_bytes(cols) <= fp8


def test_int4_in_groups_of_eight_may_exceed_fp8() -> None:
    # 4 + 20/8 = 6.5 bits an element: below 8 for long rows. fp8:8 takes 8 + 32/8 = 12.
    assert parsed("int4:8").row_bytes(1024) == 1024 * 13 // 16
    assert parsed("fp8:8").row_bytes(1024) == 1024 * 12 // 8


@pytest.mark.parametrize("name", DTYPES)
def test_plain_names_are_found_and_label_themselves(name: str) -> None:
    assert parsed(name) is DTYPES[name]
    assert parsed(name).name == name
    assert parsed(DTYPES[name].label) == DTYPES[name]


def test_labels_state_the_group() -> None:
    assert [parsed(t).label for t in ("bf16", "fp8", "int8", "int4", "int4:32", "fp8:128")] == [
        "bf16",
        "fp8",
        "int8",
        "int4:128",
        "int4:32",
        "fp8:128",
    ]


def test_descriptions_state_scales_and_zero_points() -> None:
    assert parsed("bf16").described == "16 bits"
    assert parsed("fp8").described == "8 bits with a 32-bit scale per row"
    assert parsed("fp8:tensor").described == "8 bits with 32 bits per tensor"
    assert parsed("fp8:128x64").described == "8 bits with a 32-bit scale per block of 128 x 64"
    assert (
        parsed("nvfp4").described
        == "4 bits with an 8-bit scale per 16 elements and 64 bits per tensor"
    )
    assert parsed("int8:64").described == "8 bits with a 16-bit scale per 64 elements"
    assert (
        parsed("int4").described
        == "4 bits with a 16-bit scale and a 4-bit zero point per 128 elements"
    )


@pytest.mark.parametrize(
    "text",
    ["", "bf17", "BF16", "bf16:32", "fp32:8", "int4:", "int4:x", "int4:-8", "int4:8.0", ":32",
     "int4:tensor", "int4:8x8", "mxfp4:32", "fp8:128x", "fp8:x128", "fp8:8x8x8", "fp8:Tensor",
     "int4: 32", "int4:\u0663\u0662", "int4:9999999", "fp8:128:4", "int4:+32"],
)  # fmt: skip
def test_other_names_are_refused_with_the_list(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parsed(text)
    assert f"dtype={text!r}" in str(caught.value)
    for name in DTYPES:
        assert name in str(caught.value)


@pytest.mark.parametrize("text", ["int4:7", "int4:0", "int8:1", "fp8:65537", "fp8:7x8", "fp8:8x7"])
def test_a_group_out_of_bounds_is_refused_with_the_bounds(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_dtype(text, field="kv_dtype")
    assert str(caught.value) == f"kv_dtype={text!r}: a group holds 8 to 65536 elements"


@pytest.mark.parametrize(
    ("weights", "cache"),
    [
        ("mxfp4", "bf16"),
        ("fp8:tensor", "bf16"),
        ("bf16", "bf16"),
        ("fp32", "fp32"),
        ("fp16", "fp16"),
        ("int4:32", "bf16"),
    ],
)
def test_a_cache_is_as_wide_as_the_weights_unless_they_are_quantised(
    weights: str, cache: str
) -> None:
    assert default_kv_dtype(parsed(weights)).name == cache


@pytest.mark.parametrize(
    "text",
    [*DTYPES, "int4:32", "int8:64", "fp8:128x128", "int8:16x64", "fp8:tensor", "int8:tensor"],
)
def test_a_label_reads_back_as_the_same_format(text: str) -> None:
    assert parsed(parsed(text).label) == parsed(text)


def test_blocks_are_no_format_of_a_cache() -> None:
    assert parse_kv_dtype("fp8:tensor", field="kv_dtype") == parsed("fp8:tensor")
    with pytest.raises(InputError, match="kv_dtype='fp8:128x128': blocks of rows are of weights"):
        parse_kv_dtype("fp8:128x128", field="kv_dtype")
