"""The dashboard pressed by many users at once: errors, mixed-up answers, times, memory.

A user is a session over Streamlit's websocket (`tests/visitor.py`): all that a tab makes the server
do, without the browser, which would draw on the user's own machine. One user arrives after the
other, `PACE_S` apart, and opens Explore or, one of three, Compare. Then each thinks for `--think`
seconds on average, from half to one and a half of that, changes model, batch, context or what the
chart shows, and waits for the answer. Users and server share the machine's cores.

It holds when

- no run ends in an error, each user is told what this user asked, and all that Explore says begins
  with the model, batch and context set; of both pages `ALONE` answers, drawn at random, say to the
  letter what one user is told who asks the same by its address when all others have left;
- nine in ten of all changes are answered within `LATE_S`, and half of the changes of each user;
- the server never holds more than `MOST_BYTES`, and after the second round at most `GROWTH` more
  than after the first.

Times are of the server and the wire; what a browser adds, `python -m tests.browser.targets` times.
They mean something on a quiet machine: the table says what other processes took.
Run: `make load`, or `python -m tests.load --users 8 --seconds 30`.
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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from tests.browser.server import Server, serving
from tests.visitor import Page, visiting

MODELS = ("olmoe-1b-7b", "ultramemv2-1b-7b", "llama-3.1-8b", "qwen3-30b-a3b")
GPU = load_hardware("h200").name
FORMATS = "bf16 (KV bf16)"
COMMON = {"model": "ultramemv2-1b-7b", "batch": "64", "context": "2048"}
CHARTS = {"explore": ("ex_by", "HBM bytes", "FLOPs"), "compare": ("cmp_over", "batch", "context")}
PACE_S = 0.5
LATE_S = 1.0
MOST_BYTES = 800_000_000
GROWTH = 0.05
ALONE = 60
SESSION_S = 20  # a closed session is kept that long: Streamlit's own two minutes are a wait
REST_S = SESSION_S + 5.0
ANSWER_S = 300.0  # no limit on how fast, which the table tells: after that it is lost

Said = tuple[str, ...]  # what a page says, as far as it is text
Asked = tuple[str, frozenset[tuple[str, str]]]  # a page, and what its controls were set to


@dataclass(slots=True, kw_only=True)
class Round:
    """What one round found."""

    opened_s: list[float] = field(default_factory=list)
    took_s: dict[int, list[float]] = field(default_factory=dict)  # of each user's changes
    wrong: list[str] = field(default_factory=list)
    asked: dict[str, set[int]] = field(default_factory=dict)  # a page's begin, the users who set it
    told: dict[Asked, Said] = field(default_factory=dict)
    server_s: float = 0.0  # its processor time while the users press
    others_s: float = 0.0  # of other processes meanwhile
    during_s: float = 0.0
    during_bytes: int = 0
    after_bytes: int = 0

    @property
    def changes_s(self) -> list[float]:
        """What all changes took, in order."""
        return sorted(took_s for each in self.took_s.values() for took_s in each)


def due(state: Mapping[str, str]) -> str:
    """How the page Explore begins that answers these controls."""
    return (
        f"One step of decode at batch {int(state['batch']):,} and {int(state['context']):,} cached"
        f" tokens on {GPU}, {FORMATS}: {load_model(state['model']).name}: "
    )


def said(page: Page) -> Said:
    """What a page says: headings, lines, cards and sentences, in the order of the page."""
    kinds = ("text", "heading", "metric", "alert", "markdown")
    return tuple(
        f"{element.label}: {element.body}" if kind == "metric" else element.body
        for kind in kinds
        for element in page.all(kind)
    )


def begin(page: Page) -> str:
    """What was asked and the answer, as Explore says them in two lines."""
    first = [element.body for kind in ("text", "heading") for element in page.all(kind)[:1]]
    return ": ".join(first).replace("\\", "")


async def use(server: Server, user: int, seed: int, asked: argparse.Namespace, to: Round) -> None:
    """One user, from opening a page to leaving it."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    name = "compare" if user % 3 == 2 else "explore"
    chart, *options = CHARTS[name]
    state = {**COMMON, chart: ""}
    await asyncio.sleep(user * PACE_S)
    async with visiting(server.url) as visitor:
        page = await asyncio.wait_for(visitor.open(name), ANSWER_S)
        to.opened_s.append(page.took_s)
        end = time.monotonic() + asked.seconds
        while judge(page, name, state, user, to):
            await asyncio.sleep(asked.think * chance.uniform(0.5, 1.5))
            if time.monotonic() > end:
                return
            key = chance.choice(list(state))
            choices = {"model": MODELS, chart: options}.get(key) or tuple(map(str, range(2, 5000)))
            state[key] = chance.choice([each for each in choices if each != state[key]])
            page = await asyncio.wait_for(visitor.set(key, state[key]), ANSWER_S)
            to.took_s.setdefault(user, []).append(page.took_s)


def judge(page: Page, name: str, state: Mapping[str, str], user: int, to: Round) -> bool:
    """Note what a page says, and what is wrong with it; whether nothing is."""
    wrong = [f"user {user}: {error.message}" for error in page.all("exception")]
    if name == "explore":
        to.asked.setdefault(due(state), set()).add(user)
        if not begin(page).startswith(due(state)):
            wrong.append(f"user {user}: {judged(begin(page), user, to.asked)}")
    to.told[name, frozenset(state.items())] = said(page)
    to.wrong += wrong
    return not wrong


