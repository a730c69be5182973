"""Timed rounds on a clock of our own: what is timed, how often, and in which order."""

from collections.abc import Callable

import pytest
import torch

from costmodel.recordings.machine import Conditions
from profiler.instruments import timing
from profiler.instruments.timing import (
    BUDGET_S,
    FEWEST_ROUNDS,
    GRAPHS_A_ROUND,
    LOAD_S,
    ROUNDS,
    STEADY_ROUNDS,
    cuda_seconds,
    under_load,
)


class Device:
    """Work that takes as long as it is said to, and events that read the clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        self.ran: list[str] = []
        self.unread = self.waits = 0
        device = self

        class Event:
            def __init__(self, *, enable_timing: bool) -> None:
                assert enable_timing
                self.at_s = float("nan")

            def record(self) -> None:
                self.at_s = device.now_s
                device.unread += 1

            def elapsed_time(self, end: "Event") -> float:
                assert not device.unread, "read before the GPU was waited for"
                return (end.at_s - self.at_s) * 1e3

        def synchronize() -> None:
            self.unread = 0
            self.waits += 1

        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
        monkeypatch.setattr(timing, "perf_counter", lambda: self.now_s)

    def work(self, name: str, *seconds: float) -> Callable[[], None]:
        """Work that takes these seconds in turn, and the last of them ever after."""
        left = list(seconds)

        def run() -> None:
            self.ran.append(name)
            self.now_s += left.pop(0) if len(left) > 1 else left[0]

        return run


class Flush:
    """Takes half a second each time, which must not be seen."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def __call__(self) -> None:
        self.device.ran.append("flush")
        self.device.now_s += 0.5

    def settle(self) -> None:
        self.device.ran.append("settle")
        self.device.now_s += 0.5


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(monkeypatch)


def test_both_forms_are_timed_in_turns_and_what_runs_before_is_not(device: Device) -> None:
    """Replays that take equally long need no more than four rounds."""
    assert STEADY_ROUNDS == 4
    latency = cuda_seconds(device.work("graph", 0.002), device.work("eager", 0.005), Flush(device))
    assert latency.graph_s == pytest.approx([0.002] * 16)
    assert latency.eager_s == pytest.approx([0.005] * 4)

    def turn(form: str, times: int) -> list[str]:
        return ["settle", *["flush", form] * (times + 1)]

    tried = turn("graph", 1) + turn("eager", 1)
    a_round = turn("graph", GRAPHS_A_ROUND) + turn("eager", 1)
    assert device.ran == tried + a_round * STEADY_ROUNDS


def test_the_first_run_of_a_turn_is_not_counted(device: Device) -> None:
    latency = cuda_seconds(None, device.work("eager", *[9.0, 0.001] * 11), Flush(device))
    assert latency.eager_s == pytest.approx([0.001] * ROUNDS)
    assert latency.graph_s == ()


@pytest.mark.parametrize(("slower", "rounds"), [(1.004, STEADY_ROUNDS), (1.006, ROUNDS)])
def test_replays_that_differ_by_over_half_a_percent_are_timed_in_all_rounds(
    device: Device, slower: float, rounds: int
) -> None:
    """Every other replay takes longer: the quartiles are the two times, the median is between."""
    replay = device.work("graph", *[0.002, 0.002 * slower] * 40)
    latency = cuda_seconds(replay, device.work("eager", 0.005), Flush(device))
    assert len(latency.graph_s) == rounds * GRAPHS_A_ROUND
    assert len(latency.eager_s) == rounds


@pytest.mark.parametrize(
    ("graph_s", "eager_s", "rounds"),
    [
        (0.01, 0.01, 10),  # 5 x 10 ms + 2 x 10 ms a round: 11 fit into the budget
        (0.014, 0.014, 8),  # 98 ms a round
        (3.0, 4.0, FEWEST_ROUNDS),
    ],
)
def test_rounds_fill_the_budget(
    device: Device, graph_s: float, eager_s: float, rounds: int
) -> None:
    """Of replays of which every other one takes 2 % longer, and the budget is that of the first."""
    assert BUDGET_S == 0.8
    replay = device.work("graph", *[graph_s, 1.02 * graph_s] * 40)
    latency = cuda_seconds(replay, device.work("eager", eager_s), Flush(device))
    assert len(latency.eager_s) == rounds
    assert len(latency.graph_s) == rounds * GRAPHS_A_ROUND


@pytest.mark.parametrize(("seconds", "in_flight"), [(0.012, 5), (7.0, 1)])
def test_clocks_are_read_while_steps_are_in_flight(
    device: Device, seconds: float, in_flight: int
) -> None:
    """5 steps of 12 ms make 50 ms; of a longer one, one."""
    assert LOAD_S == 0.05

    class Gpu:
        def conditions(self, *, started: str, warm_up: int) -> Conditions:
            device.ran.append("asked")
            assert device.waits == 1, "the steps in flight were waited for"
            return Conditions(started=started, warm_up=warm_up)

    started = "2026-01-01T00:00:00Z"
    state = under_load(Gpu(), device.work("step", seconds), started=started)
    assert (state.started, state.warm_up) == (started, 1)
    assert device.ran == ["step"] * (1 + in_flight) + ["asked"]


@pytest.mark.parametrize(("seconds", "runs"), [(0.001, ROUNDS), (0.11, 8), (30.0, FEWEST_ROUNDS)])
def test_wall_time_is_of_several_runs_after_one(device: Device, seconds: float, runs: int) -> None:
    seconds_a_run = timing.wall_seconds(device.work("step", 77.0, seconds))
    assert seconds_a_run == pytest.approx([seconds] * runs)
    assert len(device.ran) == runs + 1
