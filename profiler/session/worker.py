"""The worker process: it measures cases in one kind of run and reports each as an event.

`profiler.session.child` starts it as `python -m profiler.session.worker`; its messages are those of
`profiler.session.protocol`. A case that cannot be measured is reported and skipped. After an
unexpected error, such as one of CUDA, the process ends, since its device may be unusable.
"""

import gc
import os
import sys
import traceback
from typing import BinaryIO

import costmodel
from costmodel.errors import InputError, WorkError, install_command
from costmodel.recordings.machine import Device
from costmodel.recordings.quantities import RUNS, RunName
from profiler.instruments.cupti import DeviceLostError
from profiler.instruments.machine import commit
from profiler.instruments.nvml import GpuLostError
from profiler.instruments.process import end_with_parent
from profiler.session.protocol import (
    Began,
    Broken,
    Building,
    Checked,
    Done,
    End,
    Event,
    Hello,
    Lacking,
    ModelJob,
    Paths,
    Refused,
    Setup,
    Work,
    decoded,
    encoded,
)
from profiler.session.tools import Bench, Tools, TorchTools, error_line

NO_TORCH = f"profile needs torch; install it with: {install_command('gpu')}"
LOST = (DeviceLostError, GpuLostError)  # after these the process cannot use the GPU any more


class Worker:
    """The worker's side of the protocol, over two streams."""

    def __init__(self, tools: Tools, orders: BinaryIO, events: BinaryIO) -> None:
        self._tools, self._orders, self._events = tools, orders, events

    def serve(self) -> int:
        """Answer `Setup` and do the `Work`; the exit status of the process."""
        try:
            self._serve(decoded(Setup, self._orders.readline()))
        except BrokenPipeError:  # the profiler is gone
            return 1
        except Exception as error:  # noqa: BLE001 - whatever it is, the process ends
            self._send(_final_event(error))
            return 1
        return 0

    def _send(self, event: Event) -> None:
        self._events.write(encoded(event))
        self._events.flush()

    def _serve(self, setup: Setup) -> None:
        machine = self._tools.machine(setup.device)
        # A GPU is asked about this kind of run only, to leave the others undisturbed
        runs = RUNS if machine.device == "cpu" else (setup.run,)
        reasons = {run: self._tools.unmeasurable(run, machine.device) for run in runs}
        unmeasurable = {run: reason for run, reason in reasons.items() if reason is not None}
        self._send(
            Hello(
                machine=machine,
                commit=commit(),
                version=costmodel.__version__,
                unmeasurable=unmeasurable,
            )
        )
        self._send(self._checked(setup, machine.device, unmeasurable.get(setup.run)))
        line = self._orders.readline()
        if not line:  # the profiler has no work
            return
        work = decoded(Work, line)
        for index, job in enumerate(work.jobs):
            self._measure_model(index, job, work, setup.run, machine.device)
        self._send(End())

    def _checked(self, setup: Setup, device: Device, unmeasurable: str | None) -> Checked:
        if unmeasurable is not None or not setup.self_check:
            return Checked(checks=(), unmeasurable=unmeasurable)
        try:
            return Checked(checks=self._tools.self_check(setup.run, device), unmeasurable=None)
        except DeviceLostError:
            raise
        except WorkError as error:  # no permission or no library: no case can be measured
            return Checked(checks=(), unmeasurable=str(error))

    def _measure_model(
        self, index: int, job: ModelJob, work: Work, run: RunName, device: Device
    ) -> None:
        self._send(Building(job=index))
        bench: Bench | None = None
        try:
            bench = self._tools.bench(
                job.model,
                run=run,
                device=device,
                dtype=work.dtype,
                weights_seed=work.weights_seed,
                backend=job.backend,
            )
        except Exception as error:
            reason = self._skip_reason(error)
            if reason is None:
                raise
            for case in range(len(job.cases)):
                self._send(Lacking(job=index, case=case, reason=reason))
        if bench is None:
            gc.collect()  # frees what was built; the usual reason is a lack of memory
            return
        self._send(Paths(job=index, paths=bench.paths))
        for case, case_job in enumerate(job.cases):
            self._send(Began(job=index, case=case))
            try:
                result = bench.measure(case_job.workload, case_job.seed)
                event: Event = Done(job=index, case=case, result=result)
            except Exception as error:
                reason = self._skip_reason(error)
                if reason is None:
                    raise
                event = Lacking(job=index, case=case, reason=reason)
            gc.collect()  # frees the case's tensors, to which an error's traceback held on
            self._send(event)
        bench.close()

    def _skip_reason(self, error: Exception) -> str | None:
        """Why a case is skipped; None where the worker must end."""
        if isinstance(error, MemoryError):
            return "out of memory"
        if isinstance(error, WorkError):
            return None if isinstance(error, LOST) else str(error)
        return self._tools.skip_reason(error)


def _final_event(error: Exception) -> Refused | Broken:
    """The event of an error that ends the worker: `Refused` if another worker would fail too."""
    if isinstance(error, ModuleNotFoundError) and error.name == "torch":
        return Refused(mistake=False, message=NO_TORCH)
    if isinstance(error, InputError | WorkError) and not isinstance(error, LOST):
        return Refused(mistake=isinstance(error, InputError), message=str(error))
    traceback.print_exception(error)
    return Broken(reason=error_line(error))


def main(tools: Tools | None = None) -> None:
    """Serve the profiler that started this process, over the standard streams."""
    end_with_parent()
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries that print to stdout print to stderr
    sys.exit(Worker(tools or TorchTools(), sys.stdin.buffer, events).serve())


if __name__ == "__main__":
    main()
