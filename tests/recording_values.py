"""Recordings made up for tests: of any model, from numbers that the test chooses."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from costmodel.costs.operators import build_operators
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.site import expanded_paths
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.machine import Conditions, Machine
from costmodel.recordings.measured import (
    Accesses,
    Column,
    Exact,
    ExactColumn,
    Measured,
    Missing,
    Source,
    Spread,
    SpreadColumn,
)
from costmodel.recordings.quantities import QUANTITIES, RUNS, RunName, measured_in
from costmodel.recordings.recording import Case, Check, Recording, Run, Session, recording_text
from costmodel.validation.recorded_routing import chosen_kinds

H200 = Machine(
    device="cuda",
    name="NVIDIA H200",
    memory_bytes=150_109_880_320,
    python="3.12.3",
    torch="2.11.0+cu130",
    cuda="13.0",
    driver="580.159.04",
    triton="3.6.0",
    l2_bytes=60 * 2**20,
    multiprocessors=132,
    power_limit_w=700.0,
)
CPU = Machine(
    device="cpu", name="A processor", memory_bytes=2**34, python="3.12.3", torch="2.13.0", threads=2
)
CONDITIONS = Conditions(started="2026-01-02T03:04:05Z", warm_up=3)

Number = int | float


def session(machine: Machine = H200, *checks: Check) -> Session:
    return Session(
        started="2026-01-02T03:04:05Z",
        machine=machine,
        sparsecost_version="0.1.0",
        commit="0123abc",
        self_check=checks,
    )


def workload(**fields: Any) -> CaseWorkload:  # noqa: ANN401 - any field of a workload
    """Decode of one sequence after 3 cached tokens, unless told otherwise."""
    given: dict[str, Any] = {
        "phase": "decode",
        "batch": 1,
        "context": 3,
        "new_tokens": 1,
        "dtype": "bf16",
        "routing": "uniform",
    }
    return CaseWorkload(**(given | fields))


def measured(value: Number | str, source: Source = "cuda_event") -> Measured:
    """A count as exact, a float with quartiles 1 % away, a text as the reason of none."""
    if isinstance(value, str):
        return Missing(reason=value)
    if isinstance(value, int):
        return Exact(value=value, source=source)
    return Spread(median=value, q1=value * 0.99, q3=value * 1.01, repeats=5, source=source)


def column(values: Sequence[Number | None], source: Source = "torch_profiler") -> Column:
    """The same for all leaves."""
    if all(value is None or isinstance(value, int) for value in values):
        counts = tuple(None if value is None else int(value) for value in values)
        return ExactColumn(values=counts, source=source)

    def times(factor: float) -> tuple[float | None, ...]:
        return tuple(None if value is None else float(value) * factor for value in values)

    return SpreadColumn(median=times(1.0), q1=times(0.99), q3=times(1.01), repeats=5, source=source)


def run(
    step: Mapping[str, Number | str] | None = None,
    operators: Mapping[str, Sequence[Number | None]] | None = None,
    *,
    accesses: Mapping[str, Accesses] | None = None,
    in_session: int = 0,
) -> Run:
    """One run; columns are in the order of the recording's paths."""
    return Run(
        session=in_session,
        conditions=CONDITIONS,
        step={name: measured(value) for name, value in (step or {}).items()},
        operators={name: column(values) for name, values in (operators or {}).items()},
        accesses=dict(accesses or {}),
    )


def case(
    work: CaseWorkload | None = None,
    *,
    time: Run | None = None,
    trace: Run | None = None,
    counters: Run | None = None,
    energy: Run | None = None,
    lacking: Mapping[RunName, str] | None = None,
) -> Case:
    """A case; kernels given with `time` go into a trace of their own, as a profile has it."""
    if time is not None and trace is None:
        time, trace = _apart(time)
    given: dict[RunName, Run | None] = {
        "time": time,
        "trace": trace,
        "counters": counters,
        "energy": energy,
    }
    runs = {name: each for name, each in given.items() if each is not None}
    return Case(workload=work or workload(), seed=0, runs=runs, lacking=dict(lacking or {}))


def _apart(run_: Run) -> tuple[Run, Run | None]:
    """What a trace measures, taken out of a run; `distinct` stays in both."""
    names = {*measured_in("trace", "step"), *measured_in("trace", "operators")} - {"distinct"}
    step = {name: each for name, each in run_.step.items() if name in names}
    operators = {name: each for name, each in run_.operators.items() if name in names}
    if not step and not operators:
        return run_, None
    distinct = {name: each for name, each in run_.operators.items() if name == "distinct"}
    rest = replace(
        run_,
        step={name: each for name, each in run_.step.items() if name not in names},
        operators={name: each for name, each in run_.operators.items() if name not in names},
    )
    return rest, replace(run_, step=step, operators=operators | distinct, accesses={})


def leaf_paths(model: ModelConfig) -> tuple[str, ...]:
    """Paths of a model's operators, layer by layer."""
    operators = build_operators(model, Workload().step())
    return tuple(path for op in operators for path in expanded_paths(op.path))


def recording(
    model: ModelConfig,
    *cases: Case,
    paths: Sequence[str] | None = None,
    sessions: Sequence[Session] = (),
) -> Recording:
    return Recording(
        schema_version=1,
        preset=None,
        model=model,
        weights_seed=0,
        paths=tuple(leaf_paths(model) if paths is None else paths),
        sessions=tuple(sessions) or (session(),),
        cases=cases,
    )


def written(made: Recording, folder: Path, name: str = "made.json") -> Path:
    path = folder / name
    path.write_text(recording_text(made))
    return path


def everything(model: ModelConfig, works: Sequence[CaseWorkload]) -> Recording:
    """A recording of the size of a real one: every quantity of every leaf, all numbers alike."""
    paths = leaf_paths(model)
    choosing = chosen_kinds(model)
    time, trace, counters, energy = (_full_run(name, paths, choosing) for name in RUNS)
    cases = [case(work, time=time, trace=trace, counters=counters, energy=energy) for work in works]
    return recording(model, *cases, paths=paths)


def _full_run(name: RunName, paths: Sequence[str], choosing: Collection[str]) -> Run:
    step: dict[str, Number] = {}
    operators: dict[str, list[Number | None]] = {}
    for each in measured_in(name, "step"):
        step[each] = 7 if QUANTITIES[each].unit == "count" else 1.234567e-3
    for each in measured_in(name, "operators"):
        if each == "distinct":
            operators[each] = [3 if path in choosing else None for path in paths]
        else:
            exact = QUANTITIES[each].exact or each == "launches"
            operators[each] = [5 if exact else 1.234567e-5] * len(paths)
    return run(step, operators)
