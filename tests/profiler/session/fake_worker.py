"""A worker that measures nothing and misbehaves to order: `fake_worker.py [TRICK@BATCH ...]`.

It serves the real protocol by the real `profiler.session.worker`; only the tools are made up. A
trick happens when a case of that batch is measured; `build` and `check` stand in for a batch.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from costmodel.errors import InputError, WorkError
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Backend
from costmodel.recordings.case_workload import CaseWorkload, Dtype
from costmodel.recordings.machine import Conditions, Device, Machine
from costmodel.recordings.measured import Measured, Spread
from costmodel.recordings.quantities import RunName
from costmodel.recordings.recording import Check, RunResult
from profiler.instruments.cupti import DeviceLostError
from profiler.session.protocol import Began, DeviceChoice, End, Lacking, encoded
from profiler.session.tools import Bench
from profiler.session.worker import main

COMMAND = (sys.executable, "-P", str(Path(__file__)))
EVENTS = 3  # the descriptor that the worker keeps for its events
PATHS = ("embed", "head")
REGION = "{embed,head}"
QUANTITY = {
    "time": "eager_s",
    "trace": "kernel_s",
    "counters": "hbm_read_bytes",
    "energy": "energy_j",
}
CONDITIONS = Conditions(started="2026-01-02T03:04:05Z", warm_up=1)
OTHERS = 2  # processes on the GPU where the trick is `shared`


class DoesNotFit(Exception):  # noqa: N818 - as the real one
    pass


def ends_with_words() -> None:
    sys.stderr.write("first words\nterminate called\n\nlast words\n")
    sys.stderr.flush()
    os._exit(7)


def prints() -> None:
    print("a library prints this")
    subprocess.run("echo and so does a program it starts", shell=True, check=True)  # noqa: S602, S607


def lie(line: bytes) -> None:
    """Say it, and wait for the end that follows."""
    os.write(EVENTS, line)
    time.sleep(3600)


def ends_early() -> None:
    os.write(EVENTS, encoded(End()))
    os._exit(0)


ERRORS = {
    "oom": MemoryError(),
    "unfit": DoesNotFit("does not fit: by the prediction"),
    "cuda": RuntimeError("CUDA error: an illegal memory access\nmore words"),
    "lost": DeviceLostError("the GPU is gone"),
    "work": WorkError("the driver refused"),
    "mistake": InputError("hidden_size=36: must be a multiple of 8"),
    "torch": ModuleNotFoundError("No module named 'torch'", name="torch"),
}
TRICKS: dict[str, Callable[[], object]] = {
    "exit": ends_with_words,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": lambda: time.sleep(3600),
    "slow": lambda: time.sleep(0.05),
    "print": prints,
    "garbage": lambda: lie(b"{this is no JSON\n"),
    "stranger": lambda: lie(b'{"kind":"done","job":0,"case":5}\n'),
    "other": lambda: lie(encoded(Lacking(job=0, case=0, reason="not in hand"))),
    "beyond": lambda: lie(encoded(Began(job=0, case=3))),
    "early": ends_early,
}


class FakeTools:
    """Tools of a GPU of its own, whose numbers are the time, so that no two are the same."""

    def __init__(self, *tricks: str) -> None:
        self.tricks = {moment: trick for trick, _, moment in (t.rpartition("@") for t in tricks)}
        self.log = self.tricks.get("log")  # FILE@log: a line for each case that is begun

    def machine(self, choice: DeviceChoice) -> Machine:
        self.play("machine")
        device: Device = "cpu" if choice == "cpu" else "cuda"
        return Machine(
            device=device, name="NVIDIA Fake 1", memory_bytes=2**30, python="3", torch="2"
        )

    def unmeasurable(self, run: RunName, device: Device) -> str | None:
        return "not measured (no NVIDIA GPU)" if device == "cpu" and run != "time" else None

    def self_check(self, run: RunName, device: Device) -> tuple[Check, ...]:
        del device
        self.play("check")
        return (Check(name=f"{run}: copy", known=100.0, measured=100.5, tolerance=0.01),)

    def bench(
        self,
        model: ModelConfig,
        *,
        run: RunName,
        device: Device,
        dtype: Dtype,
        weights_seed: int,
        backend: Backend,
    ) -> Bench:
        del device, dtype, weights_seed
        self.backend = backend
        self.play(f"build {model.name}")
        self.play(f"build {run}")
        self.play("build")
        return FakeBench(self, model, run)

    def skip_reason(self, error: Exception) -> str | None:
        return str(error) if isinstance(error, DoesNotFit) else None

    def play(self, moment: str) -> None:
        """The trick of this moment."""
        trick = self.tricks.get(moment)
        if trick in ERRORS:
            raise ERRORS[trick]
        if trick in TRICKS:
            TRICKS[trick]()


class FakeBench:
    def __init__(self, tools: FakeTools, model: ModelConfig, run: RunName) -> None:
        self.tools, self.model, self.run = tools, model, run

    @property
    def paths(self) -> tuple[str, ...]:
        return PATHS if self.tools.backend == "torch" else (*PATHS, REGION)

    def measure(self, workload: CaseWorkload, seed: int) -> RunResult:
        if self.tools.log:
            line = f"{os.getpid()} {self.model.name} {self.run} {workload.batch} {seed}\n"
            with Path(self.tools.log).open("a") as log:
                log.write(line)
        self.tools.play("every")
        self.tools.play(str(workload.batch))
        self.tools.play(f"{self.run} {workload.batch}")
        now = time.time()
        spread = Spread(median=now, q1=now, q3=now, repeats=1, source="wall_clock")
        trick = self.tools.tricks.get(str(workload.batch))
        name = "no_such" if trick == "misfit" else None
        others = OTHERS if trick == "shared" else 0
        step: dict[str, Measured] = {name or QUANTITY[self.run]: spread}
        conditions = replace(CONDITIONS, other_processes=others)
        return RunResult(conditions=conditions, backend=self.tools.backend, step=step)

    def close(self) -> None:
        pass


if __name__ == "__main__":
    main(FakeTools(*sys.argv[1:]))
