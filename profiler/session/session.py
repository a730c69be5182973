"""The state of a profile: its pending cases, and the recordings that hold the finished ones.

A `ProfileSession` knows nothing of processes: `profiler.session.profile` talks to the workers and
passes results on. The session keeps each result or reason on disk at once, and shows the progress.
"""

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from costmodel.errors import InputError
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Backend
from costmodel.recordings.case_workload import CaseWorkload, Dtype
from costmodel.recordings.machine import Machine
from costmodel.recordings.quantities import RUNS, RunName
from costmodel.recordings.recording import Check, RunResult, Session
from profiler.instruments.machine import now
from profiler.instruments.redact import redacted
from profiler.session.plan import PlannedCase, case_seed, workload_label
from profiler.session.progress import ProfileProgress
from profiler.session.protocol import DeviceChoice, Hello
from profiler.session.store import RecordingStore

SLUG_CHARACTERS = 80
VENDOR = "nvidia-"  # every GPU that is measured has it in its name


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedModel:
    """A model to profile by the kernels of one backend, its name among files, and its plan."""

    name: str
    preset: str | None
    model: ModelConfig
    backend: Backend
    plan: tuple[PlannedCase, ...]

    @property
    def title(self) -> str:
        """The name, and a backend other than torch, as in the name of its recording."""
        return self.name if self.backend == "torch" else f"{self.name}-{self.backend}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRequest:
    """All that one command is to measure. `out` is a .json file (one model) or a folder.

    Workers are ended at `ends_s` (of `time.monotonic`), if that is given.
    """

    models: tuple[PlannedModel, ...]
    out: Path
    device: DeviceChoice
    dtype: Dtype
    weights_seed: int
    resume: bool
    timeout_s: float
    ends_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingCase:
    """A case that is to be measured: the index of its model in the request, workload and seed."""

    model_index: int
    workload: CaseWorkload
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a model's recording holds at the end. No file exists of a model that was never built."""

    path: Path
    measured: int  # runs of cases
    lacking: int
    reason: str | None  # why the first lacking run could not be measured
    lost: int  # of those lacking, runs whose worker this command has lost


def slug(text: str) -> str:
    """A name as part of a file's name: lower case, digits, dots within, and dashes."""
    dashed = re.sub(r"[^a-z0-9.]+", "-", text.lower())
    single_dots = re.sub(r"\.{2,}", ".", dashed)[:SLUG_CHARACTERS]
    return single_dots.strip("-.") or "unnamed"


def recording_name(machine: Machine, model: PlannedModel) -> str:
    """The file name of a recording: `h200-olmoe-1b-7b.json`, of fused kernels `...-fused.json`."""
    device = "cpu" if machine.device == "cpu" else slug(machine.name).removeprefix(VENDOR)
    return f"{device}-{model.title}.json"


