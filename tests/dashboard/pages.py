"""Pages opened by their address, as AppTest draws them, and what the sidebar chooses at first."""

from functools import cache
from pathlib import Path
from typing import Any

from streamlit.components.v2.component_manager import BidiComponentManager
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from dashboard.app.entry import PAGES
from dashboard.app.selection import Chosen, Selection, selected

APP = str(Path(__file__).parents[2] / "app.py")


@cache
def components() -> BidiComponentManager:
    """Streamlit's components among the installed packages, found once as a server does.

    Each AppTest would read what every package says of itself, for longer than most pages take.
    """
    manager = BidiComponentManager()
    manager.discover_and_register_components(start_file_watching=False)
    return manager


def page_at(view: str) -> AppTest:
    """The page of `dashboard/pages/VIEW/page.py`, not drawn yet.

    It is opened by its address, as a link does: `switch_page` would need another page before it.
    """
    at = AppTest.from_file(APP, default_timeout=300)
    at._bidi_component_manager = components()
    at._page_hash = calc_hash("" if view == PAGES[0][0] else view)
    return at


def opened(view: str, /, **query: str | list[str]) -> AppTest:
    """The page with a query; nothing may have failed on it."""
    at = page_at(view)
    at.query_params.update(query)
    at.run()
    assert not at.exception
    return at


def chosen(**changed: Any) -> Selection:  # noqa: ANN401 - any field of the sidebar
    """Decode of UltraMemV2-1B/7B at batch 64 and context 2,048 on an H200, and changes of it."""
    usual: dict[str, Any] = {
        "model": "ultramemv2-1b-7b",
        "own": "",
        "phase": "decode",
        "batch": 64,
        "context": 2048,
        "new_tokens": 1,
        "dtype": "bf16",
        "kv_dtype": None,
        "routing": "uniform",
        "hardware": "h200",
    }
    return selected(Chosen(**(usual | changed)))
