"""What a worker measures with: its tools by torch, and the shape that a test's stand-ins have.

torch is imported when a tool is first used, so that a machine without it can be told so.
"""

from typing import Literal, Protocol

from costmodel.errors import WorkError
from costmodel.inputs.model import ModelConfig
from costmodel.recordings.machine import Conditions, Machine
from costmodel.recordings.measured import Accesses, Column, Measured
from costmodel.recordings.quantities import RunName
from costmodel.recordings.recording import CaseWorkload, Check
from profiler.session.protocol import Dtype, Wanted

Device = Literal["cpu", "cuda"]

OUT_OF_MEMORY = ("can't allocate memory", "not enough memory")  # torch's words, on a CPU


class Found(Protocol):
    """What was measured of a case: a recording's run, but for its session."""

    @property
    def conditions(self) -> Conditions:
        """The state of the machine."""

    @property
    def step(self) -> dict[str, Measured]:
        """Quantities of the whole step."""

    @property
    def operators(self) -> dict[str, Column]:
        """Columns of quantities, aligned with the bench's paths."""

    @property
    def accesses(self) -> dict[str, Accesses]:
        """What was chosen how often, by path."""


class Bench(Protocol):
    """One model on one device, measured case after case (`profiler.runs.bench.Bench`)."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The leaves of the model."""

    def measure(self, workload: CaseWorkload, seed: int) -> Found:
        """Measure one case."""

    def close(self) -> None:
        """Let go of the model."""


class Tools(Protocol):
    """What a worker measures with: torch's tools, or those of a test."""

    def machine(self, wanted: Wanted) -> Machine:
        """The device to measure on; `WorkError` where it is not there."""

    def unmeasurable(self, run: RunName, device: Device) -> str | None:
        """Why a kind of run cannot be had on a device."""

    def self_check(self, run: RunName, device: Device) -> tuple[Check, ...]:
        """Known work, measured."""

    def bench(
        self, model: ModelConfig, *, run: RunName, device: Device, dtype: Dtype, weights_seed: int
    ) -> Bench:
        """Build the model."""

    def excuse(self, error: Exception) -> str | None:
        """Why a case cannot be run here while others may; None for any other error."""


class TorchTools:
    """The reference models, on torch."""

    def machine(self, wanted: Wanted) -> Machine:
        """The GPU that torch calls cuda:0, or the processor."""
        import torch

        from profiler.instruments.machine import machine
        from profiler.instruments.nvml import NvmlError, open_gpu

        if wanted == "cpu" or not torch.cuda.is_available():
            if wanted == "cuda":
                raise WorkError(f"device=cuda: torch {torch.__version__} finds no GPU")
            return machine("cpu")
        try:
            gpu = open_gpu()
        except NvmlError:  # the runs that need it say so themselves
            return machine("cuda")
        return machine("cuda", gpu)

    def unmeasurable(self, run: RunName, device: Device) -> str | None:
        """As `profiler.runs.bench` says."""
        from profiler.runs.bench import unmeasurable

        return unmeasurable(run, device)

    def self_check(self, run: RunName, device: Device) -> tuple[Check, ...]:
        """As `profiler.runs.bench` checks."""
        from profiler.runs.bench import self_check

        return self_check(run, device)

    def bench(
        self, model: ModelConfig, *, run: RunName, device: Device, dtype: Dtype, weights_seed: int
    ) -> Bench:
        """The model, built on the device."""
        from profiler.runs.bench import Bench as TorchBench

        return TorchBench(model, run=run, device=device, dtype=dtype, weights_seed=weights_seed)

    def excuse(self, error: Exception) -> str | None:
        """Predicted or found not to fit, or not possible in this build of torch."""
        import torch

        from profiler.runs.bench import Unfit

        if isinstance(error, Unfit):
            return str(error)
        if isinstance(error, NotImplementedError):
            return told(error)
        memory = isinstance(error, torch.OutOfMemoryError) or (
            isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)
        )
        return f"out of memory: {told(error)}" if memory else None


def told(error: Exception) -> str:
    """An error in one line: its name and the first line of its text."""
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
