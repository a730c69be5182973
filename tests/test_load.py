"""The load in short: three users at once are told what each asked. `make load` is the whole."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.load import GROWTH, LATE_S, MOST_BYTES, Round, judged, missed

ROOT = Path(__file__).parents[1]
SHORT = ("--users", "3", "--seconds", "8", "--think", "1", "--rounds", "1", "--rest", "0")
ASKED = {"A, batch 1 on ": {0, 1}, "A, batch 2 on ": {1}, "A, batch 3 on ": {0}}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the server's memory from /proc")
def test_users_at_once_are_told_what_each_asked() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.load", *SHORT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"\n{done.stdout}")
    columns = re.search(r"^ +1 +[\d.]+ +(\d+) .* (\d+) +\d+ +\d+$", done.stdout, re.MULTILINE)
    assert columns is not None, done.stdout + done.stderr
    changes, wrong = map(int, columns.groups())
    assert changes >= 3, "each user changes at least one control"
    assert wrong == 0, done.stdout  # times are judged by `make load`


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("A, batch 1 on X: 5 ms", "what it set before"),
        ("A, batch 2 on X: 5 ms", "CROSS-TALK: it shows what user 1 set"),
        ("B, batch 2 on X: 5 ms", "what nobody set"),
    ],
)
def test_a_page_that_is_not_due_is_laid_to_who_set_it(said: str, meaning: str) -> None:
    assert meaning in judged(said, 0, ASKED)


def round_of(*users: list[float], during_bytes: int = 1, after_bytes: int = 100) -> Round:
    """A round in which each user's changes took so long."""
    return Round(took_s=dict(enumerate(users)), during_bytes=during_bytes, after_bytes=after_bytes)


def test_it_holds_where_nine_in_ten_are_soon_and_memory_stays() -> None:
    soon, late = LATE_S / 2, LATE_S * 2
    nine = [soon] * 9 + [late]
    assert missed([round_of(nine)]) == []
    (more,) = missed([round_of([soon] * 8 + [late] * 2)])
    assert "nine changes in ten took up to 2.00 s, not 1 s" in more
    (one,) = missed([round_of([soon] * 90, [late] * 5)])
    assert "the user who waits longest took up to 2.00 s" in one
    (large,) = missed([round_of(nine, during_bytes=MOST_BYTES + 10**6)])
    assert "801 MB of memory, not 800 MB" in large
    grown = round(100 * (1 + GROWTH))
    assert missed([round_of(nine), round_of(nine, after_bytes=grown)]) == []
    (growth,) = missed([round_of(nine), round_of(nine, after_bytes=grown + 1)])
    assert "memory grew by 6.0% in 2 rounds, not 5%" in growth


def test_a_round_without_a_change_does_not_hold() -> None:
    assert len(missed([round_of()])) == 2
