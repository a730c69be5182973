"""A profile of a tiny model on the CPU, from the page Profile to the page Measured."""

from playwright.sync_api import expect

from dashboard.own_model import packed
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
RUN_MS = 60_000.0


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
    opened(tab, "1", "tiny.json")
    tab.at("prof_start").get_by_role("button").click()
    heading = tab.page.get_by_role("heading", level=3)
    expect(heading.filter(has_text="Running")).to_be_visible()
    expect(tab.page.get_by_role("progressbar")).to_be_visible()
    expect(heading.filter(has_text="Done")).to_be_visible(timeout=RUN_MS)
    assert (server.recordings / "tiny.json").exists()
    tab.change(tab.page.get_by_role("link", name="Open what was measured").first.click)
    assert "/measured" in tab.page.url
    assert tab.value("rec") == "tiny.json"
    expect(tab.page.get_by_text("tiny: decode, batch 1")).to_be_visible()
    tab.check()

    opened(tab, ",".join(map(str, range(1, 65))), "long.json")
    tab.at("prof_start").get_by_role("button").click()
    tab.at("prof_cancel").get_by_role("button").click()
    expect(heading.filter(has_text="Cancelled")).to_be_visible(timeout=RUN_MS)
    tab.check()
