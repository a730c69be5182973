"""The command on a GPU that only pretends: parts between anchors, voids, cuts and resumption."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import monotonic

import pytest
import torch

from benchmarks.held_out import measure as measuring
from benchmarks.held_out.anchors import NAMES, Readings, moved, read_anchors
from benchmarks.held_out.card import is_anchor, read_card
from benchmarks.held_out.commitment import Commitment
from benchmarks.held_out.journal import Journal, read_events
from benchmarks.held_out.measure import ORDER, Instruments, measure, part_recordings, pending
from benchmarks.held_out.shapes import HeldOutModel
from benchmarks.held_out.summary import summary, summary_text
from costmodel.costs.calibrations import FOLDER
from costmodel.costs.kernel_times import LEAVES
from costmodel.errors import InputError
from costmodel.recordings.quantities import RunName
from profiler.calibrate.leaves.energy_loops import loads
from tests.profiler.session import fake_worker
from tests.profiler.session.profiles import workload
from tests.steps import tiny_model

pytestmark = pytest.mark.slow  # each part starts a worker

TWO: tuple[tuple[RunName, int], ...] = (("time", 1), ("energy", 1))
CASES = tuple(workload(batch) for batch in (1, 2))
MODEL = HeldOutModel(
    name="tiny", group="t", model=tiny_model(name="tiny"), cases=CASES, energy=CASES[1:], pair=None
)
COMMITMENT = Commitment(
    committed="2026-01-01T00:00:00Z",
    sparsecost_version="0",
    digests={"shapes": "0"},
    predictions=(),
)
LOOPS = [
    loop
    for loop in json.loads((FOLDER / f"h200{LEAVES}.json").read_text())["loops"]
    if is_anchor(loop["name"])
]
STEADY: Readings = dict.fromkeys(NAMES, 1e-3)
HOUR_S = 3600.0


def opened(out: Path, *, resume: bool = False) -> Journal:
    journal = Journal(out=out)
    journal.open(COMMITMENT, resume=resume)
    return journal


def anchors(*readings: Readings) -> Callable[[], Readings]:
    """These readings, and steady ones ever after."""
    given: Iterator[Readings] = iter(readings)
    return lambda: next(given, STEADY)


def run(
    journal: Journal,
    *tricks: str,
    reads: Callable[[], Readings] = STEADY.copy,
    left_s: float = HOUR_S,
) -> tuple[bool, list[str]]:
    said: list[str] = []
    instruments = Instruments(
        worker=(*fake_worker.COMMAND, *tricks), anchors=reads, card=LOOPS.copy
    )
    return measure(journal, (MODEL,), monotonic() + left_s, said.append, instruments), said


def medians(journal: Journal) -> dict[tuple[str, str], int]:
    """How many processes measured each case and quantity."""
    values = json.loads(summary_text(summary(journal, (MODEL,))))["values"]
    return {(value["case"], value["quantity"]): len(value["medians"]) for value in values}


@pytest.fixture
def two_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "ORDER", TWO)


def test_eight_anchors() -> None:
    assert len(NAMES) == 8


def test_the_card_has_loops_of_nothing_a_copy_and_a_product() -> None:
    """By the names of the calibration; products of few rows and in the middle of a name are not."""
    names = [load.name for load in loads(scale=1e-4, device="cpu")]
    anchors = [name for name in names if is_anchor(name)]
    assert len(anchors) == 4
    assert sum(name[4:] == "kernels that do nothing" for name in anchors) == 1
    assert sum(name.startswith("product of") for name in anchors) == 2


def test_a_card_that_cannot_be_measured_has_no_loops() -> None:
    assert read_card(("false",)) == []


def test_an_anchor_moves_beyond_two_per_cent() -> None:
    assert moved({"a": 100.0, "b": 50.0}, {"a": 101.9, "b": 49.1}) == {}
    assert moved({"a": 100.0, "b": 50.0}, {"a": 103.0, "b": 48.0}) == pytest.approx(
        {"a": 0.03, "b": -0.04}
    )
    assert moved({"a": 1.0}, {}) == {"a": float("inf")}


def test_all_parts_in_order_and_a_summary(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    whole, _ = run(journal)
    assert whole
    assert [(part.run, part.process) for part in journal.parts] == list(ORDER)
    assert all(part.counts for part in journal.parts)
    first, second = (case.label for case in CASES)
    assert medians(journal) == {
        (first, "kernel_s"): 1,
        (second, "kernel_s"): 1,
        (first, "hbm_read_bytes"): 1,
        (second, "hbm_read_bytes"): 1,
        (second, "energy_j"): 1,
    }
    assert journal.card == LOOPS
    anchored = json.loads(summary_text(summary(journal, (MODEL,))))["of_card"]
    assert {each["quantity"] for each in anchored} == {"energy_j"}


@pytest.mark.usefixtures("two_parts")
def test_a_void_part_is_measured_again_and_stays_on_record(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    off = STEADY | {NAMES[0]: 1.03e-3}
    # the first part ends off; the second attempt goes from off to steady, the third is steady
    whole, said = run(journal, reads=anchors(STEADY, off))
    assert whole
    assert [part.counts for part in journal.parts] == [False, False, True, True]
    assert sum(line.startswith("void: ") for line in said) == 2
    table = summary(journal, (MODEL,))
    assert table["parts"][0]["moved"] == pytest.approx({NAMES[0]: 0.03})
    assert len(list(tmp_path.glob("*-time-1"))) == 3


@pytest.mark.usefixtures("two_parts")
def test_a_part_that_stays_void_is_given_up_and_the_next_goes_on(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    turns = count()
    whole, _ = run(journal, reads=lambda: dict.fromkeys(NAMES, 1e-3 * (1 + next(turns))))
    assert not whole
    assert len(journal.parts) == 3 * len(TWO)
    assert medians(journal) == {}


@pytest.mark.usefixtures("two_parts")
def test_ctrl_c_loses_nothing_and_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(tmp_path)
    real = __import__("profiler.session.session", fromlist=["ProfileSession"]).ProfileSession
    finish, finished = real.finish, count(1)

    def interrupted(*args: object) -> None:
        finish(*args)
        if next(finished) == 2:  # of time
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(real, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(journal)
    assert [part.counts for part in journal.parts] == [True]  # closed by a reading
    again = opened(tmp_path, resume=True)
    left = {
        (r, p): sum(len(m.plan) for m in pending(again, (MODEL,), r, p)) for r, p in measuring.ORDER
    }
    assert left == {TWO[0]: 0, TWO[1]: 1}
    whole, _ = run(again)
    assert whole


@pytest.mark.usefixtures("two_parts")
def test_a_part_that_was_killed_is_closed_by_the_next_call(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    run(journal)
    lines = journal.path.read_text().splitlines()
    journal.path.write_text("\n".join(lines[:3]) + '\n{"event": "anch')  # killed within part 1
    again = opened(tmp_path, resume=True)
    assert [part.after for part in again.parts] == [None]
    again.add_anchors(STEADY)
    assert not pending(again, (MODEL,), *TWO[0])
    other = replace(again.parts[0], after=dict.fromkeys(NAMES, 1.1e-3))
    assert not other.counts
    assert len(read_events(again.path)) == 4


def test_the_end_of_the_time(tmp_path: Path) -> None:
    whole, said = run(opened(tmp_path), left_s=1)
    assert not whole
    assert said[-1].startswith("the time is up")


def test_another_commitment_is_refused(tmp_path: Path) -> None:
    opened(tmp_path)
    with pytest.raises(InputError, match="--resume"):
        opened(tmp_path)
    with pytest.raises(InputError, match="another commitment"):
        Journal(out=tmp_path).open(replace(COMMITMENT, digests={}), resume=True)


def test_the_real_worker_measures_a_small_model_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU has no graph and no counters: the run is kept, and gives no value."""
    monkeypatch.setattr(measuring, "ORDER", TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    journal = opened(tmp_path)
    model = replace(MODEL, cases=CASES[:1], energy=CASES[:1])
    said: list[str] = []
    used = Instruments(anchors=anchors())
    assert not measure(journal, (model,), monotonic() + HOUR_S, said.append, used)
    assert said[-1] == "not measured (no NVIDIA GPU)"
    assert [part.run for part in journal.parts] == ["time", "energy"]
    (recording,) = (each for _, each in part_recordings(tmp_path, journal.parts[0]))
    assert "eager_s" in recording.cases[0].runs["time"].step
    assert medians(journal) == {}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_anchors_of_a_gpu_stay_where_they_are() -> None:
    first = read_anchors()
    assert tuple(first) == NAMES
    assert not moved(first, read_anchors())
