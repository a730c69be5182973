"""What is measured of the copies of a leaf or region: time, kernels, and bytes by counters.

On a GPU all copies are one CUDA graph, before each of whose replays L2 is filled with other data.
Each kind of run has a process of its own: a trace slows later replays, and counters serialise
kernels. On a CPU the copies are called one after another, and there is only a time, of no meaning.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch.autograd.profiler import record_function

from costmodel.recordings.leaf_calibration import KernelNames, Reading
from costmodel.recordings.measured import Missing, Source, Spread
from profiler.calibrate.graph_timer import capture, kernel_nodes, replay_seconds, warm_up
from profiler.calibrate.leaves.copies import Copies
from profiler.instruments.counters import HardwareCounters
from profiler.instruments.flush import L2Flush
from profiler.instruments.kernels import KernelSums, kernels_by_path
from profiler.instruments.leaf_hooks import LeafContext
from profiler.instruments.spread import spread
from profiler.runs.base import NO_GPU

LeafRun: TypeAlias = Literal["time", "trace", "counters"]
REPLAYS = 9
CPU_ROUNDS = 3
TRACED = 2  # replays
MOST_S = 0.03  # of a replay: slower leaves have fewer copies
FEWEST_COPIES = 3
NAME_CHARACTERS = 200


class Instrument(Protocol):
    """Measures the copies of the leaves of one shape, in one kind of run."""

    def __call__(self, copies: Copies) -> Reading:
        """What was measured, by copy."""


class CpuClock:
    """Wall times on a CPU; nothing else can be had there."""

    def __init__(self, run: LeafRun) -> None:
        self.run = run

    @torch.no_grad()
    def __call__(self, copies: Copies) -> Reading:
        """Time all copies in turn."""
        if self.run != "time":
            missing = Missing(reason=NO_GPU)
            if self.run == "trace":
                return Reading(copies=len(copies.calls), sets=copies.sets, kernel_s=missing)
            return Reading(
                copies=len(copies.calls),
                sets=copies.sets,
                hbm_read_bytes=missing,
                hbm_written_bytes=missing,
                flops_tensor=missing,
            )
        seconds = []
        for _ in range(CPU_ROUNDS):
            copies.prepare()
            start = perf_counter()
            for call in copies.calls:
                call()
            seconds.append(perf_counter() - start)
        return Reading(
            copies=len(copies.calls),
            sets=copies.sets,
            step_s=_by_copy(seconds, len(copies.calls), "wall_clock"),
        )


class _Graphs:
    """Captures copies as a graph; slow leaves with fewer copies."""

    def __init__(self) -> None:
        self.flush = L2Flush()

    @torch.no_grad()
    def __call__(self, copies: Copies) -> tuple[torch.cuda.CUDAGraph, int]:
        copies.prepare()
        warm_up(copies.calls[0])
        copies.prepare()
        start = perf_counter()
        for call in copies.calls[:FEWEST_COPIES]:
            call()
        torch.cuda.synchronize()
        one_s = (perf_counter() - start) / min(FEWEST_COPIES, len(copies.calls))
        count = min(len(copies.calls), max(FEWEST_COPIES, int(MOST_S / one_s)))
        copies.prepare()
        return capture(copies.calls[:count]), count  # type: ignore[arg-type]


class _Prepared:
    """A flush of L2, and after it what must run before all copies."""

    def __init__(self, flush: L2Flush, copies: Copies) -> None:
        self._flush, self._prepare, self.settle = flush, copies.prepare, flush.settle

    def __call__(self) -> None:
        self._flush()
        self._prepare()


class GraphClock:
    """Times replays of all copies, between CUDA events."""

    def __init__(self) -> None:
        self._graphs = _Graphs()

    def __call__(self, copies: Copies) -> Reading:
        """Capture and time."""
        graph, count = self._graphs(copies)
        flush: Any = _Prepared(self._graphs.flush, copies)
        seconds = replay_seconds(graph, REPLAYS, flush)
        return Reading(
            copies=count,
            sets=min(copies.sets, count),
            step_s=_by_copy(seconds, count, "cuda_event"),
            kernels=kernel_nodes(graph) / count,
        )


class Tracer:
    """Names and durations of the kernels of a replay, by torch.profiler.

    Where the trace holds no kernel of a graph, eager calls are traced.
    """

    def __init__(self) -> None:
        self._graphs = _Graphs()

    def __call__(self, copies: Copies) -> Reading:
        """Capture and trace."""
        graph, count = self._graphs(copies)
        calls = copies.calls[:count]
        for run in (graph.replay, partial(_in_turn, calls)):
            sums = self._traced(run, copies)
            if all(each.launches for each in sums):
                break
        else:
            missing = Missing(reason="not measured (the trace holds no kernel)")
            return Reading(copies=count, sets=min(copies.sets, count), kernel_s=missing)
        names = sums[-1].names[copies.path]
        return Reading(
            copies=count,
            sets=min(copies.sets, count),
            kernel_s=_by_copy(
                [each.seconds[copies.path] for each in sums], count, "torch_profiler"
            ),
            kernels=sums[-1].launches[copies.path] / count,
            kernel_names=_named(names.items(), count),
        )

    def _traced(self, run: Callable[[], object], copies: Copies) -> list[KernelSums]:
        flush = _Prepared(self._graphs.flush, copies)

        def once() -> None:
            flush()
            torch.cuda.synchronize()
            with record_function(copies.path):
                run()
            torch.cuda.synchronize()

        return kernels_by_path(once, _as_it_is, [copies.path], steps=TRACED)


class ByteCounter:
    """HBM bytes and tensor-core FLOPs of a replay, by CUPTI's counters."""

    def __init__(self) -> None:
        self._graphs = _Graphs()
        self._counters = HardwareCounters(dtype="bf16", max_ranges=3)

    def __call__(self, copies: Copies) -> Reading:
        """Capture and count, with L2 full of other data before and after."""
        graph, count = self._graphs(copies)

        def run() -> None:
            graph.replay()

        flush = _Prepared(self._graphs.flush, copies)
        counts = self._counters.step(run, flush=flush)
        assert counts.hbm_settled_bytes is not None
        flops = counts.tensor_flops
        return Reading(
            copies=count,
            sets=min(copies.sets, count),
            hbm_read_bytes=_one(counts.hbm_read_bytes, count),
            hbm_written_bytes=_one(counts.hbm_settled_bytes, count),
            flops_tensor=(
                Missing(reason="not measured (this GPU has no such counter)")
                if flops is None
                else _one(flops, count)
            ),
        )


