"""The dashboard pressed by many tabs at once: errors, cross-talk, times to redraw, and memory.

Each tab is a browser context of its own that sets model, batch and context at random, waits until
the page says what it set, and takes the time by the page's clock. After a round all tabs
are closed, and the server is given time to forget them; what it holds after the second round is set
beside what it holds after the first. Browser and server share the machine's cores.
Run: `make load`, or `python -m tests.load --tabs 8 --seconds 30`.
"""

import argparse
import asyncio
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from playwright.async_api import (
    Browser,
    Page,
    TimeoutError,  # noqa: A004 - Playwright's own
    async_playwright,
)

from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from tests.browser.conftest import ARGUMENTS, chromium_path
from tests.browser.page import APP, EXCEPTION, SUBTITLE, WATCH
from tests.browser.server import Server, serving

MODELS = ("olmoe-1b-7b", "ultramemv2-1b-7b", "llama-3.1-8b", "qwen3-30b-a3b")
GPU = load_hardware("h200").name
FORMATS = "bf16 (KV bf16)"
DEFAULT = {"model": "ultramemv2-1b-7b", "batch": "64", "context": "2048"}
GROWTH = 0.05  # of memory, after the second round against after the first
SESSION_S = 20  # a closed tab's session is kept that long: Streamlit's own two minutes are a wait
REST_S = SESSION_S + 5.0
OPEN_MS = 300_000.0  # all tabs open at once
ANSWER_MS = 300_000.0  # no limit on how fast, which the table tells: after that it is lost
SKELETON = '[data-testid="stSkeleton"]'  # of a part whose code is still loaded
# What was asked and the answer, as Explore says them in two lines
SAID = f"""[...document.querySelectorAll('{SUBTITLE}')].slice(0, 1)
  .concat(...document.querySelectorAll('h1')).map(each => each.innerText).join(': ')"""
SHOWN = f"""due => {SAID}.startsWith(due)
  && document.querySelector('{APP}') && !document.querySelector('{SKELETON}')
  && {{at: performance.now(), touched: window.seen.touched}}"""


@dataclass(slots=True, kw_only=True)
class Round:
    """What one round found."""

    took_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    asked: dict[str, set[int]] = field(default_factory=dict)  # a page's begin, the tabs that set it
    server_s: float = 0.0  # its processor time while the tabs press
    during_bytes: int = 0
    after_bytes: int = 0


def due(state: Mapping[str, str]) -> str:
    """How the page begins that answers these controls."""
    return (
        f"One step of decode at batch {int(state['batch']):,} and {int(state['context']):,} cached"
        f" tokens on {GPU}, {FORMATS}: {load_model(state['model']).name}: "
    )


async def opened(browser: Browser, server: Server) -> Page:
    """A tab in a browser context of its own that shows the defaults."""
    page = await (await browser.new_context()).new_page()
    page.set_default_timeout(OPEN_MS)
    await page.add_init_script(WATCH)
    await page.goto(server.url)
    await page.wait_for_function(SHOWN, arg=due(DEFAULT))
    return page


