"""How soon the dashboard is there and answers, against its targets.

Seconds of the clock, of one tab on a quiet machine: of the first page without a cache, and of every
main control from the touch to the drawn answer. Exit code 1 when a target is missed. `make load`
runs it before the load, `python -m tests.browser.targets` by itself. The tests change the same
controls, and judge nothing by the clock.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.conftest import ARGUMENTS, VIEWPORT, chromium_path
from tests.browser.page import Tab
from tests.browser.server import serving

FIRST_PAGE_S, MEDIAN_S = 5.0, 0.5

Change = Callable[[Tab], float]
SIDEBAR: dict[str, Change] = {
    "batch": lambda tab: tab.write("batch", "17"),
    "context": lambda tab: tab.write("context", "4000"),
    "model": lambda tab: tab.choose("model", "olmoe-1b-7b"),
    "GPU": lambda tab: tab.choose("gpu", "h100-sxm"),
    "phase": lambda tab: tab.segment("phase", "prefill"),
    "new tokens": lambda tab: tab.write("new_tokens", "300"),
    "weights": lambda tab: tab.choose("dtype", "fp8"),
    "KV cache": lambda tab: tab.choose("kv_dtype", "fp8"),
    "routing": lambda tab: tab.segment("routing", "zipf"),
    "Zipf exponent": lambda tab: tab.write("exponent", "0.7"),
    "routing of each population": lambda tab: tab.segment("routing", "each its own"),
    "Zipf exponent of rows": lambda tab: tab.write("exponent_rows", "0.7"),
    "kernels": lambda tab: tab.segment("backend", "fused"),
    "attention FLOPs": lambda tab: tab.segment("attention", "full"),
    "logits": lambda tab: tab.segment("logits", "all"),
    "latent attention": lambda tab: tab.segment("mla", "expanded"),
    "cache of latent attention": lambda tab: tab.segment("mla_cache", "expanded"),
    "cache of windows": lambda tab: tab.segment("window_cache", "whole"),
}
PAGES: dict[str, dict[str, Change]] = {
    "explore": {
        "breakdown of": lambda tab: tab.segment("ex_by", "FLOPs"),
        "chart": lambda tab: tab.segment("ex_chart", "roofline"),
        "prompt": lambda tab: tab.write("ex_prompt", "500"),
        "output": lambda tab: tab.write("ex_output", "100"),
        "price": lambda tab: tab.write("ex_price", "3"),
        "all numbers": lambda tab: tab.unfold("ex_all"),
        "how computed": lambda tab: tab.unfold("ex_how"),
        "number explained": lambda tab: tab.choose("ex_number", "lm_head"),
        "own model": lambda tab: tab.unfold("ex_own"),
    },
    "compare": {
        "compared by": lambda tab: tab.segment("cmp_by", "HBM bytes"),
        "over": lambda tab: tab.segment("cmp_over", "context"),
        "added model": lambda tab: tab.switch("cmp_add"),
        "third model": lambda tab: tab.choose("cmp_models", "llama-3.1-8b"),
    },
    "tradeoffs": {
        "across": lambda tab: tab.choose("to_x", "memory"),
        "up": lambda tab: tab.choose("to_y", "roofline bound"),
        "workloads": lambda tab: tab.write("to_batch", "1,64"),
        "logarithmic": lambda tab: tab.switch("to_log"),
        "match": lambda tab: tab.segment("to_what", "match"),
    },
    "measured": {
        "recording": lambda tab: tab.choose("rec", "h200-olmoe-1b-7b.json"),
        "chart": lambda tab: tab.segment("rec_chart", "waterfall"),
        "every number": lambda tab: tab.switch("rec_every"),
    },
    "profile": {
        "device": lambda tab: tab.segment("prof_dev", "cpu"),
        "batches": lambda tab: tab.write("prof_batch", "1,2"),
    },
    "report": {
        "more models": lambda tab: tab.choose("rep_models", "olmoe-1b-7b"),
        "price": lambda tab: tab.write("rep_price", "3"),
        "without comparison": lambda tab: tab.switch("rep_comparison"),
    },
}
FOLDED = {  # the first control of an expander
    "weights": "Formats, routing",
    "workloads": "What is swept",
    "more models": "What the report contains",
}


def open_first_page(tab: Tab) -> None:
    """Open it, and wait for its first chart."""
    tab.open()
    tab.page.locator(".js-plotly-plot .main-svg").first.wait_for()


def redraws_s(tab: Tab) -> dict[str, float]:
    """Change each control once; the seconds that each took to be drawn. Fails at any error."""
    took_s: dict[str, float] = {}
    for name, controls in PAGES.items():
        tab.open(name)
        if name == "explore":
            controls = controls | SIDEBAR  # noqa: PLW2901 - the sidebar is the same on every page
        for control, change in controls.items():
            if control in FOLDED:
                tab.page.locator("summary", has_text=FOLDED[control]).click()
            took_s[f"{name}: {control}"] = change(tab)
        tab.check()
    return took_s


def summary(took_s: Mapping[str, float]) -> str:
    """One line on all controls."""
    worst = max(took_s, key=lambda control: took_s[control])
    median_s = statistics.median(took_s.values())
    return f"{len(took_s)} controls: median {median_s:.2f} s, worst {took_s[worst]:.2f} s ({worst})"


def main() -> int:
    """Print what was timed; 1 if a target is missed."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder)) as server,
        sync_playwright() as playwright,
    ):
        path = chromium_path()
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        tab = Tab(browser.new_context(viewport=VIEWPORT).new_page(), server.url)
        start = time.monotonic()
        open_first_page(tab)
        first_s = time.monotonic() - start
        took_s = redraws_s(tab)
        browser.close()
    print(f"first page complete after {first_s:.2f} s  (target < {FIRST_PAGE_S:g} s)")
    print(f"redrawn after a change: {summary(took_s)}  (target: median < {MEDIAN_S:g} s)")
    for control, each_s in sorted(took_s.items(), key=lambda item: -item[1]):
        print(f"  {each_s:5.2f} s  {control}")
    met = first_s < FIRST_PAGE_S and statistics.median(took_s.values()) < MEDIAN_S
    print("all targets met" if met else "A TARGET IS MISSED")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
