"""The load run in short: three tabs at once see their own choices. `make load` is the whole."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser.conftest import chromium_path
from tests.load import judged

ROOT = Path(__file__).parents[2]
SHORT = ("--tabs", "3", "--seconds", "8", "--rounds", "1", "--rest", "0")
ASKED = {"A, batch 1 on ": {0, 1}, "A, batch 2 on ": {1}, "A, batch 3 on ": {0}}


@pytest.mark.skipif(sys.platform != "linux", reason="reads the server's memory from /proc")
def test_tabs_at_once_see_their_own_choices_alone() -> None:
    chromium_path()
    done = subprocess.run(
        [sys.executable, "-m", "tests.load", *SHORT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"\n{done.stdout}")
    assert done.returncode == 0, done.stdout + done.stderr
    round_1 = re.search(r"^ +1 +(\d+) .* 0 +\d+ +\d+$", done.stdout, re.MULTILINE)
    assert round_1 is not None, done.stdout
    assert int(round_1[1]) >= 3, "each tab changes at least one control"


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("A, batch 3 on X: 5 ms", "the answer stands there"),
        ("A, batch 1 on X: 5 ms", "no answer"),
        ("A, batch 2 on X: 5 ms", "CROSS-TALK: it shows what tab 1 set"),
        ("B, batch 2 on X: 5 ms", "what nobody set"),
    ],
)
def test_a_page_that_is_not_due_is_laid_to_who_set_it(said: str, meaning: str) -> None:
    assert meaning in judged(said, 0, "A, batch 3 on ", ASKED)
