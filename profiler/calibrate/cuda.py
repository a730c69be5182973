"""What a calibration measures with: the GPU's timer, its power meter, and what it is."""

from collections.abc import Callable
from typing import Protocol

import torch

from costmodel.recordings.calibration import Launch
from costmodel.recordings.machine import Machine
from costmodel.recordings.measured import Missing
from profiler.calibrate.graph_timer import GraphTimer
from profiler.calibrate.launch import launch_costs
from profiler.calibrate.operations import Gemm, Operation, Timing
from profiler.calibrate.power import Powers, measure_powers
from profiler.instruments.energy import Energy, measure_energy, measure_idle
from profiler.instruments.machine import machine
from profiler.instruments.nvml import Gpu, NvmlError, open_gpu

WARM_UP_PRODUCTS = 500  # of 8192^3: about a second, after which clocks stand where they stay


class Instruments(Protocol):
    """Everything that needs a GPU."""

    @property
    def machine(self) -> Machine:
        """What is measured."""

    def launch(self) -> Launch:
        """What a kernel that does nothing costs."""

    def time(self, operation: Operation) -> Timing:
        """One point.

        Raises:
            UnmeasuredError: This point cannot be had.
            WorkError: The GPU failed.
        """

    def powers(self) -> Powers:
        """Power of steady loops."""


class CudaInstruments:
    """The GPU that torch calls cuda:0; without NVML its power is missing and the rest is there."""

    def __init__(self) -> None:
        """Read the idle power, which comes before any load, and warm the GPU up."""
        self.device = torch.device("cuda")
        self.gpu: Gpu | None = None
        self.idle: float | Missing
        try:
            self.gpu = open_gpu()
            self.idle = measure_idle(self.gpu)
        except NvmlError as error:
            self.idle = Missing(reason=str(error))
        self._warm_up()
        self.time = GraphTimer()

    @property
    def machine(self) -> Machine:
        """The GPU, driver and libraries."""
        return machine("cuda", self.gpu)

    def launch(self) -> Launch:
        """In a graph and eagerly."""
        return launch_costs()

    def powers(self) -> Powers:
        """By NVML's energy counter."""
        gpu = self.gpu

        def measure(run: Callable[[int], None]) -> Energy | Missing:
            assert gpu is not None
            return measure_energy(gpu, run, torch.cuda.synchronize)

        try:
            return measure_powers(self.idle, measure, self.device)
        except NvmlError as error:
            return Powers(power=Missing(reason=str(error)), conditions=None)

    def _warm_up(self) -> None:
        (run,) = Gemm(m=8192, n=8192, k=8192).runs(1, self.device)
        for _ in range(WARM_UP_PRODUCTS):
            run()
        torch.cuda.synchronize()
