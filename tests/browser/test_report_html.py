"""The HTML report in a browser: charts are drawn, nothing is fetched, no name runs, few pages."""

import re
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser

from costmodel.inputs.output_file import OutputFile
from dashboard.report.charts import charts
from dashboard.report.files import save
from tests.dashboard.reports import HOSTILE, hostile, recorded, usual

MAX_PAGES, MAX_BYTES = 8, 1_500_000


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
    page.locator("#no-charts").wait_for(state="hidden")
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


def test_two_models_with_all_sections_and_recordings_print_on_at_most_eight_pages(
    chromium: Browser, tmp_path: Path
) -> None:
    """At two batches, with what was measured of both models: more than a usual report holds."""
    path = tmp_path / "report.html"
    save(recorded(), OutputFile(path=path))
    assert path.stat().st_size <= MAX_BYTES
    context = chromium.new_context()
    page = context.new_page()
    page.goto(path.as_uri())
    page.locator("#no-charts").wait_for(state="hidden")
    for paper in ("A4", "Letter"):
        printed = page.pdf(format=paper, prefer_css_page_size=True)
        pages = len(re.findall(rb"/Type\s*/Page\b", printed))
        assert 2 <= pages <= MAX_PAGES, paper
    context.close()


def test_a_bar_says_its_value_under_the_pointer_and_a_legend_hides_its_bars(
    chromium: Browser, tmp_path: Path
) -> None:
    """Offline: the context has no network at all."""
    path = tmp_path / "report.html"
    save(usual(), OutputFile(path=path))
    context = chromium.new_context(offline=True)
    page = context.new_page()
    page.goto(path.as_uri())
    page.locator("#no-charts").wait_for(state="hidden")
    chart = page.locator("#chart-0")
    bars = chart.locator(".barlayer .point")
    drawn = bars.count()
    bars.first.hover(force=True)
    chart.locator(".hoverlayer", has_text="compulsory HBM bytes, GB").wait_for(state="attached")
    chart.locator(".legendtoggle").first.click(force=True)
    page.wait_for_function(
        "before => document.querySelectorAll('#chart-0 .barlayer .point').length < before",
        arg=drawn,
    )
    context.close()
