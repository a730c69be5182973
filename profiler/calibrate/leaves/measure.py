"""Measures the leaves of a list of shapes, by a worker process for each kind of run.

Shapes are taken in slices, each of which is timed, traced and counted before the next begins, so
that a run that is cut off holds whole slices. The energy loops, which are of no backend, follow the
first slice of `torch`, so that a run that is cut off has them. A shape during which a worker is
lost is left out, and another worker goes on with the others.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from os import cpu_count
from time import monotonic
from typing import TypeVar

from costmodel.inputs.workload import Backend
from costmodel.recordings.leaf_calibration import RUNS
from costmodel.recordings.machine import Device
from profiler.calibrate.leaves.journal import Journal
from profiler.calibrate.leaves.shapes import Shape
from profiler.calibrate.leaves.worker_order import Order, ShapeOrder, WorkerRun, order_line
from profiler.instruments.process import LineProcess, WorkerLostError

WORKER = (sys.executable, "-P", "-m", "profiler.calibrate.leaves.worker")
FIRST_SLICE, SLICE = 4, 24  # shapes; a worker takes about eight seconds to begin
MOST_COMPILERS = 12  # processes at once
SILENT_S = 180.0  # without an event, after which a worker counts as lost
ENDING_S = 15.0  # for the last anchors, and for the file

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured, and until when by `time.monotonic`."""

    device: Device
    backend: Backend
    ends_s: float
    shapes: int  # the first so many of the list; none: the energy loops alone


def measure(journal: Journal, plan: Plan, say: Callable[[str], None]) -> None:
    """Measure what the journal lacks, until all is done or the time is over."""
    numbered = list(enumerate(journal.shapes))[: plan.shapes]
    for place, slice_ in enumerate(_slices(numbered)):
        if plan.backend == "fused" and plan.device == "cuda":
            lacking = [each for each in slice_ if each[0] not in journal.done("time")]
            _compile(lacking, plan, say)
        for run in RUNS:
            _measure_run(run, slice_, journal, plan, say)
        loops = plan.device == "cuda" and plan.backend == "torch" and not journal.has_loops
        if loops and place == 0:
            _work("energy", (), journal, plan, say)


def _slices(shapes: Sequence[T]) -> Iterator[Sequence[T]]:
    """A few, to see that all kinds of run work, and then many at a time."""
    yield shapes[:FIRST_SLICE]
    for first in range(FIRST_SLICE, len(shapes), SLICE):
        yield shapes[first : first + SLICE]


def _measure_run(
    run: WorkerRun,
    shapes: Sequence[tuple[int, Shape]],
    journal: Journal,
    plan: Plan,
    say: Callable[[str], None],
) -> None:
    while _left_s(plan) > 0:
        pending = [each for each in shapes if each[0] not in journal.done(run)]
        if not pending:
            return
        before = len(pending)
        _work(run, pending, journal, plan, say)
        if len([each for each in shapes if each[0] not in journal.done(run)]) == before:
            return  # the time is over, or no worker can begin


def _work(
    run: WorkerRun,
    shapes: Sequence[tuple[int, Shape]],
    journal: Journal,
    plan: Plan,
    say: Callable[[str], None],
) -> None:
    """Let one worker do it; a shape that it is lost with is noted as lacking."""
    began: int | None = None
    with _started(plan) as worker:
        worker.write(order_line(_order(run, shapes, plan)))
        try:
            while (line := worker.read()) is not None:
                event = journal.add_line(line)
                match event["event"]:
                    case "end":
                        worker.wait()
                        return
                    case "began":
                        began = event["shape"]
                    case "measured" | "lacking":
                        say(_line(event, journal, plan))
                        began = None
        except WorkerLostError as lost:
            say(f"{run}: the worker was lost: {lost}")
            if began is not None and run in RUNS:
                journal.add(
                    {"event": "lacking", "shape": began, "run": run, "reason": f"lost: {lost}"}
                )


def _line(event: dict[str, object], journal: Journal, plan: Plan) -> str:
    run, number = str(event["run"]), event["shape"]
    assert isinstance(number, int)
    shape = journal.shapes[number]
    points = sum(
        each["event"] == "point" and each["shape"] == number and each["run"] == run
        for each in journal.events
    )
    what = f"lacking, {event['reason']}" if event["event"] == "lacking" else f"{points} points"
    return (
        f"[{number + 1}/{len(journal.shapes)}] {run} {shape.model.name}, {shape.workload.label}:"
        f" {what}; {_left_s(plan):.0f} s left"
    )


def _compile(shapes: Sequence[tuple[int, Shape]], plan: Plan, say: Callable[[str], None]) -> None:
    """Run a few layers of each shape in several processes, so that Triton's cache has its kernels.

    What a compiler cannot do is found again, and noted, when it is measured.
    """
    if not shapes:
        return
    start, count = monotonic(), min(MOST_COMPILERS, max(1, (cpu_count() or 1) - 2), len(shapes))
    with ExitStack() as stack:
        workers = [stack.enter_context(_started(plan)) for _ in range(count)]
        for place, worker in enumerate(workers):
            worker.write(order_line(_order("compile", shapes[place::count], plan)))
        for worker in workers:
            try:
                while (line := worker.read()) is not None and b'"end"' not in line:
                    pass
            except WorkerLostError as lost:
                say(f"compile: a worker was lost: {lost}")
    say(f"kernels of {len(shapes)} shapes compiled in {monotonic() - start:.0f} s")


def _started(plan: Plan) -> LineProcess:
    return LineProcess(WORKER, timeout_s=SILENT_S, ends_s=plan.ends_s)


def _order(run: WorkerRun, shapes: Sequence[tuple[int, Shape]], plan: Plan) -> Order:
    return Order(
        run=run,
        backend=plan.backend,
        device=plan.device,
        seconds=max(0.0, _left_s(plan) - ENDING_S),
        shapes=tuple(
            ShapeOrder(number=number, model=shape.model, workload=shape.workload, seed=number)
            for number, shape in shapes
        ),
    )


def _left_s(plan: Plan) -> float:
    return plan.ends_s - monotonic()
