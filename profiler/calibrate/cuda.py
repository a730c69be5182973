"""A calibration's instruments on the GPU that torch calls cuda:0: its timer and its power meter."""

from collections.abc import Callable

import torch

from costmodel.recordings.calibration import Launch
from costmodel.recordings.machine import Machine
from costmodel.recordings.measured import Missing
from profiler.calibrate.graph_timer import GraphTimer
from profiler.calibrate.launch import launch_costs
from profiler.calibrate.operations import GemmOperation
from profiler.calibrate.power import PowerResult, measure_power
from profiler.instruments.energy import Energy, measure_energy, measure_idle
from profiler.instruments.machine import machine
from profiler.instruments.nvml import NvmlError, NvmlGpu, open_gpu

WARM_UP_PRODUCTS = 500  # of 8192^3: about a second, after which clocks no longer change


class CudaInstruments:
    """Measures on cuda:0. Without NVML only the power is missing."""

    def __init__(self) -> None:
        """Read the idle power, before any load, and then warm up the GPU."""
        self.device = torch.device("cuda")
        self.gpu: NvmlGpu | None = None
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
        """The launch costs in a CUDA graph and eagerly."""
        return launch_costs()

    def power(self) -> PowerResult:
        """The power of steady loops, by NVML's energy counter."""
        gpu = self.gpu

        def measure(run: Callable[[int], None]) -> Energy | Missing:
            assert gpu is not None
            return measure_energy(gpu, run, torch.cuda.synchronize)

        try:
            return measure_power(self.idle, measure, self.device)
        except NvmlError as error:
            return PowerResult(power=Missing(reason=str(error)), conditions=None)

    def _warm_up(self) -> None:
        (product,) = GemmOperation(m=8192, n=8192, k=8192).calls(1, self.device)
        for _ in range(WARM_UP_PRODUCTS):
            product()
        torch.cuda.synchronize()
