"""The worker process: it measures the leaves of shapes in one kind of run, and tells of each.

The first line that it reads is an `Order`; each line that it writes is an event of the journal
(`profiler.calibrate.leaves.journal`), or says which shape begins or that the work is done. A leaf
that cannot be measured is left out with its reason, and so is a shape. After an error of the GPU
the process ends, since its device may be unusable. `compile` runs a few layers of each shape, so
that the kernels of later runs lie in Triton's cache.
"""

import gc
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Any, BinaryIO

import torch
from pydantic import TypeAdapter

import costmodel
from costmodel.errors import WorkError
from costmodel.recordings.leaf_calibration import RUNS, Reading
from costmodel.recordings.machine import Conditions
from costmodel.recordings.measured import Accesses, Missing
from costmodel.recordings.recording import Session
from profiler.calibrate.launch import null_graphs
from profiler.calibrate.leaves.copies import copies_of
from profiler.calibrate.leaves.energy_loops import loads, measured
from profiler.calibrate.leaves.instruments import instrument
from profiler.calibrate.leaves.readings import Instrument, reason_of
from profiler.calibrate.leaves.worker_order import Order, ShapeOrder, order_of
from profiler.instruments.energy import measure_idle
from profiler.instruments.flush import L2Flush
from profiler.instruments.machine import commit, machine, now
from profiler.instruments.nvml import NvmlError, NvmlGpu, open_gpu
from profiler.instruments.process import end_with_parent
from profiler.instruments.redact import redacted
from profiler.instruments.timing import under_load
from profiler.runs.anchors import Anchors
from profiler.runs.case import PreparedCase
from profiler.runs.tensor_facts import accesses
from reference_model.model import build_model

COMPILED_LAYERS = 2  # the first differs from the others


class Worker:
    """Does one order."""

    def __init__(self, order: Order, events: BinaryIO) -> None:
        self.order, self._events = order, events
        self._ends_s = monotonic() + order.seconds
        self.gpu = _gpu() if order.device == "cuda" else None

    def work(self) -> None:
        """Do the order; events are written as they come."""
        order = self.order
        if order.run != "compile":
            self._send({"event": "session", "session": self._session()})
        if order.run == "energy":
            self._loops()
        elif order.run == "time" and order.device == "cuda":
            self._between_anchors(self._shapes)
        else:
            self._shapes()
        self._send({"event": "end"})

    def _send(self, event: dict[str, Any]) -> None:
        self._events.write(json.dumps(event, allow_nan=False).encode() + b"\n")
        self._events.flush()

    def _session(self) -> object:
        session = Session(
            started=now(),
            machine=machine(self.order.device, self.gpu),
            sparsecost_version=costmodel.__version__,
            commit=commit(),
        )
        return TypeAdapter(Session).dump_python(session, mode="json")

    def _between_anchors(self, work: Callable[[], None]) -> None:
        anchors, flush = Anchors(), L2Flush()

        def seconds() -> dict[str, float]:
            return anchors.seconds(flush) | null_graphs(flush)

        before = seconds()
        work()
        after = seconds()
        listed = [
            {"name": name, "before_s": seconds, "after_s": after[name]}
            for name, seconds in before.items()
        ]
        self._send({"event": "anchors", "anchors": listed})

    def _shapes(self) -> None:
        order = self.order
        reads = next((run for run in RUNS if run == order.run), None)
        by = None if reads is None else instrument(reads, order.device)
        for shape in order.shapes:
            if monotonic() > self._ends_s:
                return
            self._send({"event": "began", "shape": shape.number})
            try:
                self._shape(shape, by)
            except Exception as error:
                reason = reason_of(error)
                if reason is None:
                    raise
                self._send(self._named("lacking", shape) | {"reason": reason})
            gc.unfreeze()
            gc.collect()
            if order.device == "cuda":
                torch.cuda.empty_cache()

    def _shape(self, shape: ShapeOrder, by: Instrument | None) -> None:
        order, started = self.order, now()
        config = shape.model
        if by is None:
            config = replace(config, num_hidden_layers=COMPILED_LAYERS)
        model = build_model(config, device=order.device, seed=shape.seed).fold()
        case = PreparedCase(model, shape.workload, shape.seed, backend=order.backend, alike=True)
        if by is None:
            case.run()
            return
        gc.freeze()  # captures collect garbage, and these objects are many
        self._points(case, shape, by)
        case.run()  # what it chooses, and not what a copy chose
        conditions = Conditions(started=started, warm_up=1)
        if order.run == "time" and self.gpu is not None:
            conditions = under_load(self.gpu, case.run, started=started)
        state = TypeAdapter(Conditions).dump_python(conditions, mode="json")
        counts = TypeAdapter(dict[str, Accesses]).dump_python(_accesses(case), mode="json")
        facts = {"conditions": state, "accesses": counts}
        self._send(self._named("measured", shape) | facts)

    def _points(self, case: PreparedCase, shape: ShapeOrder, by: Instrument) -> None:
        for path, reading in by(copies_of(case)):
            dumped = TypeAdapter(Reading).dump_python(reading, mode="json")
            self._send(self._named("point", shape) | {"path": path, "reading": dumped})

    def _named(self, event: str, shape: ShapeOrder) -> dict[str, Any]:
        return {"event": event, "shape": shape.number, "run": self.order.run}

    def _loops(self) -> None:
        if self.gpu is None:
            return
        idle = measure_idle(self.gpu)
        if isinstance(idle, float):
            self._send({"event": "idle", "idle_w": idle})
        for load in loads():
            if monotonic() > self._ends_s:
                return
            self._send({"event": "began", "shape": None})
            loop = measured(load, self.gpu)
            if not isinstance(loop, Missing):
                dumped = TypeAdapter(type(loop)).dump_python(loop, mode="json")
                self._send({"event": "loop", "loop": dumped})


def _gpu() -> NvmlGpu | None:
    try:
        return open_gpu()
    except NvmlError:
        return None


def _accesses(case: PreparedCase) -> dict[str, Accesses]:
    """How often each expert or row of the second layer was chosen; all layers choose alike."""
    every = accesses(case.model)
    return {path: counts for path, counts in every.items() if path.startswith("layers.1.")}


def main() -> None:
    """Serve the command that started this process, over the standard streams."""
    end_with_parent()
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries that print to stdout print to stderr
    try:
        order = order_of(sys.stdin.buffer.readline())
        Worker(order, events).work()
    except BrokenPipeError:
        sys.exit(1)
    except WorkError as error:  # such as counters that are refused
        sys.stderr.write(f"{redacted(str(error))}\n")
        sys.exit(1)
    except Exception:  # noqa: BLE001 - whatever it is, the process ends
        traceback.print_exc()
        sys.exit(1)


if __name__ == "__main__":
    main()
