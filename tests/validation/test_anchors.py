"""Anchors: the same kernels in all recordings, summed up, written and left out of older files."""

import json
from dataclasses import replace

import pytest

from costmodel.recordings.machine import Anchor, Conditions
from costmodel.recordings.recording import Recording, recording_text
from costmodel.validation.anchors import anchor_readings
from tests.recording_values import case, recording, run
from tests.validation.tiny import DENSE


def anchored(*seconds: tuple[float, float]) -> Recording:
    """A recording of one case with an anchor for each pair of times, before and after."""
    made = recording(DENSE, case(time=run()))
    (only,) = made.cases
    anchors = tuple(
        Anchor(name=f"kernel {index}", before_s=before, after_s=after)
        for index, (before, after) in enumerate(seconds)
    )
    timed = only.runs["time"]
    timed = replace(timed, conditions=replace(timed.conditions, anchors=anchors))
    return replace(made, cases=(replace(only, runs={"time": timed}),))


def test_readings_of_an_anchor_are_those_of_all_cases_of_all_recordings() -> None:
    first, second = anchor_readings(
        [anchored((1e-4, 1.01e-4), (5e-4, 5e-4)), anchored((0.99e-4, 1.1e-4))]
    )
    assert (first.name, first.readings) == ("kernel 0", 4)
    assert first.median_s == pytest.approx(1.005e-4)
    assert (first.least_s, first.most_s) == (0.99e-4, 1.1e-4)
    assert first.far == 1  # 1.1e-4 lies 9.5 % above the median
    assert (second.readings, second.far) == (2, 0)
    # 0.99 / 1.005 - 1 and 1.1 / 1.005 - 1
    assert first.words == "kernel 0: 100.5 us, -1.5 % to +9.5 % in 4 readings; 1 beyond 3 %"


def test_recordings_without_anchors_say_nothing_of_them() -> None:
    made = recording(DENSE, case(time=run()))
    assert anchor_readings([made]) == ()
    assert "anchors" not in recording_text(made)


def test_a_file_holds_anchors_among_the_conditions() -> None:
    (only,) = json.loads(recording_text(anchored((1e-4, 2e-4))))["cases"]
    assert only["runs"]["time"]["conditions"]["anchors"] == [
        {"name": "kernel 0", "before_s": 1e-4, "after_s": 2e-4}
    ]


def test_conditions_have_no_anchors_by_themselves() -> None:
    assert Conditions(started="2026-01-01T00:00:00Z", warm_up=1).anchors == ()
