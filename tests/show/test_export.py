"""Files of records: what is written is what is read back, and nothing is left half-written."""

import csv
import json
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.errors import InputError, WorkError, shown
from costmodel.inputs.output_file import OutputFile
from costmodel.show import export

pq = pytest.importorskip("pyarrow.parquet")

RECORDS: list[dict[str, Any]] = [
    {"model": "a, b", "batch": 1, "floor_s": 0.1, "fits": True, "rows": None, "drop": -5},
    {"model": 'say "x"', "batch": 2**53, "floor_s": 1e-300, "fits": False, "rows": 1.5, "drop": 0},
    {"model": "ünï\n漢字", "batch": 2**63 - 1, "floor_s": -2.5, "fits": True, "rows": 3, "drop": 7},
]
SUFFIXES = (".csv", ".json", ".parquet")
EVERY = pytest.mark.parametrize("suffix", SUFFIXES)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_json(path: Path) -> list[dict[str, Any]]:
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document.keys() == {"schema_version", "rows"}
    assert document["schema_version"] == 1
    rows = document["rows"]
    assert isinstance(rows, list)
    return rows


def write_parts(parts: Iterable[export.Part], path: Path) -> None:
    export.write_parts(parts, OutputFile(path=path, force=True))


def write_records(records: list[dict[str, Any]], path: Path) -> None:
    export.write_records(records, OutputFile(path=path, force=True))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refusal(records: list[dict[str, Any]], path: Path) -> str:
    with pytest.raises(InputError) as caught:
        write_records(records, path)
    return str(caught.value)


def test_json_reads_back_equal(tmp_path: Path) -> None:
    write_records(RECORDS, tmp_path / "a.json")
    assert read_json(tmp_path / "a.json") == RECORDS
    types = [[type(value) for value in row.values()] for row in read_json(tmp_path / "a.json")]
    assert types == [[type(value) for value in row.values()] for row in RECORDS]


