"""Every main control is changed once: each answer is drawn, and nothing goes wrong meanwhile."""

import statistics
from collections.abc import Callable

from tests.browser.page import Tab
from tests.browser.targets import redraws_s, summary

RUNAWAY_S = 15.0  # the target is half a second: `make load` judges it


def test_a_change_of_a_control_is_drawn(
    tab: Tab, record_property: Callable[[str, object], None]
) -> None:
    took_s = redraws_s(tab)
    told = summary(took_s)
    print(f"\nredrawn after a change: {told}")
    record_property("redraw", told)
    assert statistics.median(took_s.values()) < RUNAWAY_S, told
