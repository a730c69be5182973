"""A profile: a worker process for each kind of run, and a new one where a worker is lost.

Hardware counters, timing and energy measurements disturb one another, so each kind of run has a
process of its own. A case that was being measured when its worker was lost is recorded as lacking,
and this command does not try it again. The profiler's own process imports no torch.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import TypeVar

from costmodel.errors import InputError, WorkError
from costmodel.recordings.quantities import RUNS, RunName
from costmodel.recordings.recording import Check
from profiler.instruments.process import WorkerLostError
from profiler.session.child import WORKER, Child
from profiler.session.progress import ProfileProgress
from profiler.session.protocol import (
    Began,
    Broken,
    Building,
    CaseJob,
    Checked,
    Done,
    End,
    Event,
    Hello,
    Lacking,
    ModelJob,
    Paths,
    Refused,
    Setup,
    Work,
)
from profiler.session.session import Outcome, PendingCase, ProfileRequest, ProfileSession

MAX_LOST = 3  # workers in a row that were lost before they finished a case

E = TypeVar("E")


def run_profile(
    request: ProfileRequest, progress: ProfileProgress, *, worker_command: Sequence[str] = WORKER
) -> tuple[Outcome, ...]:
    """Measure what the request names and no recording holds; each result is on disk at once.

    `worker_command` starts a worker. At the request's end the worker is ended; the case that it was
    measuring is neither recorded nor lacking.

    Raises:
        InputError: A recording exists already, or a model cannot be built from its config.
        WorkError: The machine cannot measure the request, or `MAX_LOST` workers were lost in a row.
    """
    with ProfileSession(request, progress) as session, progress:
        checked: set[RunName] = set()
        lost_in_a_row = 0
        for run in RUNS:
            while session.pending(run):
                reason = session.unmeasurable.get(run)
                if reason is not None:
                    for case in session.pending(run):
                        session.lack(case, run, reason)
                    break
                finished_before = session.finished
                progress.say(f"starting a worker for {run}")
                try:
                    with Child(
                        worker_command, timeout_s=request.timeout_s, ends_s=request.ends_s
                    ) as child:
                        lost = _Conversation(child, run, request, session, progress, checked).lead()
                except _TimeIsUp:
                    left = sum(len(session.pending(each)) for each in RUNS)
                    progress.say(f"the time is up, {left:,} runs are left: --resume measures them")
                    return session.outcomes()
                lost_in_a_row = 0 if session.finished > finished_before else lost_in_a_row
                if lost is None:
                    continue
                lost_in_a_row += 1
                progress.say(f"the worker {lost}")
                if lost_in_a_row == MAX_LOST:
                    raise WorkError(
                        f"{MAX_LOST} workers in a row were lost, the last one {lost};"
                        " what was measured is kept, --resume goes on from there"
                    )
        return session.outcomes()


class _TimeIsUp(Exception):  # noqa: N818 - no error: the rest is left for another time
    """The request's time is over; the case in hand is measured anew by `--resume`."""