class ProfileSession:
    """The open recordings of one command, and the cases that each kind of run still has to measure.

    A context manager: leaving it closes the recordings.

    Attributes:
        finished: runs of cases that this command has measured.
        unmeasurable: kinds of run that are impossible on this machine, with the reason.
    """

    def __init__(self, request: ProfileRequest, progress: ProfileProgress) -> None:
        self._request, self._progress = request, progress
        self._stores: list[RecordingStore] = []
        self._open_stores = ExitStack()
        self._session: Session | None = None
        # Reasons of models whose paths are not known yet, by the model's index
        self._unstored: dict[int, list[tuple[PendingCase, RunName, str]]] = {}
        self.finished = 0
        self.unmeasurable: dict[RunName, str] = {}
        self._lost = Counter[int]()  # runs that were lost with their worker, by model
        self._pending: dict[RunName, list[PendingCase]] = {run: [] for run in RUNS}
        for index, planned in enumerate(request.models):
            for planned_case in planned.plan:
                case = PendingCase(
                    model_index=index,
                    workload=planned_case.workload,
                    seed=case_seed(planned_case.workload),
                )
                for run in planned_case.runs:
                    self._pending[run].append(case)
        if (
            request.out.suffix.lower() == ".json" and not request.out.is_dir()
        ):  # otherwise the machine decides the file's name
            self._open([request.out])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open_stores.close()

    def pending(self, run: RunName) -> tuple[PendingCase, ...]:
        """The cases that this kind of run has not measured, and this command has not tried."""
        return tuple(self._pending[run])

    def begin(self, case: PendingCase, run: RunName) -> None:
        """Note that a worker begins to measure a case."""
        self._progress.begin(self._label(case, run))

    def meet(self, hello: Hello) -> None:
        """Take a worker's machine and code; the first time, open the recordings.

        Raises:
            InputError: A recording exists already, or cannot be resumed.
            WorkError: A recording cannot be written.
        """
        if not self._stores:
            names = [recording_name(hello.machine, model) for model in self._request.models]
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

    def add_checks(self, checks: Sequence[Check]) -> None:
        """Keep a self-check; it is written together with the next finished run."""
        assert self._session is not None
        self._session = replace(self._session, self_check=(*self._session.self_check, *checks))

    def take_paths(self, model_index: int, paths: tuple[str, ...]) -> None:
        """Begin the recording of a model whose leaf paths are now known.

        Raises:
            InputError: The recording would grow beyond the schema's limits.
            WorkError: The recording exists and has other paths.
        """
        assert self._session is not None
        plan = self._request.models[model_index].plan
        seeds = {case.workload: case_seed(case.workload) for case in plan}
        store = self._stores[model_index]
        store.begin(paths, self._session, seeds)
        for case, run, reason in self._unstored.pop(model_index, ()):
            store.lack(case.workload, case.seed, run, reason)

    def finish(self, case: PendingCase, run: RunName, result: RunResult) -> None:
        """Keep a result; one that breaks a rule of the recording makes the run lacking.

        Raises:
            WorkError: The recording cannot be written.
        """
        assert self._session is not None
        store = self._stores[case.model_index]
        try:
            store.add(case.workload, case.seed, run, result, self._session)
        except InputError as error:
            self.lack(case, run, f"what was measured is refused: {error}")
            return
        self._pending[run].remove(case)
        self.finished += 1
        self._progress.done(run, self._label(case, run))
        if others := result.conditions.other_processes:
            self._progress.tell(
                f"{others} other process{'es' * (others > 1)} used the GPU meanwhile"
            )

    def lack(self, case: PendingCase, run: RunName, reason: str) -> None:
        """Keep the reason why a case could not be measured in this kind of run."""
        public_reason = redacted(reason)
        store = self._stores[case.model_index]
        if store.begun:
            store.lack(case.workload, case.seed, run, public_reason)
        else:
            unstored = self._unstored.setdefault(case.model_index, [])
            unstored.append((case, run, public_reason))
        self._pending[run].remove(case)
        self._progress.lacking(run, self._label(case, run), public_reason)

    def lose(self, case: PendingCase, run: RunName, reason: str) -> None:
        """Keep the reason why a run was lost with its worker; another try may well succeed."""
        self.lack(case, run, reason)
        self._lost[case.model_index] += 1

    def outcomes(self) -> tuple[Outcome, ...]:
        """What each recording holds, in the order of the request's models."""
        outcomes = []
        for index, store in enumerate(self._stores):
            cases = store.cases.values()
            reasons = [reason for case in cases for reason in case.lacking.values()]
            reasons += [reason for _, _, reason in self._unstored.get(index, ())]
            outcomes.append(
                Outcome(
                    path=store.path,
                    measured=sum(len(case.runs) for case in cases),
                    lacking=len(reasons),
                    reason=next(iter(reasons), None),
                    lost=self._lost[index],
                )
            )
        return tuple(outcomes)

    def _label(self, case: PendingCase, run: RunName) -> str:
        name = self._request.models[case.model_index].title
        return f"{name} {run} {workload_label(case.workload)}"

    def _open(self, paths: Sequence[Path]) -> None:
        """Open a recording for each model; cases that they hold already are pending no more."""
        for planned, path in zip(self._request.models, paths, strict=True):
            store = RecordingStore(
                path,
                model=planned.model,
                preset=planned.preset,
                weights_seed=self._request.weights_seed,
                backend=planned.backend,
                resume=self._request.resume,
            )
            self._stores.append(self._open_stores.enter_context(store))
        recorded = [store.cases for store in self._stores]
        for run, cases in self._pending.items():
            self._pending[run] = []
            for case in cases:
                known = recorded[case.model_index].get(case.workload)
                if known is None or run not in known.runs:
                    seed = case.seed if known is None else known.seed  # that of its other runs
                    self._pending[run].append(replace(case, seed=seed))
        self._progress.plan({run: len(cases) for run, cases in self._pending.items()})
