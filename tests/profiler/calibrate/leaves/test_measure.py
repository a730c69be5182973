"""Which worker is started for what, with workers that are made up: lost ones, and late ones."""

import json
from collections import deque
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar, Self

import pytest

from profiler.calibrate.leaves import measure as measure_module
from profiler.calibrate.leaves.journal import Journal
from profiler.calibrate.leaves.measure import FIRST_SLICE, SLICE, Plan, measure
from profiler.calibrate.leaves.worker_order import Order, order_of
from profiler.instruments.process import WorkerLostError
from tests.profiler.calibrate.leaves.test_journal import SESSION, SHAPES, measured, opened


class Process:
    """A worker that measures at once; shape 1 of `lost_in` makes it crash, `late` has no time."""

    lost_in: ClassVar[str] = ""
    late: ClassVar[str] = ""
    orders: ClassVar[list[Order]] = []

    def __init__(self, command: object, *, timeout_s: float, ends_s: float) -> None:
        assert command == measure_module.WORKER
        assert timeout_s > 0
        assert ends_s > 0
        self.lines: deque[dict[str, Any] | None] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, line: bytes) -> None:
        order = order_of(line)
        self.orders.append(order)
        self.lines.append(SESSION)
        for shape in () if order.run in ("compile", self.late) else order.shapes:
            self.lines.append({"event": "began", "shape": shape.number})
            if order.run == self.lost_in and shape.number == 1:
                self.lines.append(None)
                return
            self.lines.append(measured(shape.number, order.run))
        self.lines.append({"event": "end"})

    def read(self) -> bytes:
        event = self.lines.popleft()
        if event is None:
            raise WorkerLostError("was killed by SIGSEGV")
        return json.dumps(event).encode() + b"\n"

    def wait(self) -> None:
        pass


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> type[Process]:
    monkeypatch.setattr(measure_module, "LineProcess", Process)
    monkeypatch.setattr(Process, "orders", [])
    return Process


def orders(path: Path, *, device: Any = "cuda", backend: Any = "torch", count: int = 3) -> Journal:  # noqa: ANN401
    """Measure so many shapes."""
    shapes = (SHAPES * count)[:count]
    journal = opened(path, backend=backend, shapes=shapes)
    plan = Plan(device=device, backend=backend, ends_s=monotonic() + 60, shapes=count)
    measure(journal, plan, lambda _: None)
    return journal


def asked(process: type[Process]) -> list[tuple[str, list[int]]]:
    return [(order.run, [shape.number for shape in order.shapes]) for order in process.orders]


def test_each_slice_is_measured_in_all_ways_before_the_next(
    process: type[Process], tmp_path: Path
) -> None:
    orders(tmp_path / "j.jsonl", count=FIRST_SLICE + 2)
    first, second = list(range(FIRST_SLICE)), [FIRST_SLICE, FIRST_SLICE + 1]
    assert asked(process) == [
        ("time", first),
        ("trace", first),
        ("counters", first),
        ("energy", []),
        ("time", second),
        ("trace", second),
        ("counters", second),
    ]
    assert FIRST_SLICE < SLICE


def test_loops_alone_take_one_worker(process: type[Process], tmp_path: Path) -> None:
    orders(tmp_path / "j.jsonl", count=0)
    assert asked(process) == [("energy", [])]


def test_kernels_of_fused_are_compiled_first_and_its_energy_is_not_measured(
    process: type[Process], tmp_path: Path
) -> None:
    orders(tmp_path / "j.jsonl", backend="fused", count=FIRST_SLICE + 1)
    runs = [run for run, _ in asked(process) if run != "compile"]
    assert runs == ["time", "trace", "counters"] * 2
    assert process.orders[0].run == "compile"


def test_a_cpu_has_no_energy_and_nothing_is_compiled(
    process: type[Process], tmp_path: Path
) -> None:
    orders(tmp_path / "j.jsonl", device="cpu", backend="fused")
    assert [run for run, _ in asked(process)] == ["time", "trace", "counters"]


def test_a_shape_that_loses_a_worker_is_left_out_and_the_others_are_measured(
    process: type[Process], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "lost_in", "trace")
    journal = orders(tmp_path / "j.jsonl")
    traced = [shapes for run, shapes in asked(process) if run == "trace"]
    assert traced == [[0, 1, 2], [2]]
    (lacking,) = (event for event in journal.events if event["event"] == "lacking")
    assert (lacking["shape"], lacking["run"]) == (1, "trace")
    assert "SIGSEGV" in lacking["reason"]
    assert journal.done("counters") == {0, 1, 2}


def test_a_worker_without_time_is_not_asked_again(
    process: type[Process], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "late", "time")
    journal = orders(tmp_path / "j.jsonl")
    assert [run for run, _ in asked(process)] == ["time", "trace", "counters", "energy"]
    assert journal.done("time") == set()
