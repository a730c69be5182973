"""Counts, lists, routings and workloads as they are typed."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.errors import InputError
from costmodel.inputs.parse import (
    MAX_LIST,
    parse_batches,
    parse_contexts,
    parse_count,
    parse_routing,
    parse_workload,
    split_routings,
)
from costmodel.inputs.workload import MAX_BATCH, MAX_CONTEXT, Workload
from costmodel.layers.dtype import DTYPES, KV_LAYOUTS
from costmodel.layers.formats import Formats
from costmodel.routing.by_population import ByPopulation
from costmodel.routing.histogram import Histogram
from costmodel.routing.ngrams import OrderLaw, ZipfByOrder
from costmodel.routing.popularity import Uniform, Zipf


def count(text: str) -> int:
    return parse_count(text, field="n", low=1, high=1000)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("1000", 1000), (" 7 ", 7), ("1_000", 1000), ("007", 7), ("\t64\n", 64)],
)
def test_whole_numbers(text: str, value: int) -> None:
    assert count(text) == value


NO_COUNTS = [
    "",
    " ",
    "_",
    "0",
    "1001",
    "-1",
    "+1",
    "1.0",
    "1e2",
    "0x1",
    "1 0",
    "1k",
    "1,000",
    "1\0",
    "_1",
    "1_",
    "1__0",
]
NO_NUMBERS = ["nan", "inf", "True", "None", "[1]", "\u0663", "\u00b2", "\x1b[31m"]
TOO_LONG = ["9" * 5000, "1" + "0" * 400, "0" * 5000]


@pytest.mark.parametrize("text", [*NO_COUNTS, *NO_NUMBERS, *TOO_LONG])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        count(text)
    message = str(caught.value)
    assert message.startswith("n='")
    assert message.endswith(": must be a whole number from 1 to 1,000")
    assert message.isprintable()
    assert len(message) < 150


@given(st.integers(min_value=0, max_value=MAX_CONTEXT))
def test_every_context_in_bounds_is_taken(value: int) -> None:
    assert parse_contexts(str(value)) == parse_contexts(f"{value:_}") == (value,)


@given(st.text())
def test_any_text_gives_a_count_or_an_input_error(text: str) -> None:
    try:
        assert 1 <= count(text) <= 1000
    except InputError as error:
        assert str(error).isprintable()  # noqa: PT017


def test_lists_keep_their_order() -> None:
    assert parse_batches("64,1, 16 ,4_096") == (64, 1, 16, 4096)
    assert parse_contexts("0,2048") == (0, 2048)


def test_bounds_themselves_are_taken() -> None:
    assert parse_batches(f"1,{MAX_BATCH}") == (1, MAX_BATCH)
    assert parse_contexts(f"0,{MAX_CONTEXT}") == (0, MAX_CONTEXT)
    for text in ("0", str(MAX_BATCH + 1)):
        with pytest.raises(
            InputError, match=f"batch='{text}': must be a whole number from 1 to 1,048,"
        ):
            parse_batches(text)
    for text in ("-1", str(MAX_CONTEXT + 1)):
        with pytest.raises(
            InputError, match=f"context='{text}': must be a whole number from 0 to 134,"
        ):
            parse_contexts(text)


@pytest.mark.parametrize(
    "text", ["", ",", "1,", ",1", "1,,2", "1;2", "1 2", "1-", "1/2", "1-4/0", "1,x"]
)
def test_a_list_holds_numbers_alone(text: str) -> None:
    with pytest.raises(InputError, match=r"batch=.*: must be a whole number from 1 to 1,048,576"):
        parse_batches(text)


@pytest.mark.parametrize("text", ["4,4", "1,2,01", "1000,1_000", "1, 1"])
def test_a_value_stands_once(text: str) -> None:
    with pytest.raises(InputError, match=f"batch='{text}': a value is listed twice"):
        parse_batches(text)


def test_a_list_has_its_longest() -> None:
    longest = ",".join(map(str, range(MAX_LIST)))
    assert parse_contexts(longest) == tuple(range(MAX_LIST))
    with pytest.raises(InputError, match="context: holds 4,097 values; at most 4,096 are taken"):
        parse_contexts(f"{longest},{MAX_LIST}")
    with pytest.raises(InputError, match="holds 1,000,001 values"):
        parse_contexts("," * 1_000_000)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1-4", (1, 2, 3, 4)),
        ("64-256/64", (64, 128, 192, 256)),
        ("1-8/3", (1, 4, 7)),
        ("5-5", (5,)),
        ("512, 1-2 ,16-32/16", (512, 1, 2, 16, 32)),
        ("1_000 - 3_000 / 1_000", (1000, 2000, 3000)),
    ],
)
def test_a_list_holds_ranges(text: str, values: tuple[int, ...]) -> None:
    assert parse_batches(text) == values


def test_a_range_has_its_rules() -> None:
    assert len(parse_contexts(f"0-{MAX_LIST - 1}")) == MAX_LIST
    for text, rule in (
        ("4-1", "batch='4-1': ends below its beginning"),
        ("2,1-4", "batch='2,1-4': a value is listed twice"),
        ("1-4097", "batch: holds 4,097 values; at most 4,096 are taken"),
        ("1-1000000,1-1000000/2", "batch: holds 1,500,000 values; at most 4,096 are taken"),
        ("1-1048577", "batch='1-1048577': must be a whole number from 1 to 1,048,576, or from"),
    ):
        with pytest.raises(InputError, match=re.escape(rule)):
            parse_batches(text)


def test_the_word_uniform_names_a_routing() -> None:
    assert parse_routing("uniform") == Uniform()
    assert parse_routing("uniform").label == "uniform"


@pytest.mark.parametrize(
    ("text", "exponent", "label"),
    [
        ("zipf:1.0", 1.0, "zipf:1.0"),
        ("zipf:1", 1.0, "zipf:1.0"),
        ("zipf:0", 0.0, "zipf:0.0"),
        ("zipf:-0", 0.0, "zipf:0.0"),
        ("zipf:.75", 0.75, "zipf:0.75"),
        ("zipf:1e-1", 0.1, "zipf:0.1"),
        ("zipf:10", 10.0, "zipf:10.0"),
    ],
)
def test_an_exponent_names_zipfs_law(text: str, exponent: float, label: str) -> None:
    assert parse_routing(text) == Zipf(exponent)
    assert parse_routing(text).label == label


@pytest.mark.parametrize(
    "exponent", ["", "x", "nan", "inf", "1e999", "-1", "10.1", "1_0", " 1", "1,5", "٣", "9" * 5000]
)
def test_other_exponents_are_refused(exponent: str) -> None:
    with pytest.raises(InputError, match=r"routing='zipf:.*exponent must be a number from 0 to 10"):
        parse_routing(f"zipf:{exponent}")


@pytest.mark.parametrize(
    "text", ["", "Uniform", "zipf", "normal:1", "no/such/file.json", "a\0b", "x" * 5000]
)
def test_unknown_words_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="uniform, zipf:EXPONENT or a histogram file"):
        parse_routing(text)


def test_a_path_names_a_histogram(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    section = {"population": 2, "trials": 4, "draws": 1, "counts": [[3, 1], [1, 1]]}
    path.write_text(json.dumps({"schema_version": 1, "source": "by hand", "rows": section}))
    routing = parse_routing(str(path))
    assert isinstance(routing, Histogram)
    assert routing.label == "histogram:trace"
    # Two of four trials leave out an item drawn by 3 of them never, one drawn by 1 in 3 of 6 ways.
    assert routing.expected_distinct(2, 1, 2, kind="rows") == pytest.approx(1.5, rel=1e-15)


def test_each_population_may_have_a_law_of_its_own(tmp_path: Path) -> None:
    both = ByPopulation(experts=Uniform(), rows=Zipf(1.0))
    assert parse_routing("experts=uniform,rows=zipf:1.0") == both
    assert parse_routing("rows=zipf:1,experts=uniform") == both
    assert parse_routing("rows=zipf:1") == both  # what is not named is uniform
    assert both.label == "experts=uniform,rows=zipf:1.0"
    assert parse_routing("experts=zipf:2,rows=zipf:2.0") == Zipf(2.0)
    assert parse_routing("experts=uniform") == Uniform()
    path = tmp_path / "trace.json"
    section = {"population": 2, "trials": 4, "draws": 1, "counts": [[3, 1], [1, 1]]}
    path.write_text(json.dumps({"schema_version": 1, "source": "by hand", "rows": section}))
    measured = parse_routing(f"experts=zipf:1,rows={path}")
    assert measured == ByPopulation(experts=Zipf(1.0), rows=parse_routing(str(path)))
    assert measured.label == "experts=zipf:1.0,rows=histogram:trace"
    path = path.rename(tmp_path / "rows=a.json")
    assert isinstance(parse_routing(str(path)), Histogram)  # a file that exists is that file


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("layers=uniform", "'layers=uniform' is not POPULATION=LAW; populations are experts,"),
        ("experts=uniform,zipf:1", "'zipf:1' is not POPULATION=LAW"),
        ("experts=uniform,", "'' is not POPULATION=LAW"),
        ("Experts=uniform", "populations are experts, rows and ngrams"),
        ("experts=uniform,experts=zipf:1", "names experts twice"),
        ("rows=", "expected uniform, zipf:EXPONENT or a histogram file"),
        ("rows=zipf:11", "the exponent must be a number from 0 to 10"),
        ("ngrams=", "expected uniform, zipf:EXPONENT or a histogram file"),
        ("ngrams=zipf:1/x", "the exponent must be a number from 0 to 10"),
        ("ngrams=zipf:1/", "the exponent must be a number from 0 to 10"),
        ("ngrams=zipf:1@50/1", "at order 1 the token ids are the rows"),
        ("ngrams=zipf:1/1@0", "after @ stands a whole number of n-grams from 1 to 1,000,000,000"),
        ("ngrams=zipf:1/1@", "after @ stands a whole number of n-grams from 1 to 1,000,000,000"),
        ("ngrams=zipf:1/1@1/1@1000000001", "after @ stands a whole number of n-grams from 1 to"),
        ("ngrams=zipf:1/1/1/1/1/1/1/1/1", "has 9 orders; at most 8"),
        ("rows=zipf:1/1", "the exponent must be a number from 0 to 10"),
        ("zipf:1/1,ngrams=uniform", "is not POPULATION=LAW"),
        ("rows=experts=uniform", "expected uniform, zipf:EXPONENT or a histogram file"),
    ],
)
def test_what_names_no_population_and_law_is_refused(text: str, rule: str) -> None:
    with pytest.raises(InputError, match=rf"^routing='.*{rule}"):
        parse_routing(text)


def test_n_grams_may_have_a_law_of_their_own(tmp_path: Path) -> None:
    by_order = ZipfByOrder((OrderLaw(Zipf(1.0)), OrderLaw(Zipf(0.9), 5000), OrderLaw(Zipf(0.8))))
    routing = parse_routing("ngrams=zipf:1/.9@5_000/0.8")
    assert routing == ByPopulation(experts=Uniform(), rows=Uniform(), ngrams=by_order)
    assert routing.label == "experts=uniform,rows=uniform,ngrams=zipf:1.0/0.9@5000/0.8"
    assert parse_routing(routing.label) == routing
    assert parse_routing("ngrams=zipf:1,rows=zipf:1,experts=zipf:1") == Zipf(1.0)
    of_rows = parse_routing("rows=zipf:1")  # which n-grams follow unless named
    assert parse_routing("rows=zipf:1,ngrams=zipf:1.0") == of_rows
    assert parse_routing("rows=zipf:1,ngrams=uniform") != of_rows
    path = tmp_path / "text.json"
    section = {"population": 2, "trials": 4, "draws": 1, "counts": [[3, 1], [1, 1]]}
    path.write_text(
        json.dumps({"schema_version": 1, "source": "by hand", "ngrams": {"2": section}})
    )
    measured = parse_routing(f"ngrams={path}")
    assert measured.label == "experts=uniform,rows=uniform,ngrams=histogram:text"
    # Of four bigrams two leave out the one that comes three times never, the other in 3 of 6 ways.
    rows = measured.expected_distinct_hashed(10, 2, order=2)
    assert rows == pytest.approx(10 * (1 - 0.9**1.5), rel=1e-15)


@pytest.mark.parametrize("text", ["{}", "rows={}", "ngrams={}"])
def test_no_file_is_read_where_the_text_comes_from_outside(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trace.json"
    path.write_text("[]")
    with pytest.raises(InputError, match="holds a list"):
        parse_routing(text.format(path))
    with pytest.raises(InputError, match="expected uniform or zipf:EXPONENT"):
        parse_routing(text.format(path), files=False)


@pytest.mark.parametrize(
    ("text", "routings"),
    [
        ("uniform", ("uniform",)),
        ("uniform,zipf:1.0", ("uniform", "zipf:1.0")),
        ("experts=uniform,rows=zipf:1", ("experts=uniform,rows=zipf:1",)),
        ("uniform,rows=a,experts=b,rows=c,d", ("uniform", "rows=a,experts=b", "rows=c", "d")),
        ("experts=a,experts=b,rows=c", ("experts=a", "experts=b,rows=c")),
        ("experts=a,other=b,rows=c", ("experts=a", "other=b", "rows=c")),
        ("a,,b", ("a", "", "b")),
        ("ngrams=zipf:1/1,rows=b,ngrams=c", ("ngrams=zipf:1/1,rows=b", "ngrams=c")),
    ],
)
def test_a_list_of_routings_keeps_populations_together(
    text: str, routings: tuple[str, ...]
) -> None:
    assert split_routings(text) == routings


def workload(**changes: Any) -> Workload:  # noqa: ANN401 - whatever is typed
    typed: dict[str, Any] = {
        "phase": "decode",
        "batch": 3,
        "context": 5,
        "dtype": "bf16",
        "kv_dtype": None,
        "routing": Zipf(1.0),
    }
    return parse_workload(**(typed | changes))


def test_what_is_not_typed_is_the_phases_default() -> None:
    bf16 = DTYPES["bf16"]
    decode = Workload(batch=3, context=5, routing=Zipf(1.0), formats=Formats(default=bf16))
    assert workload() == decode
    assert workload(phase="prefill").new_tokens == 2048
    assert workload(phase="prefill", new_tokens=7).new_tokens == 7


def test_every_typed_value_reaches_the_workload() -> None:
    typed = workload(
        phase="prefill",
        new_tokens=9,
        dtype="int8",
        kv_dtype="fp16",
        attention_flops="full",
        logits="all",
        mla="absorbed",
        window_cache="whole",
        backend="fused",
    )
    assert typed == Workload(
        phase="prefill",
        batch=3,
        context=5,
        new_tokens=9,
        formats=Formats(default=DTYPES["int8"]),
        kv_dtype=DTYPES["fp16"],
        routing=Zipf(1.0),
        attention_flops="full",
        logits="all",
        mla="absorbed",
        window_cache="whole",
        backend="fused",
    )


@pytest.mark.parametrize(
    ("dtype", "kv_dtype", "cache"),
    [
        ("fp32", None, "fp32"),
        ("fp8", None, "bf16"),
        ("int4:32", None, "bf16"),
        ("bf16", "fp8", "fp8"),
        ("fp8", "fp8_ds_mla", "fp8_ds_mla"),
    ],
)
def test_the_cache_has_the_format_of_the_weights_unless_they_are_quantised(
    dtype: str, kv_dtype: str | None, cache: str
) -> None:
    assert workload(dtype=dtype, kv_dtype=kv_dtype).kv_dtype == (DTYPES | KV_LAYOUTS)[cache]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "bf17"}, "dtype='bf17': is one of fp32, bf16"),
        ({"kv_dtype": ""}, "kv_dtype='': is one of fp32, bf16"),
        ({"new_tokens": 2}, "new_tokens=2: is 1 in a decode step"),
        ({"batch": 0}, "batch=0: Input should be greater than or equal to 1"),
        ({"context": MAX_CONTEXT + 1}, "context=134217729: Input should be less than or equal to"),
        ({"backend": "xla"}, "backend='xla': Input should be 'torch' or 'fused'"),
    ],
)
def test_a_workload_names_field_value_and_rule(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        workload(**changes)
    assert str(caught.value).startswith(message)
