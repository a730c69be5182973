"""Take docs/screenshots anew: every page of the dashboard, light and dark.

Run: `python -m docs.screenshots` from the checkout; needs Chromium.
"""

import tempfile
from pathlib import Path
from typing import Literal

from playwright.sync_api import sync_playwright

from dashboard.app.entry import PAGES
from tests.browser.conftest import ARGUMENTS, VIEWPORT, chromium_path
from tests.browser.page import Tab
from tests.browser.server import serving

FOLDER = Path(__file__).with_name("screenshots")
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SETTLE_MS = 1000.0  # tables paint themselves after Streamlit is idle


def main() -> None:
    """Start the app, open each page in both schemes, and keep a picture of each."""
    FOLDER.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder)) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(ARGUMENTS))
        for scheme in SCHEMES:
            context = browser.new_context(viewport=VIEWPORT, color_scheme=scheme)
            for name, _, _ in PAGES:
                tab = Tab(context.new_page(), server.url).open(name)
                tab.page.wait_for_timeout(SETTLE_MS)
                tab.page.screenshot(path=FOLDER / f"{name}-{scheme}.png")
                tab.page.close()
        browser.close()


if __name__ == "__main__":
    main()
