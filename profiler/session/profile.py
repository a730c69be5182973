"""A profile: one worker for each kind of run, another in its place when it is lost.

Counters, timing and energy disturb each other, so each kind of run has a process of its own. What
a worker was doing when it was lost is recorded as lacking, and not tried again by this command.
This process imports no torch.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import TypeVar

from costmodel.errors import InputError, WorkError
from costmodel.recordings.quantities import RUNS, RunName
from costmodel.recordings.recording import Check
from profiler.session.child import WORKER, Child, LostError
from profiler.session.progress import Progress
from profiler.session.protocol import (
    Asked,
    Began,
    Broken,
    Building,
    Checked,
    Done,
    End,
    Event,
    Hello,
    Job,
    Lacking,
    Paths,
    Refused,
    Setup,
    Work,
)
from profiler.session.session import Ledger, Outcome, Request, Unit

MAX_LOST = 3  # workers in a row, none of which finished a run

E = TypeVar("E")


def run_profile(
    request: Request, progress: Progress, *, worker_command: Sequence[str] = WORKER
) -> tuple[Outcome, ...]:
    """Measure all that is asked for and not yet recorded; each finished run is on disk at once.

    `worker_command` starts a worker.

    Raises:
        InputError: A recording may not be written, or a model cannot be built as it is written.
        WorkError: Nothing can be measured as asked, or worker after worker is lost.
    """
    with Ledger(request, progress) as ledger, progress:
        checked: set[RunName] = set()
        lost_in_a_row = 0
        for run in RUNS:
            while ledger.left(run):
                reason = ledger.unmeasurable.get(run)
                if reason is not None:
                    for unit in ledger.left(run):
                        ledger.lack(unit, run, reason)
                    break
                done_before = ledger.done_now
                progress.say(f"starting a worker for {run}")
                with Child(worker_command, timeout_s=request.timeout_s) as child:
                    lost = _Conversation(child, run, request, ledger, progress, checked).lead()
                lost_in_a_row = 0 if ledger.done_now > done_before else lost_in_a_row
                if lost is None:
                    continue
                lost_in_a_row += 1
                progress.say(f"the worker {lost}")
                if lost_in_a_row == MAX_LOST:
                    raise WorkError(
                        f"{MAX_LOST} workers in a row were lost, the last one {lost};"
                        " what was measured is kept, --resume goes on from there"
                    )
        return ledger.outcomes()


class _Conversation:
    """With one worker, from its setup to its end."""

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        child: Child,
        run: RunName,
        request: Request,
        ledger: Ledger,
        progress: Progress,
        checked: set[RunName],
    ) -> None:
        self._child, self._run, self._request = child, run, request
        self._ledger, self._progress, self._checked = ledger, progress, checked
        self._jobs: list[list[Unit]] = []
        self._in_hand: list[Unit] = []  # what is lost if the worker is

    def lead(self) -> str | None:
        """Talk until the worker has nothing left to do, or is lost: then the reason."""
        try:
            self._introduce()
            self._order()
            while self._ledger.left(self._run) and self._jobs:
                self._note(self._receive())
            if self._jobs:
                self._expect(End)
        except LostError as lost:
            for unit in self._in_hand:
                self._ledger.lack(unit, self._run, f"the worker {lost}")
            return str(lost)
        return None

    def _introduce(self) -> None:
        """Who measures, and what its self-check found. A self-check that crashed stays undone."""
        first = self._run not in self._checked
        self._child.send(Setup(run=self._run, device=self._request.device, self_check=first))
        try:
            self._ledger.meet(self._expect(Hello))
        except LostError as lost:
            raise WorkError(f"the worker {lost}") from None
        if first:
            self._progress.say(f"self-check of {self._run}")
            self._checked.add(self._run)
        try:
            answer = self._expect(Checked)
        except LostError as lost:
            self._ledger.check([_undone(self._run, f"the worker {lost}")])
            raise
        self._ledger.check(answer.checks)
        for check in answer.checks:
            if not check.passed:
                self._progress.tell(f"self-check failed: {check.name}: {check.reason or 'is off'}")
        if answer.unmeasurable is not None:
            self._ledger.unmeasurable[self._run] = answer.unmeasurable

    def _order(self) -> None:
        if self._run in self._ledger.unmeasurable:
            return
        units = self._ledger.left(self._run)
        self._jobs = [list(group) for _, group in groupby(units, key=lambda unit: unit.target)]
        if self._jobs:
            self._child.send(
                Work(
                    dtype=self._request.dtype,
                    weights_seed=self._request.weights_seed,
                    jobs=tuple(self._job(units) for units in self._jobs),
                )
            )

    def _job(self, units: Sequence[Unit]) -> Job:
        return Job(
            model=self._request.targets[units[0].target].model,
            cases=tuple(Asked(workload=unit.workload, seed=unit.seed) for unit in units),
        )

    def _note(self, event: Event) -> None:
        """Keep what happened."""
        match event:
            case Building(job=job):
                self._in_hand = list(self._units(job))
                name = self._request.targets[self._in_hand[0].target].name
                self._progress.say(f"building {name} for {self._run}")
            case Paths(job=job, paths=paths):
                self._in_hand = []
                self._ledger.begin(self._units(job)[0].target, paths)
            case Began(job=job, case=case):
                unit = self._unit(job, case)
                self._in_hand = [unit]
                self._ledger.began(unit, self._run)
            case Done(job=job, case=case):
                self._ledger.done(self._taken(job, case), self._run, event)
            case Lacking(job=job, case=case, reason=reason):
                self._ledger.lack(self._taken(job, case), self._run, reason)
            case _:
                raise self._untold(event)

    def _taken(self, job: int, case: int) -> Unit:
        """The unit that an outcome is told of: it must be in hand, and is no longer."""
        unit = self._unit(job, case)
        if unit not in self._in_hand:
            raise self._untold(f"an outcome of case {case}, which is not in hand")
        self._in_hand.remove(unit)
        return unit

    def _units(self, job: int) -> list[Unit]:
        if job >= len(self._jobs):
            raise self._untold(f"job {job} of {len(self._jobs)}")
        return self._jobs[job]

    def _unit(self, job: int, case: int) -> Unit:
        units = self._units(job)
        if case >= len(units):
            raise self._untold(f"case {case} of {len(units)}")
        return units[case]

    def _expect(self, kind: type[E]) -> E:
        event = self._receive()
        if not isinstance(event, kind):
            raise self._untold(event)
        return event

    def _receive(self) -> Event:
        event = self._child.receive()
        if isinstance(event, Refused):
            raise (InputError if event.mistake else WorkError)(event.message)
        if isinstance(event, Broken):
            raise LostError(f"ended: {event.reason}")
        return event

    @staticmethod
    def _untold(what: Event | str) -> LostError:
        told = what if isinstance(what, str) else f"{what.kind!r} out of turn"
        return LostError(f"said what is no event: {told}")


def _undone(run: RunName, reason: str) -> Check:
    """A self-check that gave nothing, told as a check without a number."""
    return Check(
        name=f"self-check of {run}", known=0.0, measured=None, tolerance=0.0, reason=reason
    )
