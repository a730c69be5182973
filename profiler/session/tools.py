"""The interface between a worker and what it measures with, and its implementation on torch.

torch is imported when a tool is first used, so that a worker can say that it is not installed.
"""

from typing import Protocol

from costmodel.errors import WorkError
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Backend
from costmodel.recordings.case_workload import CaseWorkload, Dtype
from costmodel.recordings.machine import Device, Machine
from costmodel.recordings.quantities import RunName
from costmodel.recordings.recording import Check, RunResult
from profiler.session.protocol import DeviceChoice

OUT_OF_MEMORY = ("can't allocate memory", "not enough memory")  # torch's messages on a CPU


class Bench(Protocol):
    """One model on one device, whose cases are measured one after another."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the model's leaves, and of regions that kernels may span."""

    def measure(self, workload: CaseWorkload, seed: int) -> RunResult:
        """Measure one case; columns are in the order of `paths`."""

    def close(self) -> None:
        """Free the model."""


class Tools(Protocol):
    """All that a worker needs of torch: implemented by `TorchTools`, and by tests without torch."""

    def machine(self, choice: DeviceChoice) -> Machine:
        """The machine to measure on.

        Raises:
            WorkError: The chosen device does not exist.
        """

    def unmeasurable(self, run: RunName, device: Device) -> str | None:
        """Why a kind of run is impossible on a device; None where it is possible."""

    def self_check(self, run: RunName, device: Device) -> tuple[Check, ...]:
        """Measure known work in the manner of a kind of run."""

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
        """Build the model on the device."""

    def skip_reason(self, error: Exception) -> str | None:
        """Why this error concerns one case only; None where others could not be measured either."""


class TorchTools:
    """The reference models on torch."""

    def machine(self, choice: DeviceChoice) -> Machine:
        """The GPU that torch calls cuda:0, or the processor."""
        import torch

        from profiler.instruments.machine import machine
        from profiler.instruments.nvml import NvmlError, open_gpu

        if choice == "cpu" or not torch.cuda.is_available():
            if choice == "cuda":
                raise WorkError(f"device=cuda: torch {torch.__version__} finds no GPU")
            return machine("cpu")
        try:
            gpu = open_gpu()
        except NvmlError:  # the kinds of run that need NVML will say so
            return machine("cuda")
        return machine("cuda", gpu)

    def unmeasurable(self, run: RunName, device: Device) -> str | None:
        """As `profiler.runs.bench.unmeasurable`."""
        from profiler.runs.bench import unmeasurable

        return unmeasurable(run, device)

    def self_check(self, run: RunName, device: Device) -> tuple[Check, ...]:
        """As `profiler.runs.bench.self_check`."""
        from profiler.runs.bench import self_check

        return self_check(run, device)

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
        """The reference model, built on the device."""
        from profiler.runs.bench import TorchBench

        return TorchBench(
            model,
            run=run,
            device=device,
            dtype=dtype,
            weights_seed=weights_seed,
            backend=backend,
        )

    def skip_reason(self, error: Exception) -> str | None:
        """A reason where the case does not fit, or this build of torch lacks an operation."""
        import torch

        from profiler.runs.bench import DoesNotFit

        if isinstance(error, DoesNotFit):
            return str(error)
        if isinstance(error, NotImplementedError):
            return error_line(error)
        memory = isinstance(error, torch.OutOfMemoryError) or (
            isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)
        )
        return f"out of memory: {error_line(error)}" if memory else None


def error_line(error: Exception) -> str:
    """An error in one line: the name of its class and the first line of its text."""
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
