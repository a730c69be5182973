"""Names and files that mean harm: in every format a name stays text, and a bad file one line."""

import csv
import json
import re
import zipfile
from collections.abc import Callable
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pytest

from costmodel.errors import InputError
from costmodel.inputs.files import MAX_FILE_BYTES
from dashboard.pages.report.data import file_name
from dashboard.report.charts import charts
from dashboard.report.document import DOCUMENT, load_report, report_json, report_text
from dashboard.report.files import report_bytes
from tests.dashboard.reports import (
    HOSTILE,
    hostile,
    markdown_cells,
    read_page,
    tree,
    usual,
    workbook,
)

pq = pytest.importorskip("pyarrow.parquet")
OURS = re.compile(r"<script(?: [^>]*)?>.*?</script>", re.DOTALL)
TAGS = (
    "html head meta title style body header h1 p nav ul li a main section h2 figure figcaption div"
    " footer script table caption thead tr th tbody td details summary pre"
)


def html() -> str:
    return report_bytes(hostile(), ".html").decode()


def test_html_holds_no_script_and_no_tag_of_a_name() -> None:
    written = html()
    page = read_page(written)
    assert {tag for tag, _ in page.tags} <= set(TAGS.split())
    beside_ours = OURS.sub("", written)
    assert "<script" not in beside_ours
    assert "<img" not in beside_ours
    for name in HOSTILE:
        assert name in page.text or name in " ".join(page.cells)


def test_a_name_ends_no_script_and_opens_no_tag_in_the_charts() -> None:
    """In the raw file: the data of the charts holds neither < nor >."""
    _, data, _ = read_page(html()).scripts
    assert "alert(1)" in data
    assert "<" not in data
    assert ">" not in data
    drawn = json.loads(data)["charts"]
    assert len(drawn) == len(charts(hostile()))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in json.dumps(drawn)


def test_plotly_is_given_names_without_tags_or_entities_of_their_own() -> None:
    drawn = [
        text
        for chart in charts(hostile())
        for trace in chart.figure.data
        for text in (trace.name, *(each for each in trace.y if isinstance(each, str)))
    ]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in drawn
    for text in drawn:
        assert "<" not in text
        assert not re.search(r"&(?!lt;|gt;|amp;)", text)


def test_a_name_is_no_template() -> None:
    assert "{{ 7*7 }}" in read_page(html()).text
    assert "49" not in [cell.strip() for cell in read_page(html()).cells]


def test_markdown_shows_names_as_they_are() -> None:
    written = report_bytes(hostile(), ".md").decode()
    assert not re.search(r"<\w", written)
    assert not re.search(r"(?<!\\)`", written)
    assert not re.search(r"(?<!\\)[\[\]]", written)
    cells = markdown_cells(written)
    for name in HOSTILE[:3]:
        assert name in cells
    widths: set[int] = set()
    for line in written.splitlines():
        if line.startswith("|"):
            widths.add(len(re.findall(r"(?<!\\)\|", line)))
        elif widths:
            assert len(widths) == 1
            widths.clear()


def test_csv_and_parquet_hold_names_as_text(tmp_path: Path) -> None:
    rows = csv.DictReader(StringIO(report_bytes(hostile(), ".csv").decode()))
    names = list(dict.fromkeys(row["model"] for row in rows))
    assert names == [*HOSTILE[:2], f"'{HOSTILE[2]}", HOSTILE[3]]
    (tmp_path / "a.parquet").write_bytes(report_bytes(hostile(), ".parquet"))
    column = pq.read_table(tmp_path / "a.parquet").column("model").to_pylist()
    assert list(dict.fromkeys(column)) == list(HOSTILE)


def test_the_workbook_holds_names_as_text_and_neither_formula_nor_link() -> None:
    """The reader of the tests refuses formulas."""
    data = report_bytes(hostile(), ".xlsx")
    sheets = workbook(data)
    assert {row[0] for row in sheets["Operators"][1:]} == set(HOSTILE)
    assert any(HOSTILE[2] in str(cell) for row in sheets["Method"] for cell in row)
    assert b"hyperlink" not in data
    with zipfile.ZipFile(BytesIO(data)) as file:
        chart = tree(file.read("xl/charts/chart1.xml"))
    names = [part for part in chart.iter() if part.tag.endswith("}ser")]
    formulas = [part.text for part in chart.iter() if part.tag.endswith("}f")]
    assert len(names) == len(HOSTILE)
    assert all(
        re.fullmatch(r"Comparison!\$[A-Z]+\$\d+(:\$[A-Z]+\$\d+)?", each or "") for each in formulas
    )


def test_a_hostile_report_is_rebuilt_too() -> None:
    text = report_text(hostile())
    assert json.loads(text) == report_json(hostile())


