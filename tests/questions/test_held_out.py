"""Held-out accuracy, as the package ships it: statistics by hand, and what commands say of it."""

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from costmodel.questions.claims import held_out as room
from costmodel.questions.claims.held_out import HeldOut, accuracies, held_out
from tests.commands import output, refusal

LEAVES = "h200.leaves"


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldOut]:
    """Two decode steps by `torch`: twice the prediction, outside its interval, and half, within."""
    first, second, *_ = held_out().select("graph_s", "decode", "torch")
    twice = replace(first, measured=4.0, predicted=2.0, low=1.0, high=3.0)
    half = replace(second, measured=1.0, predicted=2.0, low=1.0, high=2.5)
    made = replace(held_out(), steps=(half, twice))
    accuracies.cache_clear()
    monkeypatch.setattr(room, "held_out", lambda: made)
    yield made
    accuracies.cache_clear()


def test_accuracy_by_hand(by_hand: HeldOut) -> None:
    (found,) = accuracies("graph_s")
    assert (found.phase, found.backend, found.errors.count) == ("decode", "torch", 2)
    assert found.errors.mape == pytest.approx((0.5 + 1.0) / 2)
    assert found.errors.log_error == pytest.approx(1.0)
    assert found.worst == pytest.approx(1.0)
    assert (found.within, found.intervals) == (1, 2)
    assert found.half_width == pytest.approx((0.5 + 0.375) / 2)
    assert by_hand.steps[1].within is False
    assert room.off_by() == "decode 75.0 % (torch) by MAPE"
    assert room.held("torch", LEAVES) == "of held-out decode steps it held 1 of 2 (torch)"
    assert room.held("fused", LEAVES) == room.NOT_HELD


def test_a_changed_cost_model_and_another_calibration_claim_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "see sparsecost validate" in room.of_calibration("mine")
    assert room.held("torch", "mine") == room.NOT_HELD
    changed = replace(held_out(), unchanged=False)
    monkeypatch.setattr(room, "held_out", lambda: changed)
    assert "by a former cost model" in room.of_calibration(LEAVES)
    assert room.held("torch", LEAVES) == room.NOT_HELD


def test_a_prediction_says_how_far_held_out_ones_were_off() -> None:
    told = output("predict", "olmoe-1b-7b", "--batch", "16")
    assert room.off_by() in " ".join(told.split())
    assert room.held("torch", LEAVES) in " ".join(told.split())
    other = output("predict", "olmoe-1b-7b", "--batch", "16", "--hardware", "l40s")
    assert room.off_by() not in " ".join(other.split())
    prefill = output("predict", "olmoe-1b-7b", "--phase", "prefill", "--new-tokens", "64")
    assert room.NOT_HELD in " ".join(prefill.split())


def test_the_command_lists_every_step(tmp_path: Path) -> None:
    told = json.loads(output("reproduce", "--held-out", "--json"))
    assert len(told["steps"]) == len(held_out().steps) > 150
    file = tmp_path / "held_out.csv"
    output("reproduce", "--held-out", "--csv", str(file))
    with file.open(encoding="utf-8", newline="") as lines:
        assert sum(1 for _ in csv.DictReader(lines)) == len(told["steps"])
    assert "HBM bytes read of held-out models" in output("reproduce", "--held-out")


def test_answers_do_not_mix() -> None:
    assert "--held-out: goes without --public" in refusal("reproduce", "--public", "--held-out")
