"""kill -9 at random moments: what was finished is readable, kept to the byte, and not repeated."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from costmodel.recordings.recording import load_recording
from tests.commands import SPARSECOST
from tests.profiler.session.killable import BATCHES
from tests.profiler.session.profiles import ALL, measured, run_texts
from tests.profiler.test_cli import written

pytestmark = pytest.mark.slow  # each test kills a profile

ROOT = Path(__file__).parents[3]
KILLABLE = (sys.executable, "-m", "tests.profiler.session.killable")
WAIT_S = 300.0  # a limit, not a wait
ALL_RUNS = {(batch, run) for batch in BATCHES for run in ALL}


def until(happened: Callable[[], bool]) -> None:
    """Wait for it."""
    end = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.01)


def running(process: str) -> bool:
    try:
        status = Path("/proc", process, "stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def begun(log: Path) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def test_five_kills_at_random_moments(tmp_path: Path) -> None:
    """24 runs of 0.05 s by three workers; a kill comes 0.02 to 0.5 s after a worker's first.

    Until the last time the last run hangs, so that no profile is over before it is killed.
    """
    out, log = tmp_path / "a.json", tmp_path / "begun"
    command = [*KILLABLE, str(out), str(log)]
    hanging = [*command, f"hang@{ALL[-1]} {BATCHES[-1]}"]
    moments = random.Random(20260102)  # noqa: S311 - no secret
    kept: dict[str, str] = {}
    kept_runs: set[tuple[int, str]] = set()
    for _ in range(5):
        lines_before = len(begun(log))
        process = subprocess.Popen(hanging, cwd=ROOT, stderr=subprocess.DEVNULL)
        until(lambda: len(begun(log)) > lines_before)  # noqa: B023 - used in this round only
        time.sleep(moments.uniform(0.02, 0.5))
        assert process.poll() is None, "the profile was over before it was killed"
        process.kill()
        process.wait()
        until(lambda: not any(running(line[0]) for line in begun(log)))
        now = run_texts(out)
        assert {key: now[key] for key in kept} == kept
        for line in begun(log)[lines_before:]:
            assert (int(line[3]), line[2]) not in kept_runs
        kept = now
        kept_runs = measured(load_recording(out)) if out.exists() else set()
    assert 0 < len(kept) < len(ALL_RUNS)
    lines_before = len(begun(log))
    subprocess.run(command, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    final = run_texts(out)
    assert {key: final[key] for key in kept} == kept
    assert measured(load_recording(out)) == ALL_RUNS
    rest = [(int(line[3]), line[2]) for line in begun(log)[lines_before:]]
    assert sorted(rest) == sorted(ALL_RUNS - kept_runs)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.json", "begun"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_hangs_ends_with_its_profiler(number: signal.Signals, tmp_path: Path) -> None:
    out, log = tmp_path / "a.json", tmp_path / "begun"
    command = [
        sys.executable,
        "-m",
        "tests.profiler.session.killable",
        str(out),
        str(log),
        "hang@2",
    ]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    until(lambda: len(begun(log)) == 2 and out.exists())
    process.send_signal(number)
    process.wait(WAIT_S)
    until(lambda: not any(running(line[0]) for line in begun(log)))
    assert measured(load_recording(out)) == {(1, "time")}


def test_a_real_profile_killed_and_resumed(tmp_path: Path) -> None:
    """Killed while the model is built, then after the second case, then left to end."""
    out = tmp_path / "a.json"
    lists = "--batch 1,2,4 --context 16 --dtype fp32 --device cpu --runs time --resume"
    command = [str(SPARSECOST), "profile", written(tmp_path), "--out", str(out), *lists.split()]
    kept: dict[str, str] = {}
    for moment, finished in (("building", 0), ("[2/3]", 2)):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        with process.stderr as lines:
            assert any(line.startswith(moment) for line in lines)
            process.kill()
            process.wait()
        kept = run_texts(out)
        assert len(kept) >= finished
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{out}: 3 measured, 0 lacking\n"
    final = run_texts(out)
    assert {key: final[key] for key in kept} == kept
    assert len(final) == 3
