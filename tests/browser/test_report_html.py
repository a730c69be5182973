"""The HTML report in a browser: charts are drawn, nothing is fetched, no name runs."""

from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser

from costmodel.inputs.output_file import OutputFile
from dashboard.report.charts import charts
from dashboard.report.files import save
from tests.dashboard.reports import HOSTILE, hostile, usual


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("names", [(), HOSTILE])
def test_a_report_draws_its_charts_and_fetches_and_runs_nothing_else(
    chromium: Browser, tmp_path: Path, scheme: Literal["light", "dark"], names: tuple[str, ...]
) -> None:
    made = hostile() if names else usual()
    path = tmp_path / "report.html"
    save(made, OutputFile(path=path))
    said: list[str] = []
    fetched: list[str] = []
    context = chromium.new_context(color_scheme=scheme)
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(f"dialog {dialog.message}"))
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(path.as_uri())
    drawn = len(charts(made))
    page.wait_for_function(
        f"document.querySelectorAll('.js-plotly-plot .main-svg').length >= {drawn}"
    )
    assert page.locator(".js-plotly-plot").count() == drawn
    text = page.locator("body").inner_text()
    ticks = page.locator(".ytick text").all_text_contents()
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    context.close()
    assert said == []
    assert fetched == [path.as_uri()]
    for name in names:
        assert name in text
        assert name in ticks
