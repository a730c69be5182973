"""Profiles of tiny models by workers that misbehave: what the tests of the profiler share."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Backend
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.quantities import RunName
from costmodel.recordings.recording import Recording, load_recording
from profiler.session.plan import PlannedCase
from profiler.session.profile import run_profile
from profiler.session.progress import ProfileProgress
from profiler.session.session import Outcome, PlannedModel, ProfileRequest
from tests.profiler.session import fake_worker
from tests.steps import tiny_model

ALL: tuple[RunName, ...] = ("time", "counters", "energy")


def workload(batch: int = 1, **fields: Any) -> CaseWorkload:  # noqa: ANN401 - fields of a workload
    given: dict[str, Any] = {
        "phase": "decode",
        "batch": batch,
        "context": 16,
        "new_tokens": 1,
        "dtype": "bf16",
        "routing": "uniform",
    }
    return CaseWorkload(**(given | fields))


def target(
    name: str = "tiny",
    batches: Sequence[int] = (1, 2, 3),
    runs: tuple[RunName, ...] = ("time",),
    model: ModelConfig | None = None,
    backend: Backend = "torch",
) -> PlannedModel:
    plan = tuple(PlannedCase(workload=workload(batch), runs=runs) for batch in batches)
    given = model or tiny_model(name=name)
    return PlannedModel(name=name, preset=None, model=given, backend=backend, plan=plan)


def request(out: Path, *targets: PlannedModel, **fields: Any) -> ProfileRequest:  # noqa: ANN401 - fields of a request
    given: dict[str, Any] = {
        "models": targets or (target(),),
        "out": out,
        "device": "auto",
        "dtype": "bf16",
        "weights_seed": 0,
        "resume": False,
        "timeout_s": 300,  # a limit, not a wait
    }
    return ProfileRequest(**(given | fields))


def profiled(wanted: ProfileRequest, *tricks: str) -> tuple[tuple[Outcome, ...], list[str]]:
    """Profile with a fake worker; what came of it, and the lines of progress."""
    log = (wanted.out.parent if wanted.out.suffix else wanted.out) / "progress.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        progress = ProfileProgress(Console(file=file))
        outcomes = run_profile(wanted, progress, worker_command=(*fake_worker.COMMAND, *tricks))
    return outcomes, log.read_text().splitlines()


def lacking(recording: Recording) -> dict[tuple[int, str], str]:
    """Reasons by batch and run."""
    return {
        (case.workload.batch, run): reason
        for case in recording.cases
        for run, reason in case.lacking.items()
    }


def measured(recording: Recording) -> set[tuple[int, str]]:
    """Batches and runs."""
    return {(case.workload.batch, run) for case in recording.cases for run in case.runs}


def run_texts(path: Path) -> dict[str, str]:
    """The bytes of each run of a recording, by workload and run; read without the schema."""
    if not path.exists():
        return {}
    load_recording(path)
    data = json.loads(path.read_text())
    return {
        f"{json.dumps(case['workload'])} {name}": json.dumps(run)
        for case in data["cases"]
        for name, run in case["runs"].items()
    }
