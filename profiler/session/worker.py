"""The worker: a process of its own that measures cases of one kind of run, and says how it goes.

`python -m profiler.session.worker` is started by `profiler.session.child`; the words are those of
`profiler.session.protocol`. What cannot be measured is told and left; after an error that nobody
foresaw, such as one of CUDA, the process ends, for its device may be lost to it.
"""

import ctypes
import gc
import os
import signal
import sys
import traceback
from typing import BinaryIO

import costmodel
from costmodel.errors import InputError, WorkError
from costmodel.recordings.quantities import RUNS, RunName
from profiler.instruments.cupti import DeviceLostError
from profiler.instruments.machine import commit
from profiler.instruments.nvml import GpuLostError
from profiler.session.protocol import (
    Began,
    Broken,
    Building,
    Checked,
    Done,
    End,
    Event,
    Hello,
    Job,
    Lacking,
    Paths,
    Refused,
    Setup,
    Work,
    decoded,
    encoded,
)
from profiler.session.tools import Bench, Device, Tools, TorchTools, told

NO_TORCH = 'profile needs torch; install it with: pip install "sparsecost[gpu]"'
LOST = (DeviceLostError, GpuLostError)  # this process cannot use the GPU any more
PR_SET_PDEATHSIG = 1  # of Linux's prctl(2): the signal to this process when its parent dies


class Worker:
    """One conversation with the profiler, over two streams."""

    def __init__(self, tools: Tools, orders: BinaryIO, events: BinaryIO) -> None:
        self._tools, self._orders, self._events = tools, orders, events

    def serve(self) -> int:
        """Do what is ordered; the process's exit status."""
        try:
            self._serve(decoded(Setup, self._orders.readline()))
        except BrokenPipeError:  # the profiler is gone
            return 1
        except Exception as error:  # noqa: BLE001 - whatever it is, the process ends
            self._say(_last_word(error))
            return 1
        return 0

    def _say(self, event: Event) -> None:
        self._events.write(encoded(event))
        self._events.flush()

    def _serve(self, setup: Setup) -> None:
        machine = self._tools.machine(setup.device)
        asked = RUNS if machine.device == "cpu" else (setup.run,)  # a GPU's are not disturbed
        reasons = {run: self._tools.unmeasurable(run, machine.device) for run in asked}
        known = {run: reason for run, reason in reasons.items() if reason is not None}
        self._say(
            Hello(
                machine=machine,
                commit=commit(),
                version=costmodel.__version__,
                unmeasurable=known,
            )
        )
        self._say(self._checked(setup, machine.device, known.get(setup.run)))
        line = self._orders.readline()
        if not line:  # nothing is left to do
            return
        work = decoded(Work, line)
        for index, job in enumerate(work.jobs):
            self._do(index, job, work, setup.run, machine.device)
        self._say(End())

    def _checked(self, setup: Setup, device: Device, unmeasurable: str | None) -> Checked:
        if unmeasurable is not None or not setup.self_check:
            return Checked(checks=(), unmeasurable=unmeasurable)
        try:
            return Checked(checks=self._tools.self_check(setup.run, device), unmeasurable=None)
        except DeviceLostError:
            raise
        except WorkError as error:  # no permission, no library: no case will fare better
            return Checked(checks=(), unmeasurable=str(error))

    def _do(self, index: int, job: Job, work: Work, run: RunName, device: Device) -> None:
        self._say(Building(job=index))
        bench: Bench | None = None
        try:
            bench = self._tools.bench(
                job.model,
                run=run,
                device=device,
                dtype=work.dtype,
                weights_seed=work.weights_seed,
            )
        except Exception as error:
            reason = self._excused(error)
            if reason is None:
                raise
            for case in range(len(job.cases)):
                self._say(Lacking(job=index, case=case, reason=reason))
        if bench is None:
            gc.collect()  # what was built of it, out of memory being the usual reason
            return
        self._say(Paths(job=index, paths=bench.paths))
        for case, asked in enumerate(job.cases):
            self._say(Began(job=index, case=case))
            try:
                found = bench.measure(asked.workload, asked.seed)
                event: Event = Done(
                    job=index,
                    case=case,
                    conditions=found.conditions,
                    step=found.step,
                    operators=found.operators,
                    accesses=found.accesses,
                )
            except Exception as error:
                reason = self._excused(error)
                if reason is None:
                    raise
                event = Lacking(job=index, case=case, reason=reason)
            gc.collect()  # the traceback of an error held on to the case's tensors
            self._say(event)
        bench.close()

    def _excused(self, error: Exception) -> str | None:
        """Why a case is left out, where the worker can go on; None where it must end."""
        if isinstance(error, MemoryError):
            return "out of memory"
        if isinstance(error, WorkError):
            return None if isinstance(error, LOST) else str(error)
        return self._tools.excuse(error)


def _last_word(error: Exception) -> Refused | Broken:
    """What ends the worker: a refusal, which no other worker would lift, or a breakdown."""
    if isinstance(error, ModuleNotFoundError) and error.name == "torch":
        return Refused(mistake=False, message=NO_TORCH)
    if isinstance(error, InputError | WorkError) and not isinstance(error, LOST):
        return Refused(mistake=isinstance(error, InputError), message=str(error))
    traceback.print_exception(error)
    return Broken(reason=told(error))


def main(tools: Tools | None = None) -> None:
    """Serve the profiler that started this process, over its standard streams."""
    end_with_parent()
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no event
    sys.exit(Worker(tools or TorchTools(), sys.stdin.buffer, events).serve())


def end_with_parent() -> None:
    """Let the system kill this process when its parent dies, even by kill -9 (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