def test_parquet_reads_back_equal(tmp_path: Path) -> None:
    write_records(RECORDS, tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.to_pylist() == RECORDS
    assert {name: str(table.schema.field(name).type) for name in ("batch", "floor_s", "fits")} == {
        "batch": "int64",
        "floor_s": "double",
        "fits": "bool",
    }


def test_csv_reads_back_as_the_same_text(tmp_path: Path) -> None:
    write_records(RECORDS, tmp_path / "a.csv")
    rows = read_csv(tmp_path / "a.csv")
    assert rows[0] == {
        "model": "a, b",
        "batch": "1",
        "floor_s": "0.1",
        "fits": "True",
        "rows": "",
        "drop": "-5",
    }
    assert [row["model"] for row in rows] == [row["model"] for row in RECORDS]
    assert [float(row["floor_s"]) for row in rows] == [row["floor_s"] for row in RECORDS]
    assert [int(row["batch"]) for row in rows] == [row["batch"] for row in RECORDS]


@given(
    st.lists(
        st.tuples(
            st.integers(),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(st.characters(exclude_categories=("Cs", "Cc"))),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_number_is_exact_in_csv_and_json(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[int, float, str]]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    records = [{"count": a, "share": b, "name": c} for a, b, c in values]
    write_records(records, folder / "a.json")
    assert read_json(folder / "a.json") == records
    write_records(records, folder / "a.csv")
    for record, row in zip(records, read_csv(folder / "a.csv"), strict=True):
        assert int(row["count"]) == record["count"]
        assert float(row["share"]) == record["share"]
        assert row["name"].removeprefix("'") == str(record["name"]).removeprefix("'")


@pytest.mark.parametrize(
    "text",
    [
        "=cmd()",
        " =1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "=",
        "-",
        '=HYPERLINK("x","y")',
        *(
            "\uff1dcmd()",
            "\uff0b1",
            "\uff0d1",
            "\uff20SUM(A1)",
            "\ufe661",
            "\ufe621",
            "\ufe631",
            "\ufe6bA",
        ),
        *("\u3000=1", "\xa0=1", "\u200b=1", "\ufeff=1", "\n=1", " \u3000\uff1d1"),
    ],
)
def test_text_that_a_spreadsheet_would_run_is_quoted_in_csv(tmp_path: Path, text: str) -> None:
    records = [{"model": text, "n": -1.5, "count": -3, "big": -(2**70)}]
    write_records(records, tmp_path / "a.csv")
    assert read_csv(tmp_path / "a.csv") == [
        {"model": f"'{text}", "n": "-1.5", "count": "-3", "big": "-1180591620717411303424"}
    ]
    write_records(records, tmp_path / "a.json")
    assert read_json(tmp_path / "a.json") == records


@pytest.mark.parametrize(
    "text", ["olmoe-1b-7b", "a=b", "1+1", "x@y", "'", "", "n/a", "\uff21=1", "\u6f22=1"]
)
def test_other_text_stays_as_it_is(tmp_path: Path, text: str) -> None:
    write_records([{"model": text, "n": 1}], tmp_path / "a.csv")
    assert read_csv(tmp_path / "a.csv") == [{"model": text, "n": "1"}]


@pytest.mark.parametrize("number", [2**63, 2**64, -(2**63) - 1, 10**40])
@pytest.mark.parametrize("others", [[], [1], [None]])
def test_an_integer_beyond_int64_is_exact_or_refused(
    tmp_path: Path, number: int, others: list[int | None]
) -> None:
    records = [{"flops": value} for value in (*others, number)]
    for suffix in (".csv", ".json"):
        write_records(records, tmp_path / f"a{suffix}")
    assert int(read_csv(tmp_path / "a.csv")[-1]["flops"]) == number
    assert read_json(tmp_path / "a.json") == records
    path = tmp_path / "a.parquet"
    try:
        write_records(records, path)
    except InputError as error:
        assert "cannot be written: Parquet holds integers of up to 38 digits" in str(error)  # noqa: PT017
        assert abs(number) >= 10**38
        assert not path.exists()
    else:
        assert [row["flops"] for row in pq.read_table(path).to_pylist()] == [*others, number]


def test_no_rows_make_a_file_without_rows(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        write_records([], tmp_path / f"a{suffix}")
    assert (tmp_path / "a.csv").read_text() == ""
    assert read_json(tmp_path / "a.json") == []
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 0


@EVERY
def test_parts_are_joined_and_a_suffix_may_be_in_capitals(tmp_path: Path, suffix: str) -> None:
    parts = ({key: [value] for key, value in record.items()} for record in RECORDS)
    write_parts(parts, tmp_path / f"a{suffix.upper()}")
    write_records(RECORDS, tmp_path / f"b{suffix}")
    first, second = tmp_path / f"a{suffix.upper()}", tmp_path / f"b{suffix}"
    if suffix == ".parquet":
        assert pq.read_table(first) == pq.read_table(second)
    else:
        assert first.read_bytes() == second.read_bytes()


@EVERY
def test_a_file_is_replaced_whole_and_has_the_usual_mode(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("old " * 10_000)
    write_records(RECORDS[:1], path)
    assert names(tmp_path) == [path.name]
    usual = tmp_path / "usual"
    usual.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)
    assert b"old" not in path.read_bytes()


class StopError(Exception):
    """What goes wrong in the middle of writing."""


@EVERY
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), ValueError("odd")])
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, suffix: str, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("old")

    def broken(_: object, file: BinaryIO) -> None:
        file.write(b"half")
        raise failure

    monkeypatch.setitem(export._WRITERS, suffix, broken)
    reason = getattr(failure, "strerror", None) or str(failure)
    expected = WorkError if isinstance(failure, OSError) else InputError
    with pytest.raises(expected) as caught:
        write_records(RECORDS, path)
    assert str(caught.value) == f"out={shown(str(path))}: cannot be written: {reason}"
    assert names(tmp_path) == [path.name]
    assert path.read_text() == "old"


@EVERY
@pytest.mark.parametrize("failure", [StopError, KeyboardInterrupt, MemoryError])
def test_an_interrupted_writer_leaves_no_file_behind(
    tmp_path: Path, suffix: str, failure: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object, file: BinaryIO) -> None:
        file.write(b"half")
        raise failure

    monkeypatch.setitem(export._WRITERS, suffix, broken)
    with pytest.raises(failure):
        write_records(RECORDS, tmp_path / f"a{suffix}")
    assert names(tmp_path) == []


@EVERY
def test_parts_that_fail_to_come_touch_no_file(tmp_path: Path, suffix: str) -> None:
    def parts() -> Iterator[dict[str, list[int]]]:
        yield {"n": [1] * 100_000}
        raise StopError

    path = tmp_path / f"a{suffix}"
    path.write_text("old")
    with pytest.raises(StopError):
        write_parts(parts(), path)
    assert names(tmp_path) == [path.name]
    assert path.read_text() == "old"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\udcff"])
def test_what_json_cannot_hold_is_refused_or_escaped(tmp_path: Path, value: object) -> None:
    path = tmp_path / "a.json"
    if isinstance(value, str):
        write_records([{"n": value}], path)
        assert path.read_bytes().isascii()
    else:
        assert "not JSON compliant" in refusal([{"n": value}], path)
        assert not path.exists()


def test_bad_paths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    for name, rule in (
        ("a.txt", "ends in one of .csv, .json, .parquet"),
        ("a", "ends in one of"),
        (".csv", "ends in one of"),
        ("a.csv.gz", "ends in one of"),
        ("folder.csv", "is a directory"),
        ("none/a.csv", "cannot be written: No such file or directory"),
        ("file/a.csv", "cannot be written: Not a directory"),
        ("x" * 300 + ".csv", "cannot be written: File name too long"),
        ("nul\0.csv", "cannot be written: embedded null byte"),
    ):
        message = refusal(RECORDS, tmp_path / name)
        assert message.startswith("out='/")
        assert rule in message, name
    assert names(tmp_path) == ["file", "folder.csv", "loop.csv"]


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 251 + ".csv")
    write_records(RECORDS, path)
    assert len(read_csv(path)) == 3


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    message = refusal(RECORDS, tmp_path / "a.parquet")
    assert 'pip install "sparsecost[dashboard]"' in message
    assert names(tmp_path) == []
