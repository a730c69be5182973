"""The dashboard pressed by many tabs at once: errors, cross-talk, times to redraw, and memory.

Each tab is a browser context of its own that sets model, batch and context at random and reads from
the page's title whether it sees its own. After a round all tabs are closed, and the server is given
time to forget them; memory after the second round is set beside memory after the first.
Run: `make load`, or `python -m tests.load --tabs 8 --seconds 30`.
"""

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from playwright.async_api import Browser, Page, TimeoutError, async_playwright  # noqa: A004

from costmodel.inputs.catalog import load_model
from tests.browser.conftest import ARGUMENTS, chromium_path
from tests.browser.page import APP, EXCEPTION, IDLE, TOOK_S, WATCH
from tests.browser.server import Server, serving

MODELS = ("olmoe-1b-7b", "ultramemv2-1b-7b", "llama-3.1-8b", "qwen3-30b-a3b")
GROWTH = 0.05  # of memory, after the second round against after the first
REST_S = 130.0  # Streamlit keeps a closed tab's session for two minutes
TIMEOUT_MS = 30_000.0


@dataclass(slots=True, kw_only=True)
class Round:
    """What one round found."""

    took_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    during_bytes: int = 0
    after_bytes: int = 0


async def press(browser: Browser, server: Server, seed: int, seconds: float, found: Round) -> None:
    """One tab: change a control, wait, look whose numbers stand there; for so many seconds."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    context = await browser.new_context()
    page = await context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    page.on("pageerror", lambda error: found.wrong.append(f"tab {seed}: {error}"))
    await page.add_init_script(WATCH)
    await page.goto(server.url)
    await page.locator(APP).wait_for()
    await page.wait_for_function(IDLE, arg=0)
    state = {"model": "ultramemv2-1b-7b", "batch": "64", "context": "2048"}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        key = chance.choice(list(state))
        old = state[key]
        while state[key] == old:
            state[key] = chance.choice(MODELS) if key == "model" else str(chance.randrange(1, 5000))
        try:
            found.took_s.append(await change(page, key, state[key]))
        except TimeoutError:
            states = await page.evaluate("() => JSON.stringify(window.seen.states.slice(-3))")
            hidden = await page.locator('[data-testid="stSkeleton"]').count()
            found.wrong.append(
                f"tab {seed}: no answer to {key}={state[key]} within {TIMEOUT_MS / 1000:g} s;"
                f" last states {states}, {hidden} parts not drawn"
            )
            break
        title = await page.locator("h1").first.inner_text()
        due = (
            f"{load_model(state['model']).name}, decode at batch {int(state['batch']):,} and"
            f" {int(state['context']):,} cached token"
        )
        if not title.startswith(due):
            found.wrong.append(f"tab {seed}: {due!r} was set, {title!r} is shown")
        if await page.locator(EXCEPTION).count():
            found.wrong.append(f"tab {seed}: {await page.locator(EXCEPTION).first.inner_text()}")
    await context.close()


async def change(page: Page, key: str, value: str) -> float:
    """Set one control; the seconds until the page is drawn anew."""
    before = await page.evaluate("() => window.seen.states.length")
    control = page.locator(f".st-key-{key} input").first
    await control.click()
    await control.fill(value)
    if key == "model":
        await page.get_by_role("option", name=value, exact=True).click()
    else:
        await control.press("Enter")
    await page.wait_for_function(IDLE, arg=before)
    return float(await page.evaluate(TOOK_S))


async def watch(server: Server, found: Round) -> None:
    """The most memory that was held."""
    while True:
        found.during_bytes = max(found.during_bytes, server.rss_bytes())
        await asyncio.sleep(0.5)


async def rounds(server: Server, asked: argparse.Namespace) -> list[Round]:
    """All rounds, one after the other."""
    done = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium_path(), args=list(ARGUMENTS)
        )
        for number in range(asked.rounds):
            found = Round()
            watching = asyncio.create_task(watch(server, found))
            await asyncio.gather(
                *(
                    press(browser, server, number * asked.tabs + tab, asked.seconds, found)
                    for tab in range(asked.tabs)
                )
            )
            watching.cancel()
            await asyncio.sleep(asked.rest)
            await press(browser, server, 0, 0.0, found)  # a new tab: the server forgets old ones
            found.after_bytes = server.rss_bytes()
            done.append(found)
        await browser.close()
    return done


def main() -> int:
    """Press it, and print the table; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tabs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rest", type=float, default=REST_S, help="seconds after a round")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server:
        before = server.rss_bytes()
        done = asyncio.run(rounds(server, asked))
    print(f"{asked.tabs} tabs, {asked.seconds:g} s a round; server before: {before / 1e6:,.0f} MB")
    print("round  changes  median, s  95 %, s  worst, s  wrong  during, MB  after, MB")
    for number, each in enumerate(done, start=1):
        late = statistics.quantiles(each.took_s, n=20)[-1]
        print(
            f"{number:5}{len(each.took_s):9,}{statistics.median(each.took_s):11.2f}{late:9.2f}"
            f"{max(each.took_s):10.2f}{len(each.wrong):7}{each.during_bytes / 1e6:12,.0f}"
            f"{each.after_bytes / 1e6:11,.0f}"
        )
    wrong = [line for each in done for line in each.wrong]
    if len(done) > 1:
        growth = done[-1].after_bytes / done[0].after_bytes - 1
        print(f"memory after round {len(done)} against after round 1: {growth:+.1%}")
        if growth > GROWTH:
            wrong.append(f"memory grew by {growth:.1%}; at most {GROWTH:.0%} is meant")
    print(*wrong, sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
