"""What is measured of the copies of a leaf or region: time, kernels, and bytes by counters.

On a GPU all copies are one CUDA graph, before each of whose replays L2 is filled with other data.
Each kind of run has a process of its own: a trace slows later replays, and counters serialise
kernels. On a CPU the copies are called one after another, and there is only a time, of no meaning.
"""

from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any, Protocol, TypeVar

import torch
from torch.autograd.profiler import record_function

from costmodel.errors import InputError, WorkError
from costmodel.recordings.leaf_calibration import KernelNames, LeafRunName, Reading
from costmodel.recordings.measured import Missing, Source, Spread
from profiler.calibrate.graph_timer import capture, kernel_nodes, replay_seconds, warm_up
from profiler.calibrate.leaves.copies import Call, Copies
from profiler.instruments.counters import HardwareCounters
from profiler.instruments.cupti import DeviceLostError
from profiler.instruments.flush import L2Flush
from profiler.instruments.kernels import KernelSums, kernels_by_path
from profiler.instruments.leaf_hooks import LeafContext
from profiler.instruments.nvml import GpuLostError
from profiler.instruments.redact import redacted
from profiler.instruments.spread import rounded, spread
from profiler.runs.base import NO_GPU

REPLAYS = 9
CPU_ROUNDS = 3
TRACED_STEPS, TRACED_COPIES = 2, 32
MOST_S = 0.03  # of a replay: slower leaves have fewer copies
FEWEST_COPIES = 3
NAME_CHARACTERS = 200
LOST = (DeviceLostError, GpuLostError, torch.AcceleratorError)
GPU_FAILED = ("CUDA error", "Triton Error [CUDA]")  # of other libraries
NO_COUNTER = Missing(reason="not measured (this GPU has no such counter)")
NO_KERNEL = Missing(reason="not measured (the trace holds no kernel)")

T = TypeVar("T")


class Instrument(Protocol):
    """Measures the leaves of one shape, in one kind of run."""

    def __call__(self, leaves: Sequence[Copies]) -> Iterator[tuple[str, Reading]]:
        """What was measured of each, by its path; of one that cannot be measured, the reason."""


def instrument(run: LeafRunName, device: str) -> Instrument:
    """The instrument of a kind of run on a device.

    Raises:
        CounterError: The counters are refused.
    """
    if device == "cpu":
        return CpuClock(run)
    by_run: dict[LeafRunName, Callable[[], Instrument]] = {
        "time": GraphClock,
        "trace": Tracer,
        "counters": ByteCounter,
    }
    return by_run[run]()


