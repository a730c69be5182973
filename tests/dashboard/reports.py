"""Reports made for tests, and readers of their files that know nothing of the writers."""

import re
import zipfile
from dataclasses import dataclass, field, replace
from functools import cache
from html.parser import HTMLParser
from io import BytesIO
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

from costmodel.costs.calibrations import calibrated
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.recordings.folders import SHIPPED
from costmodel.recordings.recording import load_recording
from costmodel.validation.machines import Gpus
from dashboard.report.build import Asked, build, compared_batches
from dashboard.report.document import Report

MADE = "2026-11-23T06:00:00Z"
ULTRAMEM, OLMOE = "ultramemv2-1b-7b", "olmoe-1b-7b"
RECORDINGS = SHIPPED
HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    '=cmd|" /C calc"!A1',
    "a | b `c` [d](javascript:alert(1)) {{ 7*7 }} %{x}",
)
BUILT_IN = {"3": "#,##0", "4": "#,##0.00", "11": "0.00E+00"}  # formats that Excel numbers itself
SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def asked(*models: ModelConfig, **fields: Any) -> Asked:  # noqa: ANN401 - any field
    given: dict[str, Any] = {
        "models": models or (load_model(ULTRAMEM), load_model(OLMOE)),
        "workload": Workload(),
        "batches": (64,),
        "contexts": (2048,),
        "compared_batches": (1, 64, 1024),
        "hardware": load_hardware("h200"),
        "calibration": calibrated("h200"),
        "gpus": Gpus(),
    }
    return Asked(**(given | fields))


@cache
def usual() -> Report:
    """Two models, a price, and a recording of one."""
    recording = load_recording(RECORDINGS / f"h200-{OLMOE}.json")
    return build(asked(recordings=((OLMOE, recording),), price_per_hour=3.0), MADE)


@cache
def recorded() -> Report:
    """Two models at two batches, each with a recording."""
    recordings = tuple(
        (name, load_recording(RECORDINGS / f"h200-{name}.json")) for name in (ULTRAMEM, OLMOE)
    )
    return build(
        asked(
            batches=(1, 64),
            compared_batches=compared_batches((1, 64)),
            recordings=recordings,
            price_per_hour=3.0,
        ),
        MADE,
    )


@cache
def hostile() -> Report:
    """Models whose names mean harm to HTML, Markdown, templates, charts or spreadsheets."""
    models = [replace(load_model(OLMOE), name=name, source=name, notes=(name,)) for name in HOSTILE]
    return build(asked(*models, compared_batches=(1, 64)), MADE)


def workbook(data: bytes) -> dict[str, list[list[Any]]]:
    """The cells of each sheet: text, numbers as floats, booleans; None where a cell is empty."""
    with zipfile.ZipFile(BytesIO(data)) as file:
        shared = [
            "".join(text.text or "" for text in item.iter(f"{SHEET}t"))
            for item in tree(file.read("xl/sharedStrings.xml"))
        ]
        names = [
            sheet.attrib["name"]
            for sheet in tree(file.read("xl/workbook.xml")).iter(f"{SHEET}sheet")
        ]
        return {
            name: _rows(file.read(f"xl/worksheets/sheet{index}.xml"), shared)
            for index, name in enumerate(names, start=1)
        }


def tree(data: bytes) -> ET.Element:
    return ET.fromstring(data)  # noqa: S314 - what this test wrote


def _rows(data: bytes, shared: list[str]) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for row in tree(data).iter(f"{SHEET}row"):
        cells: dict[int, Any] = {}
        for cell in row:
            assert cell.find(f"{SHEET}f") is None, "a formula"
            value = cell.findtext(f"{SHEET}v")
            assert value is not None
            sort = cell.attrib.get("t")
            content: Any = float(value) if sort is None else value == "1"
            if sort == "s":
                content = shared[int(value)]
            cells[column(re.sub(r"\d", "", cell.attrib["r"]))] = content
        rows.append([cells.get(index) for index in range(max(cells) + 1)])
    return rows


def column(letters: str) -> int:
    """The place of a column that Excel calls by letters."""
    place = 0
    for letter in letters:
        place = place * 26 + ord(letter) - ord("A") + 1
    return place - 1


def formatted_columns(data: bytes, name: str) -> dict[str, set[str]]:
    """The number formats of a sheet's numbers, by the heads of their columns."""
    rows = workbook(data)
    index = [*rows].index(name) + 1
    with zipfile.ZipFile(BytesIO(data)) as file:
        styles = tree(file.read("xl/styles.xml"))
        sheet = tree(file.read(f"xl/worksheets/sheet{index}.xml"))
    own = {
        form.attrib["numFmtId"]: form.attrib["formatCode"] for form in styles.iter(f"{SHEET}numFmt")
    }
    (cells,) = styles.iter(f"{SHEET}cellXfs")
    codes = [
        own.get(style.attrib["numFmtId"], BUILT_IN.get(style.attrib["numFmtId"], ""))
        for style in cells
    ]
    formats: dict[str, set[str]] = {}
    for cell in sheet.iter(f"{SHEET}c"):
        if cell.attrib.get("t") is None:
            head = rows[name][0][column(re.sub(r"\d", "", cell.attrib["r"]))]
            formats.setdefault(head, set()).add(codes[int(cell.attrib.get("s", "0"))])
    return formats


@dataclass
class Page(HTMLParser):
    """What a browser would make of a page: its tags with attributes, scripts, cells and text."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    text: str = ""
    inside: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style", "td"):
            self.inside = tag
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self.inside:
            self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts.append(data)
        elif self.inside == "td":
            self.cells[-1] += data
        elif not self.inside:
            self.text += data


def read_page(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    return page


def markdown_cells(text: str) -> list[str]:
    """The cells of all rows of all tables, without headers, escapes taken back."""
    cells: list[str] = []
    for line, following in pairwise([*text.splitlines(), ""]):
        if line.startswith("| ") and not following.startswith("|--"):
            cells += map(_unescaped, re.split(r"(?<!\\) ?\| ?", line.strip())[1:-1])
    return cells


def _unescaped(cell: str) -> str:
    text = re.sub(r"\\(.)", r"\1", cell)
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
