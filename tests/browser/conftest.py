"""One dashboard and one Chromium for the session; a missing Chromium is installed, or told."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, ViewportSize, sync_playwright

from tests.browser.page import Tab
from tests.browser.server import Server, serving

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
INSTALL = ("apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "chromium")
MISSING = (
    "NO BROWSER TEST RUNS: Chromium is missing and could not be installed."
    " On Debian or Ubuntu: sudo apt-get install chromium"
)
VIEWPORT: ViewportSize = {"width": 1280, "height": 900}


def pytest_itemcollected(item: pytest.Item) -> None:
    """All tests of this folder need a browser; with xdist each worker has a dashboard."""
    item.add_marker(pytest.mark.browser)


def found_chromium() -> str | None:
    """Where Chromium is, if it is anywhere."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def chromium_path() -> str:
    """Where Chromium is, installed now if need be; a test without it is skipped, in CI fails."""
    path = found_chromium()
    if path is None and shutil.which("apt-get") and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (("apt-get", "update"), INSTALL):
            subprocess.run(command, env=environment, capture_output=True, check=False)
        path = found_chromium()
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    return path


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A browser, without a display."""
    path = chromium_path()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The dashboard."""
    del chromium  # asked for first, so that nothing is started without it
    with serving(tmp_path_factory.mktemp("dashboard")) as running:
        yield running


@pytest.fixture
def new_tab(chromium: Browser, server: Server) -> Iterator[Callable[[], Tab]]:
    """Open tabs in browser contexts of their own; whatever went wrong in one fails the test."""
    tabs: list[Tab] = []

    def opened() -> Tab:
        context = chromium.new_context(viewport=VIEWPORT, accept_downloads=True)
        tabs.append(Tab(context.new_page(), server.url))
        return tabs[-1]

    yield opened
    for tab in tabs:
        tab.check()
    for tab in tabs:
        tab.page.context.close()


@pytest.fixture(scope="session")
def kept_tabs() -> list[Tab]:
    """The tab that tests use one after the other; none before the first, or after one that failed.

    A new browser context has no cache: it fetches, reads and compiles all scripts of a page anew,
    for half of the processor time that the page takes.
    """
    return []


@pytest.fixture
def tab(chromium: Browser, server: Server, kept_tabs: list[Tab]) -> Iterator[Tab]:
    """One tab, left empty by the test before; whatever went wrong in it fails the test."""
    if kept_tabs:
        tab = kept_tabs.pop()
    else:
        context = chromium.new_context(viewport=VIEWPORT, accept_downloads=True)
        tab = Tab(context.new_page(), server.url)
    try:
        yield tab
        tab.check()
        tab.clear(VIEWPORT)
    except BaseException:
        tab.page.context.close()
        raise
    kept_tabs.append(tab)
