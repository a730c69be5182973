"""Every page in a real browser: it draws, a link restores it, and nonsense does no harm."""

from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest

from costmodel.inputs.catalog import load_model
from dashboard.app.entry import PAGES
from dashboard.app.own_model import model_text, packed
from dashboard.app.widgets import WORD_JOINER
from tests import slowness
from tests.browser.page import Tab
from tests.browser.server import Server
from tests.browser.targets import open_first_page
from tests.sentences import says

TITLES = {name: title for name, title, _ in PAGES}
NAMES = tuple(TITLES)
QUIET_S = 2.5  # of the server's processor time for the first page
NARROW = 800  # pixels
MOST_TABS = 40  # from the top of the page to the batch
HOSTILE = (
    "<script>window.pwned=1</script><img src=x onerror='window.pwned=1'>"
    " http://e.eu a@e.eu :rocket: :material/home:"
)


def hostile_link() -> str:
    """A link's model of that name."""
    text = model_text(load_model("ultramemv2-227m-1.2b"))
    own = text.replace(load_model("ultramemv2-227m-1.2b").name, HOSTILE)
    assert HOSTILE in own
    link = packed(own)
    assert link is not None
    return link


def pwned(tab: Tab) -> bool:
    return bool(tab.page.evaluate("() => window.pwned !== undefined"))


def test_the_first_page_is_complete_without_runaway_work_of_the_server(
    new_tab: Callable[[], Tab], server: Server
) -> None:
    tab = new_tab()  # without a cache, as at a first visit
    start_s = server.cpu_s()
    open_first_page(tab)
    took_s = server.cpu_s() - start_s
    print(f"first page complete after {took_s:.2f} s of the server's processor time")
    slowness.check(took_s, QUIET_S)


@pytest.mark.parametrize("name", NAMES)
def test_every_page_draws_its_query_in_a_narrow_window_without_an_error_or_an_outside_request(
    tab: Tab, server: Server, name: str
) -> None:
    """At its own address, with a memory model, whose tables and charts are the widest."""
    tab.page.set_viewport_size({"width": NARROW, "height": 900})
    tab.open_link(f"{server.url}/{name}?batch=17&model=ultramemv2-227m-1.2b")
    assert tab.page.locator('[aria-current="page"]').first.inner_text() == TITLES[name]
    assert (tab.value("batch"), tab.value("model")) == ("17", "ultramemv2-227m-1.2b")
    assert not tab.page.get_by_text("Page not found").count()
    main = tab.page.locator('[data-testid="stMain"]')
    assert main.evaluate("e => [e.scrollWidth - e.clientWidth, window.innerWidth]") == [0, NARROW]
    assert tab.title()
    assert tab.page.locator('[data-testid="stAlertContentError"]').count() == 0
    for picture in tab.page.locator('[data-testid="stPlotlyChart"]').all():
        assert picture.get_by_role("img").count() or picture.get_attribute("aria-label")
    tab.check()


def test_the_memory_bar_is_red_where_the_step_does_not_fit(tab: Tab) -> None:
    colours = []
    for batch in ("64", "4096"):
        tab.open(model="olmoe-1b-7b", batch=batch)
        bar = tab.page.locator('[data-testid="stProgressBarTrack"] > div').first
        colours.append(bar.evaluate("e => getComputedStyle(e).backgroundColor"))
    assert colours[1] == "rgb(213, 94, 0)" != colours[0]


def test_the_keyboard_alone_changes_the_workload(tab: Tab) -> None:
    tab.open()
    batch = tab.at("batch").locator("input")
    for _ in range(MOST_TABS):
        tab.page.keyboard.press("Tab")
        if batch.evaluate("e => e === document.activeElement"):
            break
    tab.page.keyboard.press("Control+A")
    tab.page.keyboard.type("17")
    tab.change(lambda: tab.page.keyboard.press("Enter"))
    assert "batch 17 " in tab.subtitle()


def test_the_pages_are_reached_from_the_top(tab: Tab) -> None:
    tab.open()
    for name, label, _ in PAGES[1:]:
        tab.go(label)
        assert f"/{name}" in tab.page.url
    tab.check()


