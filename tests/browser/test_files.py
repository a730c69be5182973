"""Files that come into the app and leave it: a real config.json, and every format of a report."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from costmodel.inputs.catalog import load_model
from costmodel.questions.match import match
from tests.browser.page import Tab
from tests.browser.test_pages import HOSTILE, hostile_link, pwned
from tests.commands import output
from tests.dashboard.reports import workbook

QWEN = Path(__file__).parents[1] / "data" / "hf" / "qwen3-30b-a3b.json"


def downloaded(tab: Tab, suffix: str, key: str = "") -> bytes:
    """The file behind a button: one of the page Report, unless told by its key."""
    with tab.page.expect_download() as told:
        tab.at(key or f"rep_get_{suffix}").get_by_role("button").first.click()
    assert told.value.suggested_filename.endswith(f".{suffix}")
    return Path(told.value.path()).read_bytes()


def opened_offline(tab: Tab, html: bytes, folder: Path) -> list[str]:
    """Open a downloaded page from the disk without a network; its errors and what it asks for."""
    file = folder / "report.html"
    file.write_bytes(html)
    wrong: list[str] = []
    tab.page.context.set_offline(True)
    page = tab.page.context.new_page()
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda asked: (
            None
            if asked.url.startswith((file.as_uri(), "data:", "blob:"))
            else wrong.append(asked.url)
        ),
    )
    page.goto(file.as_uri())
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    assert not page.evaluate("() => window.pwned !== undefined")
    return wrong


def test_an_uploaded_config_becomes_the_model_and_its_link_carries_it(
    new_tab: Callable[[], Tab],
) -> None:
    tab = new_tab().open(ex_own="true")
    upload = tab.at("own_file").locator("input[type=file]")
    tab.change(lambda: upload.set_input_files(QWEN))
    tab.press("own_use")
    assert tab.title().startswith("qwen3-30b-a3b: ")
    assert tab.value("model") == "your own"
    other = new_tab().open_link(tab.page.url)
    assert other.title() == tab.title()


@pytest.mark.parametrize(
    ("view", "key", "most"), [("measured", "rec_file", "16.0MB"), ("explore", "own_file", "1.0MB")]
)
def test_an_upload_of_50_mb_is_refused_by_its_size(
    tab: Tab, tmp_path: Path, view: str, key: str, most: str
) -> None:
    file = tmp_path / "large.json"
    file.write_bytes(b" " * 50_000_000)
    tab.open(view, ex_own="true")
    title = tab.title()
    if view == "measured":
        tab.page.get_by_role("button", name="Upload", exact=True).first.click()
    tab.at(key).locator("input[type=file]").set_input_files(file)
    tab.at(key).get_by_text(f"File must be {most} or smaller").wait_for()
    assert tab.title() == title


def test_every_download_of_the_report_opens_with_the_numbers_of_predict(
    tab: Tab, tmp_path: Path
) -> None:
    said = json.loads(output("predict", "olmoe-1b-7b", "--batch", "7", "--json"))
    expected = {operator["path"]: operator["compulsory_bytes"] for operator in said["operators"]}
    tab.open("report", model="olmoe-1b-7b", batch="7", context=str(said["workload"]["context"]))
    assert opened_offline(tab, downloaded(tab, "html"), tmp_path) == []
    tab.page.context.set_offline(False)
    assert "layers.0.attention_norm" in downloaded(tab, "md").decode().replace("\\", "")
    frames = (
        pd.read_csv(BytesIO(downloaded(tab, "csv"))),
        pd.read_parquet(BytesIO(downloaded(tab, "parquet"))),
    )
    for frame in frames:
        bytes_by_path = dict(zip(frame["path"], frame["compulsory_bytes"], strict=True))
        assert bytes_by_path == pytest.approx(expected, rel=1e-12)
    sheets = workbook(downloaded(tab, "xlsx"))
    assert in_sheets(sheets) == pytest.approx(expected, rel=1e-9)
    steps = json.loads(downloaded(tab, "json"))["steps"]
    assert in_json(steps) == pytest.approx(expected, rel=1e-12)


def test_the_toml_of_match_reads_back_as_the_model_found(tab: Tab, tmp_path: Path) -> None:
    tab.open("tradeoffs", to_what="match", to_target="olmoe-1b-7b", to_template="ultramemv2-1b-7b")
    file = tmp_path / "matched.toml"
    file.write_bytes(downloaded(tab, "toml", "to_toml"))
    answer = match(load_model("olmoe-1b-7b"), load_model("ultramemv2-1b-7b"))
    read = load_model(str(file))
    assert read == answer.model
    sizes = " and ".join(f"{name}={after:,}" for name, (_, after) in answer.fields.items())
    assert tab.title().endswith(sizes)


def in_sheets(sheets: dict[str, list[list[Any]]]) -> dict[str, float]:
    """Compulsory bytes by operator, from the sheet that has such columns."""
    for rows in sheets.values():
        for place, header in enumerate(rows):
            if {"path", "compulsory_bytes [B]"} <= set(header):
                path, number = header.index("path"), header.index("compulsory_bytes [B]")
                return {row[path]: row[number] for row in rows[place + 1 :] if row[path]}
    raise AssertionError(f"no sheet of operators among {list(sheets)}")


def in_json(steps: list[dict[str, Any]]) -> dict[str, float]:
    """Compulsory bytes by operator of the only step."""
    (step,) = steps
    return {operator["path"]: operator["compulsory_bytes"] for operator in step["operators"]}


def test_a_name_with_markup_is_text_in_the_report(tab: Tab, tmp_path: Path) -> None:
    tab.open("report", own=hostile_link(), model="your own")
    html = downloaded(tab, "html")
    assert HOSTILE.encode() not in html
    assert opened_offline(tab, html, tmp_path) == []
    assert not pwned(tab)
