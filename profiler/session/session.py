"""What a profile has still to do, and where what it did is kept: recordings, session, progress."""

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from costmodel.errors import InputError
from costmodel.inputs.model import ModelConfig
from costmodel.recordings.machine import Machine
from costmodel.recordings.quantities import RUNS, RunName
from costmodel.recordings.recording import CaseWorkload, Check, Session
from profiler.instruments.machine import now
from profiler.instruments.redact import anonymous
from profiler.session.plan import Planned, case_seed, described
from profiler.session.progress import Progress
from profiler.session.protocol import Done, Dtype, Hello, Wanted
from profiler.session.store import Store

SLUG_CHARACTERS = 80
VENDOR = "nvidia-"  # of a GPU's name; every GPU that is measured has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A model to profile, the name under which it is filed, and its plan."""

    name: str
    preset: str | None
    model: ModelConfig
    plan: tuple[Planned, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """All that one command is to measure. `out` is a .json file (one model) or a folder."""

    targets: tuple[Target, ...]
    out: Path
    device: Wanted
    dtype: Dtype
    weights_seed: int
    resume: bool
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One case of one target, in whatever run."""

    target: int
    workload: CaseWorkload
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a recording holds at the end; a model that could not be built has no file."""

    path: Path
    measured: int  # runs of cases
    lacking: int
    reason: str | None  # of the first that is lacking


def slug(text: str) -> str:
    """A name as part of a file's name: lower case, digits, dots within, and dashes."""
    found = re.sub(r"\.{2,}", ".", re.sub(r"[^a-z0-9.]+", "-", text.lower()))[:SLUG_CHARACTERS]
    return found.strip("-.") or "unnamed"


def recording_name(machine: Machine, name: str) -> str:
    """`h200-olmoe-1b-7b.json`: what measured, and what was measured."""
    device = "cpu" if machine.device == "cpu" else slug(machine.name).removeprefix(VENDOR)
    return f"{device}-{name}.json"


class Ledger:
    """The recordings of one command, held open; and the runs that each still lacks."""

    def __init__(self, request: Request, progress: Progress) -> None:
        self._request, self._progress = request, progress
        self._stores: list[Store] = []
        self._open_stores = ExitStack()
        self._session: Session | None = None
        self._homeless: dict[int, list[tuple[Unit, RunName, str]]] = {}  # by target without paths
        self.done_now = 0
        self.unmeasurable: dict[RunName, str] = {}
        self._left: dict[RunName, list[Unit]] = {run: [] for run in RUNS}
        for index, target in enumerate(request.targets):
            for planned in target.plan:
                unit = Unit(
                    target=index, workload=planned.workload, seed=case_seed(planned.workload)
                )
                for run in planned.runs:
                    self._left[run].append(unit)
        if request.out.suffix == ".json":  # else the file's name depends on what measures
            self._open([request.out])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open_stores.close()

    def left(self, run: RunName) -> tuple[Unit, ...]:
        """What is not yet measured, and was not tried either by this command."""
        return tuple(self._left[run])

    def began(self, unit: Unit, run: RunName) -> None:
        """A run is in hand."""
        self._progress.begin(self._label(unit, run))

    def meet(self, hello: Hello) -> None:
        """Take note of what measures; the first time this opens the recordings."""
        if not self._stores:
            names = [recording_name(hello.machine, each.name) for each in self._request.targets]
            self._open([self._request.out / name for name in names])
        self.unmeasurable.update(hello.unmeasurable)
        new = Session(
            started=now(),
            machine=hello.machine,
            sparsecost_version=hello.version,
            commit=hello.commit,
        )
        old = self._session
        if old is None or replace(new, started=old.started, self_check=old.self_check) != old:
            self._session = new

    def check(self, checks: Sequence[Check]) -> None:
        """Keep the self-check of a kind of run; it is written with the next finished run."""
        assert self._session is not None
        self._session = replace(self._session, self_check=(*self._session.self_check, *checks))

    def begin(self, target: int, paths: tuple[str, ...]) -> None:
        """The paths of a model are known, so that its recording can begin."""
        assert self._session is not None
        plan = self._request.targets[target].plan
        planned = {each.workload: case_seed(each.workload) for each in plan}
        self._stores[target].begin(paths, self._session, planned)
        for unit, run, reason in self._homeless.pop(target, ()):
            self._stores[target].lack(unit.workload, unit.seed, run, reason)

    def done(self, unit: Unit, run: RunName, found: Done) -> None:
        """Keep a finished run; one that does not go with the recording is lacking."""
        assert self._session is not None
        try:
            self._stores[unit.target].add(unit.workload, unit.seed, run, found, self._session)
        except InputError as error:
            self.lack(unit, run, f"what was measured is refused: {error}")
            return
        self._left[run].remove(unit)
        self.done_now += 1
        self._progress.done(run, self._label(unit, run))
        if others := found.conditions.other_processes:
            self._progress.tell(
                f"{others} other process{'es' * (others > 1)} used the GPU meanwhile"
            )

    def lack(self, unit: Unit, run: RunName, reason: str) -> None:
        """Keep the reason why a run is not there."""
        told = anonymous(reason)
        store = self._stores[unit.target]
        if store.begun:
            store.lack(unit.workload, unit.seed, run, told)
        else:
            self._homeless.setdefault(unit.target, []).append((unit, run, told))
        self._left[run].remove(unit)
        self._progress.lacking(run, self._label(unit, run), told)

    def outcomes(self) -> tuple[Outcome, ...]:
        """What each recording holds."""
        found = []
        for index, store in enumerate(self._stores):
            cases = store.cases.values()
            reasons = [reason for case in cases for reason in case.lacking.values()]
            reasons += [reason for _, _, reason in self._homeless.get(index, ())]
            found.append(
                Outcome(
                    path=store.path,
                    measured=sum(len(case.runs) for case in cases),
                    lacking=len(reasons),
                    reason=next(iter(reasons), None),
                )
            )
        return tuple(found)

    def _label(self, unit: Unit, run: RunName) -> str:
        name = self._request.targets[unit.target].name
        return f"{name} {run} {described(unit.workload)}"

    def _open(self, paths: Sequence[Path]) -> None:
        for target, path in zip(self._request.targets, paths, strict=True):
            store = Store(
                path,
                model=target.model,
                preset=target.preset,
                weights_seed=self._request.weights_seed,
                resume=self._request.resume,
            )
            self._stores.append(self._open_stores.enter_context(store))
        recorded = [store.cases for store in self._stores]
        for run, units in self._left.items():
            self._left[run] = []
            for unit in units:
                case = recorded[unit.target].get(unit.workload)
                if case is None or run not in case.runs:
                    seed = unit.seed if case is None else case.seed  # other runs had the same data
                    self._left[run].append(replace(unit, seed=seed))
        self._progress.plan({run: len(units) for run, units in self._left.items()})
