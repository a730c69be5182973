"""What ran a recorded case: the device and the backend of each run, and the GPU that it was."""

from collections.abc import Sequence

from costmodel.costs.calibrations import calibrated
from costmodel.costs.gpu import Gpu
from costmodel.inputs.hardware import load_hardware
from costmodel.recordings.machine import Machine
from costmodel.recordings.quantities import RunName
from costmodel.recordings.recording import Case, Recording, Run

PRESETS = {  # name of a CUDA device, as the driver states it: hardware preset
    "NVIDIA H200": "h200",
    "NVIDIA B200": "b200",
    "NVIDIA GB200": "gb200-nvl72",
    "NVIDIA H100 80GB HBM3": "h100-sxm",
    "NVIDIA H100 PCIe": "h100-pcie",
    "NVIDIA A100-SXM4-80GB": "a100-80gb",
    "NVIDIA L40S": "l40s",
    "NVIDIA GeForce RTX 4090": "rtx-4090",
}


class Gpus:
    """The GPUs of recordings by the name of the device; each preset is read once.

    `calibration` predicts their times: the name of a shipped one, the path of a file, `none`, or
    None for the shipped calibration of each GPU.
    """

    def __init__(self, calibration: str | None = None) -> None:
        self.calibration = calibration
        self._by_preset: dict[str, Gpu] = {}

    def of(self, device_name: str) -> Gpu | None:
        """The GPU, or None for a device without a hardware preset, such as any CPU.

        Raises:
            InputError: The calibration does not exist or is of another GPU.
        """
        preset = PRESETS.get(device_name)
        if preset is None:
            return None
        if preset not in self._by_preset:
            self._by_preset[preset] = Gpu(
                hardware=load_hardware(preset),
                calibration=calibrated(preset, self.calibration, transfer=False),
            )
        return self._by_preset[preset]


def device_of(recording: Recording, case: Case, run_name: RunName) -> str:
    """The name of the device that did a run.

    If the case lacks this run: the device of its first other run, or of the first session.
    """
    return machine_of(recording, _runs(case, run_name)).name


def backend_of(case: Case, run_name: RunName) -> str:
    """The backend whose kernels a run measured.

    If the case lacks this run: the backend of its first other run, or `torch` (plain PyTorch).
    """
    runs = _runs(case, run_name)
    return runs[0].backend if runs else "torch"


def machine_of(recording: Recording, runs: Sequence[Run]) -> Machine:
    """The machine of the first of the runs, or of the recording's first session without any."""
    return recording.sessions[runs[0].session if runs else 0].machine


def _runs(case: Case, run_name: RunName) -> list[Run]:
    """The run of this name alone, or all runs of a case that lacks it."""
    return [case.runs[run_name]] if run_name in case.runs else [*case.runs.values()]
