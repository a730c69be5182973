"""What is seen without scrolling: the answer, the top of its chart, the way to the other pages.

And whether every text can be read: contrast by WCAG's formula in both themes.
"""

import pytest
from playwright.sync_api import Browser

from dashboard.app.entry import PAGES
from dashboard.app.masthead import WHAT
from tests.browser.contrast import contrast, luminance, too_faint
from tests.browser.page import Tab
from tests.browser.server import Server

NAMES = [name for name, _, _ in PAGES]
SHOWS = {  # by page: what the answer is followed by; else a chart
    "claims": '[data-testid="stDataFrame"]',
    "method": '[data-testid="stTable"]',
    "profile": ".st-key-prof_start button",
}
CHART = '[data-testid="stPlotlyChart"]'
VISIBLE = 40  # pixels of a chart that tell what it shows
BOLD_LINKS = """() => [...document.querySelectorAll('[data-testid="stMain"] a p')]
  .filter(e => e.checkVisibility() && Number(getComputedStyle(e).fontWeight) >= 600)
  .map(e => e.innerText)"""
WINDOWS = [(1440, 900), (1024, 768)]
STATES = [  # of pages beside their first: other charts, messages, a bar that is full
    ("explore", {"batch": "8192", "context": "32768", "model": "none"}),
    ("explore", {"gpu": "b200", "ex_chart": "roofline", "ex_how": "true"}),
    ("tradeoffs", {"to_what": "match"}),
    ("measured", {"rec_chart": "waterfall"}),
    ("claims", {"cl_part": "public measurements"}),
    ("claims", {"cl_part": "accuracy"}),
    ("claims", {"cl_part": "worst predictions"}),
]


@pytest.mark.parametrize("gpu", ["h200", "b200"])
@pytest.mark.parametrize("name", NAMES)
def test_the_answer_and_the_top_of_its_chart_need_no_scrolling(
    tab: Tab, name: str, gpu: str
) -> None:
    tab.open(name, gpu=gpu)
    for width, height in WINDOWS:
        tab.page.set_viewport_size({"width": width, "height": height})
        tab.page.wait_for_timeout(300)  # charts follow the window
        title = tab.page.locator("h1").first.bounding_box()
        shown = tab.page.locator(SHOWS.get(name, CHART)).first.bounding_box()
        assert title is not None
        assert shown is not None
        assert title["y"] + title["height"] <= shown["y"]
        assert shown["y"] + min(VISIBLE, shown["height"]) <= height, (width, shown)


def test_a_match_needs_no_scrolling(tab: Tab) -> None:
    tab.open("tradeoffs", to_what="match")
    for width, height in WINDOWS:
        tab.page.set_viewport_size({"width": width, "height": height})
        tab.page.wait_for_timeout(300)
        shown = tab.page.locator(CHART).first.bounding_box()
        assert shown is not None
        assert shown["y"] + VISIBLE <= height, (width, shown)


def test_a_narrow_window_says_what_it_is_and_leads_to_every_page(tab: Tab) -> None:
    tab.page.set_viewport_size({"width": 480, "height": 900})
    tab.open()
    for _, label, _ in PAGES:
        if label != PAGES[0][1]:
            tab.go(label)
        for text in (
            tab.page.get_by_text(WHAT),
            *(tab.link(name) for _, name, _ in PAGES),
        ):
            box = text.bounding_box()
            assert box is not None, label
            assert 0 <= box["x"] < box["x"] + box["width"] <= 480
            assert box["y"] + box["height"] < 450
        main = tab.page.locator('[data-testid="stMain"]')
        assert main.evaluate("e => e.scrollWidth - e.clientWidth") == 0
        assert tab.page.evaluate(BOLD_LINKS) == [label]


def test_contrast_is_that_of_wcag() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert luminance(255, 0, 0) == 0.2126
    # #767676 on white is the lightest grey that passes, by W3C's own technique G18 and its tools
    assert contrast((118, 118, 118), (255, 255, 255)) == pytest.approx(4.54, abs=0.005)
    assert contrast((119, 119, 119), (255, 255, 255)) < 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(chromium: Browser, server: Server, scheme: str) -> None:
    context = chromium.new_context(
        viewport={"width": 1440, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    tab = Tab(context.new_page(), server.url)
    for name, query in (*((name, {}) for name in NAMES), *STATES):
        tab.open(name, **query)
        tab.page.wait_for_timeout(500)
        assert too_faint(tab) == [], (name, query)
    tab.check()
    context.close()