class _Conversation:
    """The profiler's side of the protocol with one worker, from `Setup` to `End`."""

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        child: Child,
        run: RunName,
        request: ProfileRequest,
        session: ProfileSession,
        progress: ProfileProgress,
        checked: set[RunName],
    ) -> None:
        self._child, self._run, self._request = child, run, request
        self._session, self._progress, self._checked = session, progress, checked
        self._jobs: list[list[PendingCase]] = []
        self._in_hand: list[PendingCase] = []  # lost if the worker is lost now

    def lead(self) -> str | None:
        """Have the worker measure all pending cases; the reason where it is lost, else None."""
        try:
            self._introduce()
            self._order()
            while self._session.pending(self._run) and self._jobs:
                self._note(self._receive())
            if self._jobs:
                self._expect(End)
        except WorkerLostError as lost:
            for case in self._in_hand:
                self._session.lose(case, self._run, f"the worker {lost}")
            return str(lost)
        return None

    def _introduce(self) -> None:
        """Exchange setup and self-check. A self-check that crashed is not repeated."""
        first = self._run not in self._checked
        self._child.send(Setup(run=self._run, device=self._request.device, self_check=first))
        try:
            self._session.meet(self._expect(Hello))
        except WorkerLostError as lost:
            raise WorkError(f"the worker {lost}") from None
        if first:
            self._progress.say(f"self-check of {self._run}")
            self._checked.add(self._run)
        try:
            answer = self._expect(Checked)
        except WorkerLostError as lost:
            self._session.add_checks([_unfinished_check(self._run, f"the worker {lost}")])
            raise
        self._session.add_checks(answer.checks)
        for check in answer.checks:
            if not check.passed:
                self._progress.tell(f"self-check failed: {check.name}: {check.reason or 'is off'}")
        if answer.unmeasurable is not None:
            self._session.unmeasurable[self._run] = answer.unmeasurable

    def _order(self) -> None:
        """Send all pending cases as the worker's jobs, one for each model."""
        if self._run in self._session.unmeasurable:
            return
        cases = self._session.pending(self._run)
        self._jobs = [list(group) for _, group in groupby(cases, key=lambda case: case.model_index)]
        if self._jobs:
            self._child.send(
                Work(
                    dtype=self._request.dtype,
                    weights_seed=self._request.weights_seed,
                    jobs=tuple(self._model_job(cases) for cases in self._jobs),
                )
            )

    def _model_job(self, cases: Sequence[PendingCase]) -> ModelJob:
        planned = self._request.models[cases[0].model_index]
        return ModelJob(
            model=planned.model,
            backend=planned.backend,
            cases=tuple(CaseJob(workload=case.workload, seed=case.seed) for case in cases),
        )

    def _note(self, event: Event) -> None:
        """Pass an event on to the session."""
        match event:
            case Building(job=job):
                self._in_hand = list(self._cases(job))
                name = self._request.models[self._in_hand[0].model_index].title
                self._progress.say(f"building {name} for {self._run}")
            case Paths(job=job, paths=paths):
                self._in_hand = []
                self._session.take_paths(self._cases(job)[0].model_index, paths)
            case Began(job=job, case=index):
                begun = self._case(job, index)
                self._in_hand = [begun]
                self._session.begin(begun, self._run)
            case Done(job=job, case=index, result=result):
                self._session.finish(self._taken(job, index), self._run, result)
            case Lacking(job=job, case=index, reason=reason):
                self._session.lack(self._taken(job, index), self._run, reason)
            case _:
                raise self._unexpected(event)

    def _taken(self, job: int, index: int) -> PendingCase:
        """The case of an outcome, which must be in hand, and is no longer after this."""
        case = self._case(job, index)
        if case not in self._in_hand:
            raise self._unexpected(f"an outcome of case {index}, which is not in hand")
        self._in_hand.remove(case)
        return case

    def _cases(self, job: int) -> list[PendingCase]:
        if job >= len(self._jobs):
            raise self._unexpected(f"job {job} of {len(self._jobs)}")
        return self._jobs[job]

    def _case(self, job: int, index: int) -> PendingCase:
        cases = self._cases(job)
        if index >= len(cases):
            raise self._unexpected(f"case {index} of {len(cases)}")
        return cases[index]

    def _expect(self, kind: type[E]) -> E:
        event = self._receive()
        if not isinstance(event, kind):
            raise self._unexpected(event)
        return event

    def _receive(self) -> Event:
        event = self._child.receive()
        if event is None:
            raise _TimeIsUp
        if isinstance(event, Refused):
            raise (InputError if event.mistake else WorkError)(event.message)
        if isinstance(event, Broken):
            raise WorkerLostError(f"ended: {event.reason}")
        return event

    @staticmethod
    def _unexpected(what: Event | str) -> WorkerLostError:
        description = what if isinstance(what, str) else f"{what.kind!r} out of turn"
        return WorkerLostError(f"said what is no event: {description}")


def _unfinished_check(run: RunName, reason: str) -> Check:
    """A check without a number, for a self-check that crashed."""
    return Check(
        name=f"self-check of {run}", known=0.0, measured=None, tolerance=0.0, reason=reason
    )