def test_a_copied_link_opens_the_same_view_in_another_browser(new_tab: Callable[[], Tab]) -> None:
    first = new_tab().open()
    first.choose("model", "qwen3-30b-a3b")
    first.write("batch", "17")
    first.choose("gpu", "b200")
    first.page.locator("summary", has_text="Formats, routing").click()
    first.segment("routing", "zipf")
    first.write("exponent", "0.8")
    first.segment("ex_by", "FLOPs")
    first.write("ex_prompt", "777")
    second = new_tab().open_link(first.page.url)
    assert second.title() == first.title()
    assert second.subtitle() == first.subtitle()
    assert "batch 17 " in second.subtitle()
    assert second.value("model") == "qwen3-30b-a3b"
    assert second.value("gpu") == "b200"
    assert float(second.value("exponent")) == 0.8
    assert second.chosen("ex_by") == "FLOPs"
    assert second.value("ex_prompt") == "777"


def test_the_sidebar_and_the_pages_controls_travel_with_the_link(
    new_tab: Callable[[], Tab],
) -> None:
    first = new_tab().open("compare", batch="3", gpu="h100-sxm")
    first.segment("cmp_over", "context")
    second = new_tab().open_link(first.page.url)
    assert second.value("batch") == "3", (first.page.url, second.page.url)
    assert second.chosen("cmp_over") == "context"
    assert second.title() == first.title()


def test_a_name_with_markup_is_text_on_every_page(tab: Tab) -> None:
    tab.open(own=hostile_link(), model="your own")
    assert HOSTILE in tab.title().replace(WORD_JOINER, "")
    for _, label, _ in PAGES[1:]:
        tab.go(label)
        assert tab.value("model") == "your own"
        assert not pwned(tab), label
        assert not tab.page.locator('a[href*="e.eu"]').count(), label


def asked(url: str) -> dict[str, list[str]]:
    """The keys of an address, with the texts of each."""
    return parse_qs(urlsplit(url).query, keep_blank_values=True)


@pytest.mark.parametrize(
    "query",
    [
        {"batch": "-5", "gpu": "../../etc/passwd", "model": "<img src=x>"},
        {"batch": "1e99", "context": "nan", "routing": "' OR 1=1 --", "own": "AAAA"},
        {"phase": "", "backend": "x", "attention": "x", "logits": "x", "unknown": "x"},
    ],
    ids=["beyond the rules", "no numbers", "no choices"],
)
def test_an_address_with_nonsense_opens_what_is_nearest(tab: Tab, query: dict[str, str]) -> None:
    batch = 1 if query.get("batch") == "-5" else 64  # the end of the range, else the usual value
    tab.open("explore", **query)
    assert tab.title().startswith("UltraMemV2-1B/7B (reconstruction): ")
    assert says(tab.subtitle(), "decode", batch, 2048)
    told = tab.page.locator('[data-testid="stAlert"]').all_inner_texts()
    assert len([text for text in told if "In the address: " in text]) == len(query)
    used = {"batch": ["1"]} if batch == 1 else {}
    unread = [f"{key}:{text}" for key, text in query.items()]
    tab.page.wait_for_url(lambda url: {*asked(url).get("unread", [])} == {*unread}, timeout=30_000)
    assert asked(tab.page.url) == {"unread": asked(tab.page.url)["unread"], **used}
    tab.change(tab.page.go_back)  # the nonsense is in the history, and the controls are drawn
    assert says(tab.subtitle(), "decode", batch, 2048)
    tab.check()


@pytest.mark.parametrize("name", ["compare", "tradeoffs", "measured", "report"])
def test_nonsense_in_the_address_of_another_page_is_no_exception(tab: Tab, name: str) -> None:
    nonsense = {"batch": "1e99", "gpu": "../../etc/passwd", "model": "<img src=x>"}
    for key in ("cmp_models", "cmp_over", "to_x", "to_batch", "rec", "rec_batch", "rep_batches"):
        nonsense[key] = "../../etc/passwd"
    tab.open(name, **nonsense)
    assert not pwned(tab)
