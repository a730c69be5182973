"""The command `sparsecost calibrate`: measure this GPU, and write the predictor's calibration.

torch is imported last, so that help and errors of the user need none.
"""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from costmodel.cli.options import ForceOpt, JsonOpt, complete_hardware
from costmodel.errors import InputError, WorkError, install_command
from costmodel.show.text import show

if TYPE_CHECKING:
    from pathlib import Path

    from profiler.calibrate.calibration import CalibrationResult

INSTALL = f"install it with: {install_command('gpu')}"
NO_TORCH = f"calibrate needs torch; {INSTALL}"


def calibrate(
    *,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH.json",
            help="Where to write it. (Default: the preset's name, in the current folder.)",
        ),
    ] = None,
    hardware: Annotated[
        str | None,
        typer.Option(
            metavar="GPU",
            help="The preset that it speaks for. (Default: the one of this GPU's name.)",
            autocompletion=complete_hardware,
        ),
    ] = None,
    leaves: Annotated[
        Literal["quick", "whole", "loops"] | None,
        typer.Option(
            help="Measure the reference model's own leaves at random shapes instead: a few, or all."
            " Or only the steady loops of energy, in a minute."
            " Predictions do not read this file yet."
        ),
    ] = None,
    backend: Annotated[
        Literal["torch", "fused"], typer.Option(help="With --leaves: whose kernels run.")
    ] = "torch",
    minutes: Annotated[
        str | None,
        typer.Option(
            metavar="M", help="With --leaves: end within so many minutes; --resume goes on."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="With --leaves: measure what the file lacks.")
    ] = False,
    device: Annotated[
        Literal["cuda", "cpu"],
        typer.Option(help="With --leaves: cpu tries the shapes out; its times say nothing."),
    ] = "cuda",
    force: ForceOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Measure this GPU's ceilings and operator curves, in two or three minutes.

    Example: sparsecost calibrate --out my-h200
    """
    if leaves is not None:
        from profiler.calibrate.leaves.command import calibrate_leaves

        if hardware is not None or force:
            given = "hardware" if hardware is not None else "force"
            raise InputError(f"leaves={leaves}: takes no --{given}")
        if device == "cuda":
            _gpu_name()  # says what is missing
        calibrate_leaves(
            leaves,
            backend=backend,
            device=device,
            out=out,
            minutes=minutes,
            resume=resume,
            as_json=as_json,
        )
        return
    for name, value in (
        ("minutes", minutes is not None),
        ("resume", resume),
        ("backend", backend != "torch"),
        ("device", device != "cuda"),
    ):
        if value:
            raise InputError(f"{name}: goes with --leaves alone")
    from profiler.calibrate.file import calibration_file, write_calibration
    from profiler.calibrate.preset import known_preset, preset_of

    file = None if out is None else calibration_file(out, force=force)
    preset = None if hardware is None else known_preset(hardware)
    gpu_name = _gpu_name()
    preset = preset or preset_of(gpu_name)
    file = file or calibration_file(preset, force=force)
    result = _measure(file.path, preset)
    write_calibration(result.calibration, file)

    from profiler.calibrate.summary import summary, summary_table

    summed_up = summary(result, file.path)
    if as_json:
        sys.stdout.write(json.dumps(summed_up, indent=2, allow_nan=False) + "\n")
    else:
        show([summary_table(summed_up)])


def _gpu_name() -> str:
    """The driver's name of the GPU that torch calls cuda:0."""
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise WorkError(NO_TORCH) from None
    if torch.version.cuda is None or not torch.cuda.is_available():  # a GPU of HIP does not count
        raise WorkError(
            f"calibrate: torch {torch.__version__} finds no NVIDIA GPU; it needs one, its"
            f" driver, and a torch built for CUDA: {INSTALL}"
        )
    return torch.cuda.get_device_name(0)


def _measure(path: "Path", preset: str) -> "CalibrationResult":
    import torch

    from profiler.calibrate.calibration import calibrate as run
    from profiler.calibrate.cuda import CudaInstruments
    from profiler.calibrate.grid import grid
    from profiler.calibrate.progress import StderrProgress

    curves = grid()
    try:
        with StderrProgress(sum(map(len, curves.values()))) as progress:
            return run(CudaInstruments(), curves, progress, name=path.stem, hardware=preset)
    except torch.OutOfMemoryError:
        raise WorkError("out of memory: does another process hold the GPU's memory?") from None
    except torch.AcceleratorError as error:
        raise WorkError(f"the GPU failed: {str(error).partition(chr(10))[0]}") from None