def judged(begins: str, user: int, asked: Mapping[str, set[int]]) -> str:
    """What a page means that does not say what is due."""
    by = next((users for known, users in asked.items() if begins.startswith(known)), set())
    if user in by:
        return f"it shows what it set before: {begins!r}"
    if by:
        return f"CROSS-TALK: it shows what user {min(by)} set: {begins!r}"
    return f"it shows what nobody set: {begins!r}"


async def ask_alone(server: Server, to: Round) -> None:
    """Ask some of the questions again, by their addresses, and compare the answers."""
    chosen = random.Random(0).sample(sorted(to.told, key=str), min(ALONE, len(to.told)))  # noqa: S311
    for name, state in chosen:
        async with visiting(server.url) as visitor:
            page = await visitor.open(name, **{key: value for key, value in state if value})
        if (alone := said(page)) != (crowded := to.told[name, state]):
            differ = next(pair for pair in zip_longest(crowded, alone) if pair[0] != pair[1])
            to.wrong.append(
                f"{name} {dict(state)}: among others {differ[0]!r}, alone {differ[1]!r}"
            )


async def watch(server: Server, to: Round) -> None:
    """The most memory that was held."""
    while True:
        to.during_bytes = max(to.during_bytes, server.rss_bytes())
        await asyncio.sleep(0.5)


async def press(server: Server, number: int, asked: argparse.Namespace) -> Round:
    """One round: all users, the server's rest, and the same questions asked alone."""
    to = Round()
    watching = asyncio.create_task(watch(server, to))
    began_s, all_s, start = server.cpu_s(), busy_s(), time.monotonic()
    mine_s = time.process_time()
    users = (
        use(server, user, number * asked.users + user, asked, to) for user in range(asked.users)
    )
    for user, end in enumerate(await asyncio.gather(*users, return_exceptions=True)):
        if end is not None:
            to.wrong.append(f"user {user}: {end!r}")
    to.server_s, to.during_s = server.cpu_s() - began_s, time.monotonic() - start
    to.others_s = busy_s() - all_s - to.server_s - (time.process_time() - mine_s)
    watching.cancel()
    await asyncio.sleep(asked.rest)
    await ask_alone(server, to)  # at a new session the server drops old ones
    to.after_bytes = server.rss_bytes()
    return to


def busy_s() -> float:
    """The processor time that all processes of the machine have had (Linux)."""
    user, nice, system = Path("/proc/stat").read_text().split(maxsplit=4)[1:4]
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


def within(times_s: list[float], share: float) -> float:
    """The time within which that share of the sorted times lies; nan without any."""
    return times_s[math.ceil(share * len(times_s)) - 1] if times_s else math.nan


def row(number: int, done: Round) -> str:
    """A round's line of the table."""
    times_s = done.changes_s
    return (
        f"{number:5}{within(sorted(done.opened_s), 0.9):9.2f}{len(times_s):9,}"
        f"{within(times_s, 0.5):11.2f}{within(times_s, 0.9):9.2f}{within(times_s, 1):10.2f}"
        f"{slowest(done):9.2f}{100 * done.server_s / done.during_s:11.0f}"
        f"{100 * done.others_s / done.during_s:11.0f}{len(done.wrong):7}"
        f"{done.during_bytes / 1e6:12,.0f}{done.after_bytes / 1e6:11,.0f}"
    )


def slowest(done: Round) -> float:
    """The median of the user who waited longest."""
    return max(map(statistics.median, done.took_s.values()), default=math.nan)


def missed(rounds: Sequence[Round]) -> list[str]:
    """What does not hold, but for wrong answers."""
    found = []
    for number, done in enumerate(rounds, start=1):
        for what, took_s in (
            ("nine changes in ten", within(done.changes_s, 0.9)),
            ("half of the changes of the user who waits longest", slowest(done)),
        ):
            if not took_s <= LATE_S:
                found.append(f"round {number}: {what} took up to {took_s:.2f} s, not {LATE_S:g} s")
        if done.during_bytes > MOST_BYTES:
            found.append(
                f"round {number}: {done.during_bytes / 1e6:,.0f} MB of memory, not"
                f" {MOST_BYTES / 1e6:,.0f} MB"
            )
    first, last = rounds[0].after_bytes, rounds[-1].after_bytes
    if last > first * (1 + GROWTH):
        found.append(
            f"memory grew by {last / first - 1:.1%} in {len(rounds)} rounds, not {GROWTH:.0%}"
        )
    return found


def main() -> int:
    """Press it, and print the table; 1 if it does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--users", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each user in a round")
    parser.add_argument("--think", type=float, default=5.0, help="seconds before a change")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rest", type=float, default=REST_S, help="seconds after a round")
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), session_s=SESSION_S) as server,
    ):
        before = server.rss_bytes()
        rounds = [asyncio.run(press(server, number, asked)) for number in range(asked.rounds)]
        log = server.log.read_text()
    print(
        f"{asked.users} users, {asked.seconds:g} s each in a round, {asked.think:g} s of thought"
        f" before a change, on {os.cpu_count()} cores; server before: {before / 1e6:,.0f} MB"
    )
    print(
        "open: nine pages in ten; slowest: the median of the user who waited longest; server: of"
        "\none core, which is all that it uses; others: of one core, what other processes took"
    )
    print(
        "round  open, s  changes  median, s  90 %, s  worst, s  slowest  server, %  others, %"
        "  wrong  during, MB  after, MB"
    )
    for number, done in enumerate(rounds, start=1):
        print(row(number, done))
    wrong = [line for done in rounds for line in done.wrong] + missed(rounds)
    if "Traceback" in log:
        wrong.append(f"the server's log: {log}")
    print(*wrong or ["it holds"], sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
