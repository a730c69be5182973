"""Measure the held-out models: three processes for time, one each for trace, counters and energy.

Parts follow one another; the anchors are read before the first one and after each, the card's own
energy loops before energy (`card.py`). A part that an anchor makes void is measured again,
`ATTEMPTS` times at most in one call, and stays on record.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from benchmarks.held_out.anchors import Readings, read_anchors
from benchmarks.held_out.card import Loop, read_card
from benchmarks.held_out.journal import Journal, Part
from benchmarks.held_out.shapes import HeldOutModel, planned
from costmodel.inputs.files import inputs_noted
from costmodel.inputs.workload import Backend
from costmodel.recordings.quantities import RunName
from costmodel.recordings.recording import Recording, load_recording
from profiler.session.child import WORKER
from profiler.session.profile import run_profile
from profiler.session.progress import RECORDED_S, ProfileProgress
from profiler.session.session import Outcome, PlannedModel, ProfileRequest

ORDER: tuple[tuple[RunName, int], ...] = (  # so that a cut leaves what matters most
    ("time", 1),
    ("counters", 1),
    ("time", 2),
    ("trace", 1),
    ("time", 3),
    ("energy", 1),
)
ATTEMPTS = 3
WEIGHTS_SEED = 0
TIMEOUT_S = 300.0
ANCHORS_S = 20.0  # for a reading, and for the end of a worker before it
LOST = "the worker "  # how a reason begins where another try may well succeed


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """What measures: the worker's command, anchors, and the card's energy. Tests have others."""

    worker: Sequence[str] = WORKER
    anchors: Callable[[], Readings] = read_anchors
    card: Callable[[], Sequence[Loop]] = read_card


def estimate_s(journal: Journal, models: tuple[HeldOutModel, ...]) -> float:
    """About how long the rest takes on an H200, by the pace of the shipped recordings.

    These are of models with two to four times as many layers, so it is an upper estimate.
    """
    seconds = ANCHORS_S
    for run, process in ORDER:
        cases = sum(len(each.plan) for each in pending(journal, models, run, process))
        seconds += RECORDED_S[run] * cases + ANCHORS_S * (cases > 0)
    return seconds


def measure(
    journal: Journal,
    models: tuple[HeldOutModel, ...],
    ends_s: float,
    say: Callable[[str], None],
    instruments: Instruments | None = None,
) -> bool:
    """Measure what no part that counts holds, until `ends_s` (of `time.monotonic`).

    Each result is on disk at once; Ctrl-C and a lost worker leave all of them, and a closing
    reading of the anchors.

    Returns:
        Whether all is measured.

    Raises:
        WorkError: The machine cannot measure.
    """
    used = instruments or Instruments()
    say(f"the rest takes at most about {estimate_s(journal, models) / 60:.0f} min on an H200")
    say("reading the anchors")
    journal.add_anchors(used.anchors())
    for run, process in ORDER:
        for _ in range(ATTEMPTS):
            todo = pending(journal, models, run, process)
            if not todo:
                break
            if monotonic() + 2 * ANCHORS_S > ends_s:
                say("the time is up; --resume goes on from there")
                return False
            if run == "energy" and not journal.card:
                say("measuring the card's energy loops")
                journal.add_card(used.card())
            outcomes = _part(journal, run, process, todo, ends_s - ANCHORS_S, used)
            for name, share in journal.parts[-1].moved.items():
                say(f"void: {name} moved by {100 * share:+.1f} % during {run}, process {process}")
            if not any(outcome.measured for outcome in outcomes):
                say(next((str(o.reason) for o in outcomes if o.reason), "nothing was measured"))
                break
    return not any(pending(journal, models, run, process) for run, process in ORDER)


def _part(  # noqa: PLR0917 - one call
    journal: Journal,
    run: RunName,
    process: int,
    todo: tuple[PlannedModel, ...],
    ends_s: float,
    used: Instruments,
) -> tuple[Outcome, ...]:
    """Measure one part, and close it by a reading of the anchors whatever happens."""
    out = journal.begin(run, process)
    out.mkdir(parents=True, exist_ok=True)
    request = ProfileRequest(
        models=todo,
        out=out,
        device="auto",
        dtype="bf16",
        weights_seed=WEIGHTS_SEED,
        resume=True,
        timeout_s=TIMEOUT_S,
        ends_s=ends_s,
    )
    try:
        return run_profile(request, ProfileProgress(), worker_command=used.worker)
    finally:
        journal.add_anchors(used.anchors())


def pending(
    journal: Journal, models: tuple[HeldOutModel, ...], run: RunName, process: int
) -> tuple[PlannedModel, ...]:
    """What a process of a kind of run has not measured in any part that counts."""
    done = {
        (recording.model.name, backend, case.workload)
        for part in journal.parts
        if part.counts and (part.run, part.process) == (run, process)
        for backend, recording in part_recordings(journal.out, part)
        for case in recording.cases
        if run in case.runs or not case.lacking.get(run, LOST).startswith(LOST)
    }
    rest = []
    for each in planned(run, models):
        plan = tuple(
            case for case in each.plan if (each.model.name, each.backend, case.workload) not in done
        )
        if plan:
            rest.append(replace(each, plan=plan))
    return tuple(rest)


def part_recordings(out: Path, part: Part) -> Iterable[tuple[Backend, Recording]]:
    """The recordings of a part, with the backend, which stands in the name of the file."""
    for path in sorted((out / part.folder).glob("*.json")):
        with inputs_noted():
            yield "fused" if path.stem.endswith("-fused") else "torch", load_recording(path)
