"""Readings by copy, on a GPU that is made up: what runs before what, and what is left out."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any, Self

import pytest
import torch

from costmodel.recordings.measured import Missing, Spread
from profiler.calibrate.leaves import instruments
from profiler.calibrate.leaves.copies import Copies
from profiler.calibrate.leaves.instruments import (
    TRACED_COPIES,
    ByteCounter,
    GraphClock,
    Tracer,
    named,
)
from profiler.calibrate.leaves.readings import CpuClock, reason_of
from profiler.instruments.counters import RangeCounts
from profiler.instruments.kernels import KernelSums

REPLAY_S = 0.004


class Log(list[str]):
    """What ran, in order."""

    def of(self, name: str) -> Callable[[], None]:
        return lambda: self.append(name)


class Flush:
    """Notes that it ran."""

    log: Log

    def __call__(self) -> None:
        self.log.append("flush")

    def settle(self) -> None:
        pass


class Counters:
    """Counts 1,000 bytes read and 600 written, in each call."""

    log: Log

    def __init__(self, **_: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.log.append("released")

    def step(self, run: Callable[[], object], *, flush: Callable[[], object]) -> RangeCounts:
        flush()
        run()
        flush()
        return RangeCounts(
            hbm_read_bytes=1000,
            hbm_written_bytes=400,
            tensor_flops=None,
            duration_s=1.0,
            hbm_settled_bytes=600,
        )


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    """A GPU on which a graph is a list of calls, and takes 4 ms."""
    log = Log()
    for stand_in in (Flush, Counters):
        monkeypatch.setattr(stand_in, "log", log, raising=False)

    def capture(calls: Sequence[Callable[[], object]]) -> object:
        log.append("capture")
        return SimpleNamespace(replay=lambda: [call() for call in calls])

    def replay_seconds(graph: Any, replays: int, flush: Callable[[], object]) -> list[float]:  # noqa: ANN401
        for _ in range(replays):
            flush()
            graph.replay()
        return [REPLAY_S] * replays

    def kernels_by_path(
        run: Callable[[], object],
        within: Callable[[Any], AbstractContextManager[None]],
        paths: Iterable[str],
        *,
        steps: int,
    ) -> list[KernelSums]:
        with within(pytest.fail):
            run()
        seen = [path for path in paths if "unseen" not in path]
        return [
            KernelSums(
                seconds=dict.fromkeys(seen, 6e-6),
                launches=dict.fromkeys(seen, 8),
                names={path: Counter({"gemm": 4, "add": 4}) for path in seen},
            )
        ] * steps

    for name, made_up in (
        ("capture", capture),
        ("replay_seconds", replay_seconds),
        ("kernels_by_path", kernels_by_path),
        ("kernel_nodes", lambda _graph: 8),
        ("warm_up", lambda call: call()),
        ("L2Flush", Flush),
        ("HardwareCounters", Counters),
    ):
        monkeypatch.setattr(instruments, name, made_up)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    return log


def copies(log: Log, count: int = 4, path: str = "layers.1.moe.experts") -> Copies:
    return Copies(
        path=path,
        calls=tuple(log.of(str(number)) for number in range(count)),
        sets=count,
        begin=log.of("begin"),
        prepare=log.of("prepare"),
    )


def test_each_replay_follows_its_preparation_and_a_flush(log: Log) -> None:
    ((path, reading),) = GraphClock()([copies(log)])
    assert path == "layers.1.moe.experts"
    assert reading.step_s == Spread(
        median=0.001, q1=0.001, q3=0.001, repeats=instruments.REPLAYS, source="cuda_event"
    )
    assert (reading.copies, reading.sets, reading.kernels) == (4, 4, 2.0)
    captured = log.index("capture")
    assert log[:captured] == ["begin", "prepare", "0", "prepare", "0", "1", "2"]
    assert log[captured + 1] == "begin"
    replay = ["prepare", "flush", "0", "1", "2", "3"]
    assert log[captured + 2 :] == replay * instruments.REPLAYS


def test_bytes_are_those_that_are_settled_by_copy(log: Log) -> None:
    ((_, reading),) = ByteCounter()([copies(log)])
    assert reading.hbm_read_bytes == Spread(
        median=250, q1=250, q3=250, repeats=1, source="hardware_counter"
    )
    assert reading.hbm_written_bytes == Spread(
        median=150, q1=150, q3=150, repeats=1, source="hardware_counter"
    )
    assert isinstance(reading.flops_tensor, Missing)
    assert log.index("released") == 0  # the counters were tried out; graphs are captured without
    assert log.index("capture") < log.index("flush")
    assert log[-1] == "released"


def test_a_trace_of_all_leaves_has_few_copies_of_each(log: Log) -> None:
    many = copies(log, 2 * TRACED_COPIES, "layers.1.ffn.down")
    readings = dict(Tracer()([many, copies(log)]))
    assert readings["layers.1.ffn.down"].copies == TRACED_COPIES
    reading = readings["layers.1.moe.experts"]
    assert reading.kernel_s == Spread(
        median=1.5e-6, q1=1.5e-6, q3=1.5e-6, repeats=2, source="torch_profiler"
    )
    assert (reading.kernels, reading.kernel_names) == (2.0, (("add", 1.0), ("gemm", 1.0)))


def test_what_a_trace_does_not_show_is_missing(log: Log) -> None:
    readings = dict(Tracer()([copies(log, path="unseen"), copies(log)]))
    assert isinstance(readings["unseen"].kernel_s, Missing)
    assert isinstance(readings["layers.1.moe.experts"].kernel_s, Spread)


@pytest.mark.parametrize("made", [GraphClock, Tracer, ByteCounter])
def test_a_leaf_that_fails_is_left_out_and_the_next_is_measured(
    log: Log, made: Callable[[], Any]
) -> None:
    def fail() -> None:
        raise RuntimeError("no kernel for /home/somebody/this\nand more")

    bad = Copies(path="bad", calls=(fail,), sets=1)
    readings = dict(made()([bad, copies(log)]))
    assert not readings["bad"].has_values
    assert readings["layers.1.moe.experts"].has_values
    reading = readings["bad"]
    missing = reading.step_s or reading.kernel_s or reading.hbm_read_bytes
    assert isinstance(missing, Missing)
    assert "RuntimeError: no kernel for" in missing.reason
    assert "somebody" not in missing.reason


@pytest.mark.usefixtures("log")
def test_a_gpu_that_failed_ends_the_process() -> None:
    def fail() -> None:
        raise RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        list(GraphClock()([Copies(path="bad", calls=(fail,), sets=1)]))
    assert reason_of(RuntimeError("CUDA error: misaligned address")) is None
    assert reason_of(torch.OutOfMemoryError("2 GiB")) == "out of memory"


def test_a_cpu_gives_a_time_and_says_what_it_lacks() -> None:
    log = Log()
    ((_, timed),) = CpuClock("time")([copies(log)])
    assert isinstance(timed.step_s, Spread)
    assert timed.step_s.source == "wall_clock"
    assert log[:3] == ["begin", "prepare", "0"]
    for run in ("trace", "counters"):
        ((_, lacking),) = CpuClock(run)([copies(log)])
        assert not lacking.has_values


def test_names_of_kernels_are_cut_and_those_alike_are_added() -> None:
    long = "x" * 300
    assert named(Counter({long: 4, f"{long}y": 4, "\u00e9": 2}).items(), 4) == (
        ("x" * 200, 2.0),
        ("?", 0.5),
    )
