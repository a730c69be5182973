"""What each shipped recording holds of its plan and lacks; how far fused kernels overlap in a step.

A case of the plan counts unless the recording says that it does not fit the GPU.
"""

from collections.abc import Callable, Sequence

from costmodel.inputs.catalog import load_model
from costmodel.recordings.folders import SHIPPED
from costmodel.recordings.measured import Spread
from costmodel.recordings.quantities import RUNS, RunName
from costmodel.recordings.recording import Recording
from docs.markdown import markdown
from docs.pair_measurements import BACKENDS, recording_of
from docs.recorded import PREFIX
from docs.wording import listed, span
from profiler.session.plan import PlannedCase, standard_plan

HEAD = ("model", "backend", *RUNS, "commit", "day")


def models() -> tuple[str, ...]:
    """The presets that ship with a recording, of either backend."""
    stems = {path.stem.removeprefix(PREFIX) for path in SHIPPED.glob("*.json")}
    return tuple(sorted({stem.removesuffix("-fused") for stem in stems}))


def lacking(recording: Recording | None, plan: Sequence[PlannedCase]) -> dict[RunName, list[str]]:
    """Labels of the planned cases that fit and were not measured, by kind of run."""
    cases = {} if recording is None else {case.workload: case for case in recording.cases}
    lacks: dict[RunName, list[str]] = {}
    for planned in plan:
        case = cases.get(planned.workload)
        for run in planned.runs:
            known = case is not None and (run in case.runs or "fit" in case.lacking.get(run, ""))
            if not known:
                lacks.setdefault(run, []).append(planned.workload.label)
    return lacks


def recorded_runs() -> str:
    """A row for each model and backend: cases measured of those that fit, by kind of run."""
    rows, lacks = [], []
    for model in models():
        for backend in BACKENDS:
            recording = recording_of(model, backend)
            plan = standard_plan(load_model(model), dtype="bf16", backend=backend)
            lacked = lacking(recording, plan)
            cells = [_measured(recording, run, len(lacked.get(run, ()))) for run in RUNS]
            rows.append((model, backend, *cells, *_made_by(recording)))
            lacks += [
                f"{model}, `{backend}`, {run}: {_told(recording, run, labels)}."
                for run, labels in lacked.items()
            ]
    told = "".join(f"- {each}\n" for each in lacks)
    return markdown(HEAD, rows, text=2) + (
        f"\nNot measured, though it fits:\n\n{told}" if told else ""
    )


def _measured(recording: Recording | None, run: RunName, lacking_cases: int) -> str:
    done = 0 if recording is None else sum(run in case.runs for case in recording.cases)
    return f"{done} of {done + lacking_cases}"


def _made_by(recording: Recording | None) -> tuple[str, str]:
    """The commits and the days of the sessions, `-` without a recording."""
    sessions = () if recording is None else recording.sessions
    commits = sorted({str(session.commit)[:7] for session in sessions})
    days = sorted({session.started[:10] for session in sessions})
    return listed(commits) if commits else "-", listed(days) if days else "-"


def _told(recording: Recording | None, run: RunName, labels: Sequence[str]) -> str:
    some = recording is not None and any(run in case.runs for case in recording.cases)
    return "; ".join(labels) if some else "all"


def overlap_values() -> dict[str, str]:
    """How long fused kernels are, over the graph of a decode step that they make up."""
    over: dict[str, float] = {}
    for model in models():
        recording = recording_of(model, "fused")
        for case in () if recording is None else recording.cases:
            if case.workload.phase == "decode" and {"time", "trace"} <= case.runs.keys():
                kernels = case.runs["trace"].step["kernel_s"]
                graph = case.runs["time"].step["graph_s"]
                assert isinstance(kernels, Spread)
                assert isinstance(graph, Spread)
                over[f"{model} ({case.workload.label})"] = kernels.median / graph.median
    return {
        "fused_kernels_over_graph": span(over.values(), ".2f"),
        "fused_kernels_most": max(over, key=lambda case: over[case]),
    }


TABLES: dict[str, Callable[[], str]] = {"recorded_runs": recorded_runs}