def reason_of(error: Exception) -> str | None:
    """Why a leaf or a shape is left out; None where the process must end, the GPU having failed."""
    if isinstance(error, LOST) or any(words in str(error) for words in GPU_FAILED):
        return None
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out of memory"
    if isinstance(error, InputError | WorkError):
        return redacted(str(error))
    return redacted(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")


def _or_reason(do: Callable[[Copies], T], copies: Copies) -> T | Missing:
    try:
        return do(copies)
    except Exception as error:
        reason = reason_of(error)
        if reason is None:
            raise
        return Missing(reason=f"not measured ({reason})")


def _missing(run: LeafRunName, missing: Missing) -> Reading:
    """A reading of nothing."""
    match run:
        case "time":
            return Reading(copies=1, sets=1, step_s=missing)
        case "trace":
            return Reading(copies=1, sets=1, kernel_s=missing)
        case "counters":
            return Reading(
                copies=1,
                sets=1,
                hbm_read_bytes=missing,
                hbm_written_bytes=missing,
                flops_tensor=missing,
            )


class CpuClock:
    """Wall times on a CPU; nothing else can be had there."""

    def __init__(self, run: LeafRunName) -> None:
        self.run = run

    def __call__(self, leaves: Sequence[Copies]) -> Iterator[tuple[str, Reading]]:
        """Time all copies of each leaf in turn."""
        for copies in leaves:
            read = _missing(self.run, Missing(reason=NO_GPU))
            if self.run == "time":
                timed = _or_reason(self._time, copies)
                read = _missing("time", timed) if isinstance(timed, Missing) else timed
            yield copies.path, read

    @torch.no_grad()
    def _time(self, copies: Copies) -> Reading:
        seconds = []
        copies.begin()
        for _ in range(CPU_ROUNDS):
            copies.prepare()
            start = perf_counter()
            _in_turn(copies.calls)
            seconds.append(perf_counter() - start)
        count = len(copies.calls)
        return Reading(
            copies=count, sets=copies.sets, step_s=_by_copy(seconds, count, "wall_clock")
        )


class _Graph:
    """Copies captured as a graph; slow leaves with fewer of them, or `most` at most."""

    def __init__(self, copies: Copies, most: int = 10**6) -> None:
        def prepared() -> torch.Tensor:
            copies.prepare()
            copies.calls[0]()
            return torch.empty(0)

        with torch.no_grad():
            copies.begin()
            warm_up(prepared)
            copies.prepare()
            few = copies.calls[:FEWEST_COPIES]
            start = perf_counter()
            _in_turn(few)
            torch.cuda.synchronize()
            one_s = (perf_counter() - start) / len(few)
            fitting = max(FEWEST_COPIES, int(MOST_S / one_s))
            self.calls = copies.calls[: min(fitting, most)]
            self.graph = capture(self.calls)  # type: ignore[arg-type]  # what they return is freed
        self.copies, self.count = copies, len(self.calls)
        self.sets = min(copies.sets, self.count)

    def replay(self) -> None:
        """Queue all copies."""
        self.graph.replay()


class _Prepared:
    """What must run before all copies, and a flush of L2 behind it."""

    def __init__(self, flush: L2Flush, prepare: Call) -> None:
        self._flush, self._prepare, self.settle = flush, prepare, flush.settle

    def __call__(self) -> None:
        self._prepare()
        self._flush()


class GraphClock:
    """Times replays of all copies, between CUDA events."""

    def __init__(self) -> None:
        self.flush = L2Flush()

    def __call__(self, leaves: Sequence[Copies]) -> Iterator[tuple[str, Reading]]:
        """Capture and time each leaf."""
        for copies in leaves:
            read = _or_reason(self._read, copies)
            yield copies.path, _missing("time", read) if isinstance(read, Missing) else read

    def _read(self, copies: Copies) -> Reading:
        graph = _Graph(copies)
        copies.begin()
        flush: Any = _Prepared(self.flush, copies.prepare)
        seconds = replay_seconds(graph.graph, REPLAYS, flush)
        return Reading(
            copies=graph.count,
            sets=graph.sets,
            step_s=_by_copy(seconds, graph.count, "cuda_event"),
            kernels=rounded(kernel_nodes(graph.graph) / graph.count),
        )


class Tracer:
    """Names and durations of the kernels of a replay, by one trace of all leaves.

    A leaf of whose graph the trace holds no kernel is traced eagerly.
    """

    def __init__(self) -> None:
        self.flush = L2Flush()

    def __call__(self, leaves: Sequence[Copies]) -> Iterator[tuple[str, Reading]]:
        """Capture all, and trace them together."""
        graphs: dict[str, _Graph] = {}
        for copies in leaves:
            graph = _or_reason(partial(_Graph, most=TRACED_COPIES), copies)
            if isinstance(graph, Missing):
                yield copies.path, _missing("trace", graph)
            else:
                graphs[copies.path] = graph
        if not graphs:
            return
        sums = self._traced({path: graph.replay for path, graph in graphs.items()}, graphs)
        unseen = [path for path in graphs if not all(path in each.seconds for each in sums)]
        eagerly = sums
        if unseen:
            runs = {path: partial(_in_turn, graphs[path].calls) for path in unseen}
            eagerly = self._traced(runs, graphs)
        for path, graph in graphs.items():
            yield path, _traced_reading(path, graph, eagerly if path in unseen else sums)

    def _traced(
        self, runs: Mapping[str, Callable[[], None]], graphs: dict[str, _Graph]
    ) -> list[KernelSums]:
        def once() -> None:
            for path, run in runs.items():
                graphs[path].copies.begin()
                _Prepared(self.flush, graphs[path].copies.prepare)()
                torch.cuda.synchronize()
                with record_function(path):
                    run()
                torch.cuda.synchronize()

        return kernels_by_path(once, _as_it_is, runs, steps=TRACED_STEPS)


def _traced_reading(path: str, graph: _Graph, sums: Sequence[KernelSums]) -> Reading:
    if not all(path in each.seconds for each in sums):
        return _missing("trace", NO_KERNEL)
    last = sums[-1]
    seconds = [each.seconds[path] for each in sums]
    return Reading(
        copies=graph.count,
        sets=graph.sets,
        kernel_s=_by_copy(seconds, graph.count, "torch_profiler"),
        kernels=rounded(last.launches[path] / graph.count),
        kernel_names=named(last.names[path].items(), graph.count),
    )


class ByteCounter:
    """HBM bytes and tensor-core FLOPs of a replay, by CUPTI's counters."""

    def __init__(self) -> None:
        self.flush = L2Flush()
        self._counters = HardwareCounters(dtype="bf16", max_ranges=3)

    def __call__(self, leaves: Sequence[Copies]) -> Iterator[tuple[str, Reading]]:
        """Capture and count each leaf, with L2 full of other data before and after."""
        for copies in leaves:
            read = _or_reason(self._read, copies)
            yield copies.path, _missing("counters", read) if isinstance(read, Missing) else read

    def _read(self, copies: Copies) -> Reading:
        graph = _Graph(copies)
        copies.begin()
        counts = self._counters.step(graph.replay, flush=_Prepared(self.flush, copies.prepare))
        settled, flops = counts.hbm_settled_bytes, counts.tensor_flops
        assert settled is not None, "a flush follows"
        return Reading(
            copies=graph.count,
            sets=graph.sets,
            hbm_read_bytes=_one(counts.hbm_read_bytes, graph.count),
            hbm_written_bytes=_one(settled, graph.count),
            flops_tensor=NO_COUNTER if flops is None else _one(flops, graph.count),
        )


@contextmanager
def _as_it_is(context: LeafContext) -> Iterator[None]:
    """Leave the annotations to the step."""
    del context
    yield


@torch.no_grad()
def _in_turn(calls: Sequence[Call]) -> None:
    for call in calls:
        call()


def _by_copy(totals: Sequence[float], copies: int, source: Source) -> Spread:
    return spread([total / copies for total in totals], source)


def _one(total: int, copies: int) -> Spread:
    return spread([total / copies], "hardware_counter")


def named(counts: ItemsView[str, int], copies: int) -> KernelNames:
    """Names as printable ASCII, cut, with how often a copy launches each; the most first."""
    by_name: dict[str, float] = {}
    for name, count in counts:
        short = "".join(c if " " <= c <= "~" else "?" for c in name)[:NAME_CHARACTERS] or "?"
        by_name[short] = by_name.get(short, 0.0) + count / copies
    ordered = sorted(by_name.items(), key=lambda item: (-item[1], item[0]))
    return tuple((name, rounded(count)) for name, count in ordered)
