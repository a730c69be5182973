"""A tab of the dashboard as a person uses it: it opens, changes controls, and waits for the answer.

The tab looks at each frame whether Streamlit has answered and when the answer was drawn; and it
refuses what no page may do: ask another host, or put an error into the console.
"""

import json
import re
import time
from collections.abc import Callable
from typing import cast
from urllib.parse import urlencode, urlsplit

from playwright.sync_api import (
    ConsoleMessage,
    Locator,
    Page,
    TimeoutError,  # noqa: A004 - Playwright's own
    ViewportSize,
)

# Runs are counted by the state of Streamlit's own component: on a busy machine a run begins and
# ends between two frames, and `data-test-script-state` never says that it was running
WATCH = """
window.seen = {clicks: 0, touched: 0, began: 0, runs: 0, idle: false, drawn: null};
for (const kind of ['pointerdown', 'keydown'])
  document.addEventListener(kind, () => { window.seen.touched = performance.now(); }, true);
document.addEventListener('pointerdown', () => { window.seen.clicks += 1; }, true);
const app = () => {
  const root = document.querySelector('[data-testid="stApp"]');
  const key = root && Object.keys(root).find(each => each.startsWith('__reactFiber$'));
  let fiber = key && root[key];
  while (fiber && fiber.stateNode?.state?.scriptRunFinishedSequence === undefined)
    fiber = fiber.return;
  return fiber?.stateNode.state;
};
const look = () => {
  const seen = window.seen, state = app(), runs = state?.scriptRunFinishedSequence ?? 0;
  const idle = runs > 0 && state.scriptRunState === 'notRunning'
    && document.querySelector('[data-testid="stSkeleton"]') === null;
  if (!idle || !seen.idle || runs > seen.runs) seen.drawn = null;
  else seen.drawn ??= performance.now();
  Object.assign(seen, {began: state?.latestRunTime, runs, idle});
  requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""
NOW = "() => ({at: performance.now(), runs: window.seen.runs})"
IDLE = """since => {  // a run began and one ended since then, and all is drawn
  const {began, runs, drawn} = window.seen;
  return began > since.at && runs > since.runs
    && drawn !== null && performance.now() > drawn + 100;
}"""
TOOK_S = "() => (window.seen.drawn - window.seen.touched) / 1000"
APP = '[data-testid="stApp"][data-test-script-state="notRunning"]'
ANSWER = 'h1, [data-testid="stAlert"], [data-testid="stException"]'
SUBTITLE = '[data-testid="stMain"] [data-testid="stText"]'
SIDEBAR_LINK = '[data-testid="stSidebar"] a'
EXCEPTION = '[data-testid="stException"]'
TIMEOUT_MS = 300_000.0  # a limit, not a wait: a first page takes half a minute on two busy cores
CLOSED_MS = 5_000.0  # after which a list of options is taken for closed
EMPTY = "about:blank"
# Where a page is opened by its address, Streamlit looks for its server below that address first
SOUGHT = re.compile(r"http://localhost:\d+/[a-z]+/_stcore/(health|host-config)")


class Tab:
    """One tab, and what went wrong in it."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self._url = page, url
        self.wrong: list[str] = []
        page.set_default_timeout(TIMEOUT_MS)
        page.add_init_script(WATCH)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.wrong.append(f"page error: {error}"))
        page.on("request", lambda request: self._asked(request.url))
        page.on("websocket", lambda socket: self._asked(socket.url))

    def open(self, name: str = "", **query: str) -> "Tab":
        """Open a page by its name, with a query, and wait until it is drawn."""
        path = "" if name == "explore" else name
        return self.open_link(f"{self._url}/{path}?{urlencode(query)}")

    def open_link(self, url: str) -> "Tab":
        """Open an address as it was copied."""
        self.page.goto(url)
        self.page.locator(APP).wait_for()
        self.page.locator(ANSWER).first.wait_for()
        self.page.wait_for_function(IDLE, arg={"at": 0, "runs": 0})
        return self

    def change(self, act: Callable[[], object]) -> float:
        """Do what makes the page draw itself anew; the seconds from touch to drawn."""
        before = self.page.evaluate(NOW)
        act()
        self.page.wait_for_function(IDLE, arg=before)
        return cast("float", self.page.evaluate(TOOK_S))

    def at(self, key: str) -> Locator:
        """The widget of a key."""
        return self.page.locator(f".st-key-{key}").first

    def choose(self, key: str, option: str) -> float:
        """Take an option of a selectbox or a multiselect.

        Its list closes whenever what lies around it scrolls, as late drawing on a busy machine
        makes it: then the option is written again, which opens the list anew.
        """
        field = self.at(key).locator("input").first
        field.click()

        def take() -> None:
            end = time.monotonic() + TIMEOUT_MS / 1000
            while True:
                field.fill("")
                field.fill(option)
                offered = self.page.get_by_role("option", name=option, exact=True)
                try:
                    return offered.click(timeout=CLOSED_MS)
                except TimeoutError:
                    if time.monotonic() > end:
                        raise

        took_s = self.change(take)
        if self.page.get_by_role("listbox").count():  # a multiselect's, which would take the focus
            self.page.keyboard.press("Escape")
        return took_s

    def segment(self, key: str, option: str) -> float:
        """Take one of a row of buttons."""
        return self.change(self.at(key).get_by_role("radio", name=option, exact=True).click)

    def write(self, key: str, text: str) -> float:
        """Put a text or a number into a field."""
        field = self.at(key).locator("input, textarea").first
        field.click()
        field.fill(text)
        enter = "Control+Enter" if field.evaluate("e => e.tagName") == "TEXTAREA" else "Enter"
        return self.change(lambda: field.press(enter))

    def switch(self, key: str) -> float:
        """Turn a toggle or a checkbox."""
        return self.change(self.at(key).locator("label").first.click)

    def unfold(self, key: str) -> float:
        """Open or close an expander whose content is drawn only when open."""
        return self.change(self.at(key).locator("summary").first.click)

    def press(self, key: str) -> float:
        """Click a button."""
        return self.change(self.at(key).get_by_role("button").first.click)

    def go(self, label: str) -> float:
        """Go to another page by its link at the top."""
        return self.change(self.link(label).click)

    def link(self, label: str) -> Locator:
        """The link of that name that stands in the page, or above it.

        In a narrow window the closed sidebar, beyond the window's edge, has all links once more.
        """
        links = self.page.locator(f":not({SIDEBAR_LINK})")
        return self.page.get_by_role("link", name=label, exact=True).and_(links).first

    def clicks(self) -> int:
        """How often the mouse was pressed since the page was opened by its address."""
        return cast("int", self.page.evaluate("() => window.seen.clicks"))

    def value(self, key: str) -> str:
        """What a field or a selectbox shows."""
        return self.at(key).locator("input, textarea").first.input_value()

    def chosen(self, key: str) -> str:
        """Which of a row of buttons is taken."""
        return self.at(key).locator('[role=radio][aria-checked="true"]').inner_text()

    def title(self) -> str:
        """The page's first heading."""
        return self.page.locator("h1").first.inner_text()

    def subtitle(self) -> str:
        """The line of text below it: on Explore, what was asked."""
        return self.page.locator(SUBTITLE).first.inner_text()

    def check(self) -> None:
        """Fail if anything went wrong so far."""
        shown = self.page.locator(EXCEPTION).all_inner_texts()
        assert not shown, shown
        assert not self.wrong, self.wrong

    def clear(self, viewport: ViewportSize) -> None:
        """Leave nothing to the next test: no page, nothing stored, and the settings at first."""
        context = self.page.context
        context.set_offline(False)
        context.clear_cookies()
        for page in context.pages:
            if page is not self.page:
                page.close()
        if self.page.url != EMPTY:
            self.page.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")
        self.page.goto(EMPTY)
        self.page.set_viewport_size(viewport)
        self.page.set_default_timeout(TIMEOUT_MS)
        self.wrong.clear()

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not SOUGHT.fullmatch(message.location["url"]):
            self.wrong.append(f"console: {message.text} ({message.location['url']})")

    def _asked(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"data", "blob"} and parts.hostname != "localhost":
            self.wrong.append(f"asked for {json.dumps(url)}")