async def press(page: Page, tab: int, seed: int, seconds: float, result: Round) -> None:
    """One tab: change a control, wait for its answer; for so many seconds."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    page.on("pageerror", lambda error: result.wrong.append(f"tab {tab}: {error}"))
    state, end = dict(DEFAULT), time.monotonic() + seconds
    result.asked.setdefault(due(state), set()).add(tab)
    while time.monotonic() < end:
        key = chance.choice(list(state))
        old = state[key]
        while state[key] == old:
            state[key] = chance.choice(MODELS) if key == "model" else str(chance.randrange(2, 5000))
        result.asked.setdefault(due(state), set()).add(tab)
        try:
            result.took_s.append(await change(page, key, state))
        except TimeoutError as error:
            said = await page.evaluate(SAID)
            result.wrong.append(
                f"tab {tab}, {key}={state[key]}: {judged(said, tab, due(state), result.asked)};"
                f" {await page.locator(SKELETON).count()} parts not drawn; {error.message!r}"
            )
            return
        if await page.locator(EXCEPTION).count():
            result.wrong.append(f"tab {tab}: {await page.locator(EXCEPTION).first.inner_text()}")


async def change(page: Page, key: str, state: Mapping[str, str]) -> float:
    """Set one control; the seconds until the page shows its answer, from touch to frame.

    The page is watched from before the touch on, so that no way between processes is counted.
    """
    control = page.locator(f".st-key-{key} input").first
    await control.click()
    await control.fill(state[key])

    async def touch() -> None:
        if key == "model":
            await page.get_by_role("option", name=state[key], exact=True).click()
        else:
            await control.press("Enter")

    shown, _ = await asyncio.gather(
        page.wait_for_function(SHOWN, arg=due(state), timeout=ANSWER_MS), touch()
    )
    seen = await shown.json_value()
    return float(seen["at"] - seen["touched"]) / 1000


def judged(said: str, tab: int, wanted: str, asked: Mapping[str, set[int]]) -> str:
    """What a page means that does not say what is due."""
    by = next((tabs for known, tabs in asked.items() if said.startswith(known)), set())
    if said.startswith(wanted):
        return "the answer stands there, but the page did not come to rest"
    if tab in by:
        return f"no answer within {ANSWER_MS / 1000:g} s; it shows what it set before: {said!r}"
    if by:
        return f"CROSS-TALK: it shows what tab {min(by)} set: {said!r}"
    return f"it shows what nobody set: {said!r}"


async def watch(server: Server, result: Round) -> None:
    """The most memory that was held."""
    while True:
        result.during_bytes = max(result.during_bytes, server.rss_bytes())
        await asyncio.sleep(0.5)


async def rounds(server: Server, asked: argparse.Namespace) -> list[Round]:
    """All rounds, one after the other."""
    done = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium_path(), args=list(ARGUMENTS)
        )
        for number in range(asked.rounds):
            result = Round()
            watching = asyncio.create_task(watch(server, result))
            pages = await asyncio.gather(*(opened(browser, server) for _ in range(asked.tabs)))
            began_s = server.cpu_s()
            await asyncio.gather(
                *(
                    press(page, tab, number * asked.tabs + tab, asked.seconds, result)
                    for tab, page in enumerate(pages)
                )
            )
            result.server_s = server.cpu_s() - began_s
            watching.cancel()
            await asyncio.gather(*(page.context.close() for page in pages))
            await asyncio.sleep(asked.rest)
            for _ in range(2):  # the server drops old sessions when it stores one, frees at a run
                await (await opened(browser, server)).context.close()
            result.after_bytes = server.rss_bytes()
            done.append(result)
        await browser.close()
    return done


def row(number: int, result: Round) -> str:
    """A round's line of the table."""
    took_s = sorted(result.took_s) or [math.nan]
    late_s = took_s[math.ceil(0.95 * len(took_s)) - 1]
    return (
        f"{number:5}{len(result.took_s):9,}{statistics.median(took_s):11.2f}{late_s:9.2f}"
        f"{took_s[-1]:10.2f}{result.server_s / len(took_s):11.2f}{len(result.wrong):7}"
        f"{result.during_bytes / 1e6:12,.0f}{result.after_bytes / 1e6:11,.0f}"
    )


def main() -> int:
    """Press it, and print the table; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tabs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rest", type=float, default=REST_S, help="seconds after a round")
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), session_s=SESSION_S) as server,
    ):
        before = server.rss_bytes()
        done = asyncio.run(rounds(server, asked))
        log = server.log.read_text()
    print(
        f"{asked.tabs} tabs, {asked.seconds:g} s a round, browser and server on {os.cpu_count()}"
        f" cores; server before: {before / 1e6:,.0f} MB"
    )
    print("server, s: its processor time for a change; the rest of a change is the browser's")
    print("round  changes  median, s  95 %, s  worst, s  server, s  wrong  during, MB  after, MB")
    for number, result in enumerate(done, start=1):
        print(row(number, result))
    wrong = [line for result in done for line in result.wrong]
    if "Traceback" in log:
        wrong.append(f"the server's log: {log}")
    if len(done) > 1:
        growth = done[-1].after_bytes / done[0].after_bytes - 1
        print(f"memory after round {len(done)} against after round 1: {growth:+.1%}")
        if growth > GROWTH:
            wrong.append(f"memory grew by {growth:.1%}; at most {GROWTH:.0%} is meant")
    print(*wrong, sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
