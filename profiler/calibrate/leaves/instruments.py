"""What is measured of the copies of a leaf or region: time, kernels, and bytes by counters.

On a GPU all copies are one CUDA graph, before each of whose replays L2 is filled with other data.
Each kind of run has a process of its own: a trace slows later replays, and counters serialise
kernels.
"""

from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch.autograd.profiler import record_function

from costmodel.recordings.leaf_calibration import KernelNames, LeafRunName, Reading
from costmodel.recordings.measured import Missing, Spread
from profiler.calibrate.graph_timer import capture, kernel_nodes, replay_seconds, warm_up
from profiler.calibrate.leaves.copies import Call, Copies
from profiler.calibrate.leaves.readings import (
    CpuClock,
    Instrument,
    by_copy,
    in_turn,
    or_reason,
    unread,
)
from profiler.instruments.counters import HardwareCounters
from profiler.instruments.flush import L2Flush
from profiler.instruments.kernels import KernelSums, kernels_by_path
from profiler.instruments.leaf_hooks import LeafContext
from profiler.instruments.spread import rounded, spread

REPLAYS = 9
TRACED_STEPS, TRACED_COPIES = 2, 32
MOST_S = 0.03  # of a replay: slower leaves have fewer copies
FEWEST_COPIES = 3
NAME_CHARACTERS = 200
NO_COUNTER = Missing(reason="not measured (this GPU has no such counter)")
NO_KERNEL = Missing(reason="not measured (the trace holds no kernel)")


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
            in_turn(few)
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
            read = or_reason(self._read, copies)
            yield copies.path, unread("time", read) if isinstance(read, Missing) else read

    def _read(self, copies: Copies) -> Reading:
        graph = _Graph(copies)
        copies.begin()
        flush: Any = _Prepared(self.flush, copies.prepare)
        seconds = replay_seconds(graph.graph, REPLAYS, flush)
        return Reading(
            copies=graph.count,
            sets=graph.sets,
            step_s=by_copy(seconds, graph.count, "cuda_event"),
            kernels=rounded(kernel_nodes(graph.graph) / graph.count),
        )


def _captured(
    run: LeafRunName, leaves: Sequence[Copies], most: int = 10**6
) -> Iterator[tuple[str, _Graph | Reading]]:
    """The graph of each leaf, or a reading that says why there is none."""
    for copies in leaves:
        graph = or_reason(partial(_Graph, most=most), copies)
        yield copies.path, unread(run, graph) if isinstance(graph, Missing) else graph


class Tracer:
    """Names and durations of the kernels of a replay, by one trace of all leaves.

    A leaf of whose graph the trace holds no kernel is traced eagerly.
    """

    def __init__(self) -> None:
        self.flush = L2Flush()

    def __call__(self, leaves: Sequence[Copies]) -> Iterator[tuple[str, Reading]]:
        """Capture all, and trace them together."""
        graphs: dict[str, _Graph] = {}
        for path, graph in _captured("trace", leaves, TRACED_COPIES):
            if isinstance(graph, Reading):
                yield path, graph
            else:
                graphs[path] = graph
        if not graphs:
            return
        sums = self._traced({path: graph.replay for path, graph in graphs.items()}, graphs)
        unseen = [path for path in graphs if not all(path in each.seconds for each in sums)]
        eagerly = sums
        if unseen:
            runs = {path: partial(in_turn, graphs[path].calls) for path in unseen}
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
        return unread("trace", NO_KERNEL)
    last = sums[-1]
    seconds = [each.seconds[path] for each in sums]
    return Reading(
        copies=graph.count,
        sets=graph.sets,
        kernel_s=by_copy(seconds, graph.count, "torch_profiler"),
        kernels=rounded(last.launches[path] / graph.count),
        kernel_names=named(last.names[path].items(), graph.count),
    )


class ByteCounter:
    """HBM bytes and tensor-core FLOPs of a replay, by CUPTI's counters.

    Raises:
        CounterError: The counters are refused.
    """

    def __init__(self) -> None:
        self.flush = L2Flush()
        with _counters():
            pass

    def __call__(self, leaves: Sequence[Copies]) -> Iterator[tuple[str, Reading]]:
        """Capture all, and count each with L2 full of other data before and after."""
        captured = list(_captured("counters", leaves))
        with _counters() as counters:
            for path, graph in captured:
                if isinstance(graph, Reading):
                    yield path, graph
                    continue
                read = or_reason(partial(self._read, counters, graph), graph.copies)
                yield path, unread("counters", read) if isinstance(read, Missing) else read

    def _read(self, counters: HardwareCounters, graph: _Graph, copies: Copies) -> Reading:
        copies.begin()
        counts = counters.step(graph.replay, flush=_Prepared(self.flush, copies.prepare))
        settled, flops = counts.hbm_settled_bytes, counts.tensor_flops
        assert settled is not None, "a flush follows"
        return Reading(
            copies=graph.count,
            sets=graph.sets,
            hbm_read_bytes=_one(counts.hbm_read_bytes, graph.count),
            hbm_written_bytes=_one(settled, graph.count),
            flops_tensor=NO_COUNTER if flops is None else _one(flops, graph.count),
        )


def _counters() -> HardwareCounters:
    return HardwareCounters(dtype="bf16", max_ranges=3)


@contextmanager
def _as_it_is(context: LeafContext) -> Iterator[None]:
    """Leave the annotations to the step."""
    del context
    yield


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
