"""Launches, power and progress of a calibration, with clocks and meters that only pretend."""

from collections.abc import Callable

import pytest
import torch

from costmodel.errors import WorkError
from costmodel.recordings.machine import Conditions
from costmodel.recordings.measured import Missing, Spread
from profiler.calibrate.graph_timer import GraphTimer, UnmeasuredError
from profiler.calibrate.launch import (
    CALLS_A_ROUND,
    ROUNDS,
    eager_seconds,
    ordinary_calls,
    seconds_per_node,
)
from profiler.calibrate.operations import MoveOperation
from profiler.calibrate.power import measure_power
from profiler.calibrate.progress import StderrProgress
from profiler.instruments.energy import Energy

STILL = Missing(reason="this GPU has no energy counter")


def test_the_cost_of_a_node_leaves_out_the_launch_of_its_graph() -> None:
    """A launch of 8 us and 1.1 us a node."""
    assert seconds_per_node(lambda nodes: 8e-6 + 1.1e-6 * nodes) == pytest.approx(1.1e-6)


def test_an_eager_launch_is_a_share_of_a_full_queue() -> None:
    """Each launch takes the host 5 us, and the last kernel of a round ends 1 ms later."""
    passed = [0.0]

    def launch() -> None:
        passed[0] += 5e-6

    def synchronize() -> None:
        passed[0] += 1e-3

    seconds_a_run = eager_seconds(launch, synchronize, lambda: passed[0])
    assert seconds_a_run == pytest.approx([5e-6 + 1e-3 / CALLS_A_ROUND] * ROUNDS)


def energy(power_w: float, steps: int) -> Energy:
    reading = power_w * 4.0 / steps
    return Energy(
        energy_j_per_step=Spread(median=reading, q1=reading, q3=reading, repeats=5, source="nvml"),
        power_w=power_w,
        sampled_power_w=None,
        power_reading=None,
        steps=steps,
        seconds=4.0,
        conditions=Conditions(
            started="2026-01-01T00:00:00Z", warm_up=9, temperature_c=power_w / 10
        ),
    )


def meter(*answers: Energy | Missing) -> Callable[[Callable[[int], None]], Energy | Missing]:
    """Runs two steps, and gives one answer after the other."""
    left = iter(answers)

    def measure(run: Callable[[int], None]) -> Energy | Missing:
        run(2)
        return next(left)

    return measure


def test_rates_are_what_the_loops_did_a_second() -> None:
    """80 copies of 1,000 bytes read and written in 4 s; 20 products of 2 x 10^3 FLOPs."""
    measured_power = measure_power(
        110.0,
        meter(energy(487.0, 80), energy(689.0, 20)),
        torch.device("cpu"),
        copy_bytes=1000,
        width=10,
    )
    assert not isinstance(measured_power.power, Missing)
    assert (
        measured_power.power.idle_w,
        measured_power.power.copy_w,
        measured_power.power.gemm_w,
    ) == (110.0, 487.0, 689.0)
    assert measured_power.power.copy_bytes_per_s == 80 * 2000 / 4
    assert measured_power.power.gemm_flops_per_s == 20 * 2000 / 4
    assert measured_power.conditions is not None
    assert measured_power.conditions.temperature_c == 68.9  # of the last load


@pytest.mark.parametrize(
    ("idle", "answers"),
    [(STILL, ()), (110.0, (STILL,)), (110.0, (energy(487.0, 80), STILL))],
)
def test_power_without_a_counter_is_missing_with_its_reason(
    idle: float | Missing, answers: tuple[Energy | Missing, ...]
) -> None:
    measured_power = measure_power(
        idle, meter(*answers), torch.device("cpu"), copy_bytes=1000, width=10
    )
    assert measured_power.power == STILL


def test_progress_in_a_pipe_is_plain_lines_with_the_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One of four points took 10 s of the 10 s so far: three more take 30 s."""
    times = iter([100.0, 100.0, 110.0])
    with StderrProgress(4, clock=lambda: next(times)) as progress:
        progress.begin("move")
        progress.advance()
        progress.begin("gemm")
        progress.say("gemm: m=1: left out: \x1b[2Jout of memory")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "0 s: move (0 of 4 points done)",
        "10 s: gemm (1 of 4 points done, about 30 s left)",
        "gemm: m=1: left out:  [2Jout of memory",
    ]


@pytest.mark.parametrize(
    ("failure", "kind", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), UnmeasuredError, "^out of memory$"),
        (
            RuntimeError("No available kernel.\nAborting."),
            UnmeasuredError,
            "^No available kernel.$",
        ),
        (
            torch.AcceleratorError("CUDA error: illegal"),
            WorkError,
            "bytes=64: the GPU failed: CUDA",
        ),
        (WorkError("the driver"), WorkError, "^the driver$"),
    ],
)
def test_a_refusal_costs_a_point_and_a_broken_gpu_the_calibration(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, kind: type[Exception], message: str
) -> None:
    def fails(*_: object) -> None:
        raise failure

    monkeypatch.setattr(MoveOperation, "calls", fails)
    timer = GraphTimer.__new__(GraphTimer)
    timer.device = torch.device("cpu")
    with pytest.raises(kind, match=message):
        timer(MoveOperation(bytes=64))


def test_ordinary_calls_run_and_keep_their_shape() -> None:
    out = ordinary_calls("cpu")()
    assert out.shape == (4, 64)
    assert out.isfinite().all()