def instrument(run: LeafRun, device: str) -> Instrument:
    """The instrument of a kind of run on a device.

    Raises:
        CounterError: The counters are refused.
    """
    if device == "cpu":
        return CpuClock(run)
    return {"time": GraphClock, "trace": Tracer, "counters": ByteCounter}[run]()  # type: ignore[return-value]


@contextmanager
def _as_it_is(context: LeafContext) -> Iterator[None]:
    """Leave the step's annotations to it."""
    del context
    yield


@torch.no_grad()
def _in_turn(calls: Sequence[Callable[[], object]]) -> None:
    for call in calls:
        call()


def _by_copy(totals: Sequence[float], copies: int, source: Source) -> Spread:
    return spread([total / copies for total in totals], source)


def _one(total: int, copies: int) -> Spread:
    return spread([total / copies], "hardware_counter")


def _named(counts: Any, copies: int) -> KernelNames:  # noqa: ANN401 - items of a Counter
    """Names as printable ASCII, cut, with how often a copy launches each; most often first."""
    by_name: dict[str, float] = {}
    for name, count in counts:
        short = "".join(c if " " <= c <= "~" else "?" for c in name)[:NAME_CHARACTERS] or "?"
        by_name[short] = by_name.get(short, 0.0) + count / copies
    ordered = sorted(by_name.items(), key=lambda item: (-item[1], item[0]))
    return tuple((name, round(count, 4)) for name, count in ordered)
