"""The command `sparsecost calibrate --leaves`: options in, the file and a summary out."""

import json
import sys
from pathlib import Path
from time import monotonic
from typing import Literal, TypeAlias

import typer

from costmodel.errors import InputError, shown
from costmodel.inputs.output_file import OutputFile
from costmodel.inputs.parse import parse_count
from costmodel.inputs.workload import Backend
from costmodel.recordings.leaf_calibration import RUNS, LeafCalibration, leaf_calibration_text
from costmodel.recordings.machine import Device
from costmodel.show.text import printable
from profiler.calibrate.leaves.journal import Journal
from profiler.calibrate.leaves.measure import Plan, measure
from profiler.calibrate.leaves.shapes import QUICK, shapes, small_shapes

Form: TypeAlias = Literal["quick", "whole", "loops"]
JOURNAL = ".jsonl"
MOST_MINUTES = 1440
ENDING_S = 10  # for a worker's end, and for the file
INTERRUPTED = 130  # the usual exit code after Ctrl-C


def calibrate_leaves(
    form: Form,
    *,
    backend: Backend,
    device: Device,
    out: str | None,
    minutes: str | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Measure, and write OUT.json beside its journal OUT.jsonl.

    Raises:
        InputError: An option breaks a rule, or the journal is of something else.
        WorkError: Nothing was measured, or a file cannot be written.
    """
    if form == "loops" and (backend, device) != ("torch", "cuda"):
        raise InputError(
            "leaves=loops: takes no --backend fused and no --device cpu: energy is of the GPU"
        )
    path = Path(out or f"leaves-{backend if form != 'loops' else form}.json")
    if path.suffix != ".json":
        raise InputError(f"out={shown(str(path))}: must end in .json")
    most = parse_count(minutes or "10", field="minutes", low=1, high=MOST_MINUTES)
    file = OutputFile(path=path, force=resume)
    file.check()
    listed = small_shapes() if device == "cpu" else shapes()
    planned = {"quick": QUICK, "whole": len(listed), "loops": 0}[form]
    journal = Journal(path=path.with_suffix(JOURNAL), backend=backend, shapes=listed)
    journal.open(resume=resume)
    ends_s = monotonic() + 60 * most - ENDING_S
    plan = Plan(device=device, backend=backend, ends_s=ends_s, shapes=planned)
    interrupted = False
    try:
        measure(journal, plan, _say)
    except KeyboardInterrupt:
        interrupted = True
    calibration = journal.calibration()
    file.write(leaf_calibration_text(calibration))
    _report(calibration, path, planned=planned, as_json=as_json)
    if interrupted:
        _say("interrupted: what was measured is kept; go on with --resume")
        raise typer.Exit(INTERRUPTED)


def _say(message: str) -> None:
    sys.stderr.write(f"{printable(message)}\n")
    sys.stderr.flush()


def _report(calibration: LeafCalibration, path: Path, *, planned: int, as_json: bool) -> None:
    points = [point for shape in calibration.shapes for point in shape.points]
    read = {
        run: sum(run in point.readings and point.readings[run].has_values for point in points)
        for run in RUNS
    }
    lacking = sum(bool(shape.lacking) for shape in calibration.shapes)
    summary = {
        "file": str(path),
        "backend": calibration.backend,
        "shapes": len(calibration.shapes),
        "planned": planned,
        "lacking": lacking,
        "points": read,
        "loops": len(calibration.loops),
    }
    if as_json:
        sys.stdout.write(json.dumps(summary, indent=2) + "\n")
        return
    counts = ", ".join(f"{count} by {run}" for run, count in read.items())
    sys.stdout.write(
        f"{printable(str(path))}: {len(calibration.shapes)} of {planned} shapes,"
        f" points: {counts}; {len(calibration.loops)} energy loops\n"
    )