def test_the_name_of_a_file_has_no_path_and_no_odd_character() -> None:
    for report in (usual(), hostile()):
        for suffix in (".html", ".xlsx"):
            name = file_name(report, suffix)
            assert re.fullmatch(r"sparsecost-[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}\.\w+", name)
            assert ".." not in name


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "from.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_report(path)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 3000
    return message


def changed(data: dict[str, Any], place: str, value: object) -> None:
    *steps, last = place.split("/")
    at: Any = data
    for step in steps:
        at = at[int(step) if isinstance(at, list) else step]
    if isinstance(at, list):
        at[int(last)] = value
    else:
        at[last] = value


@pytest.mark.parametrize(
    ("place", "value", "rule"),
    [
        ("schema_version", 2, "schema_version=2"),
        ("made", "<b>", "made='<b>'"),
        ("contents", ["summary", "summary"], "hold a section twice"),
        ("contents", ["summary"], "comparison: stands exactly where contents name it"),
        ("contents", ["../etc"], "contents.0='../etc'"),
        ("extra", 1, "extra=1: Unexpected"),
        ("inputs/hardware/hbm_bytes_per_s", 4.8, "hbm_bytes_per_s=4.8"),
        ("inputs/models", [], "inputs.models"),
        ("inputs/models/0/name", "other", "is not one of inputs.models"),
        ("inputs/models/0/name", "a\u202eb", "cannot be printed"),
        ("inputs/models/1/name", "UltraMemV2-1B/7B (reconstruction)", "hold a name twice"),
        ("inputs/price_per_hour", -1.0, "price_per_hour=-1.0"),
        ("inputs/workload/routing", "x\ny", "routing="),
        ("steps", [], "steps=[]"),
        ("steps/0/model", "nobody", "model='nobody': is not one of inputs.models"),
        ("steps/1/model", "UltraMemV2-1B/7B (reconstruction)", "hold a step twice"),
        ("steps/0/batch", "64", "steps.0.batch='64'"),
        ("steps/0/batch", 64.0, "steps.0.batch=64.0"),
        ("steps/0/values", {}, "'flops.total' is missing"),
        ("steps/0/values/more", 1, "'more' is no quantity of a report"),
        ("steps/0/values/flops.total", "=cmd()", "flops.total='=cmd()': is no flops"),
        ("steps/0/values/flops.total", None, "flops.total=None: is no flops"),
        ("steps/0/values/flops.total", True, "flops.total=True: is no flops"),
        ("steps/0/values/flops.total", 10**400, "values.flops.total"),
        ("steps/0/values/flops.total", -1, "values.flops.total"),
        ("steps/0/values/memory.fits", 1, "memory.fits=1: is no bool"),
        ("steps/0/values/time.bound_by", 1, "time.bound_by=1: is no text"),
        ("steps/0/operators", [], "operators=[]"),
        ("steps/0/operators/0/path", "a\x1b[2Jb", "cannot be printed"),
        ("steps/0/operators/0/flops", {"a": 1}, "operators.0.flops"),
        ("steps/0/operators/0/formula", "x" * 5000, "formula"),
        ("comparison/lines/0/model", "nobody", "is not one of inputs.models"),
        ("comparison/findings/0/text", 5, "findings.0.text=5"),
        ("measured/0/unit", "eggs", "measured.0.unit='eggs'"),
        ("measured/0/measured", "7", "measured.0.measured"),
        ("measured/0/model", "nobody", "is not one of inputs.models"),
        ("method/0/text", ["x"], "method.0.text"),
    ],
)
def test_a_report_with_a_field_changed_is_refused_in_one_line(
    tmp_path: Path, place: str, value: object, rule: str
) -> None:
    data = json.loads(report_text(usual()))
    changed(data, place, value)
    assert rule in refusal(written(tmp_path, json.dumps(data)))


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (lambda text: text[: len(text) // 2], "is not JSON"),
        (lambda text: text.replace('"batch":64', '"batch":NaN', 1), "is not finite"),
        (lambda text: text.replace('{"document"', '{"made":1,"document"', 1), "stands twice"),
        (lambda _: f'{{"document": "{DOCUMENT}"}}', "schema_version: is missing"),
        (lambda _: f'{{"document": "{DOCUMENT}", "x": {"[" * 40}{"]" * 40}}}', "nested deeper"),
        (lambda _: b"PK\x03\x04\xff\xfe", "is not UTF-8"),
        (lambda _: b" " * (MAX_FILE_BYTES + 1), "at most"),
        (lambda _: "[]", "an object is expected"),
    ],
)
def test_a_damaged_report_is_refused_in_one_line(
    tmp_path: Path, damage: Callable[[str], str | bytes], rule: str
) -> None:
    assert rule in refusal(written(tmp_path, damage(report_text(usual()))))


def test_another_json_object_is_no_report(tmp_path: Path) -> None:
    assert load_report(written(tmp_path, '{"hidden_size": 8}')) is None
