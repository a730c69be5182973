"""A profile of a tiny model on the CPU, from the page Profile to the page Measured."""

import re

from playwright.sync_api import expect

from dashboard.app.own_model import packed
from tests.browser.page import Tab
from tests.browser.server import Server

TINY = """\
name = "tiny"
source = "this test"
hidden_size = 64
vocab_size = 256
num_hidden_layers = 2

[attention]
num_attention_heads = 4
num_key_value_heads = 4
head_dim = 16

[ffn]
kind = "dense"
intermediate_size = 128
"""
RUN_MS = 600_000.0  # a limit, not a wait: the profile imports torch, on cores that others use


def opened(tab: Tab, batches: str, out: str) -> Tab:
    return tab.open(
        "profile",
        own=str(packed(TINY)),
        model="your own",
        prof_batch=batches,
        prof_context="16",
        prof_dev="cpu",
        prof_out=out,
    )


def test_a_profile_is_run_watched_and_opened_and_another_one_cancelled(
    tab: Tab, server: Server
) -> None:
    tab.page.set_default_timeout(RUN_MS)
    opened(tab, "1", "tiny.json")
    start, cancel = (tab.at(key).get_by_role("button") for key in ("prof_start", "prof_cancel"))
    heading = tab.page.get_by_role("heading", level=3)
    start.click()
    expect(heading.filter(has_text="Running")).to_be_visible(timeout=RUN_MS)
    expect(tab.page.get_by_role("progressbar")).to_be_visible(timeout=RUN_MS)
    expect(heading.filter(has_text="Done")).to_be_visible(timeout=RUN_MS)
    assert (server.recordings / "tiny.json").exists()
    tab.page.get_by_role("link", name="Open what was measured").first.click()
    expect(tab.page).to_have_url(re.compile("/measured"), timeout=RUN_MS)
    expect(tab.at("rec").locator("input")).to_have_value("own/tiny.json", timeout=RUN_MS)
    expect(tab.page.get_by_text(": decode, batch 1, ")).to_be_visible(timeout=RUN_MS)
    tab.check()

    opened(tab, ",".join(map(str, range(1, 65))), "long.json")
    start.click()
    cancel.click()
    expect(heading.filter(has_text="Cancelled")).to_be_visible(timeout=RUN_MS)
    tab.check()
