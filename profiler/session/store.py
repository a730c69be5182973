"""A recording on disk while it grows: whole after each finished run, or as it was before.

A new text goes to a file beside it, reaches the disk, and takes its place in one step; so a kill at
any moment loses the case in hand alone. One profiler at a time holds a recording.
"""

import fcntl
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from costmodel.errors import InputError, WorkError, shown
from costmodel.inputs.files import MAX_FILE_BYTES, write_atomically
from costmodel.inputs.model import ModelConfig
from costmodel.recordings.quantities import RunName
from costmodel.recordings.recording import (
    Case,
    CaseWorkload,
    Recording,
    Run,
    Session,
    load_recording,
    recording_text,
)
from costmodel.strict import explained
from profiler.session.protocol import Done


class Store:
    """One recording file, held from `open` to `close`."""

    def __init__(
        self, path: Path, *, model: ModelConfig, preset: str | None, weights_seed: int, resume: bool
    ) -> None:
        """Hold the file, which need not be there yet.

        Raises:
            InputError: It is there and must not be (without `resume`), is no valid recording, or
                one of another model.
            WorkError: Another profiler holds it, or its folder cannot be written.
        """
        self.path, self._model, self._preset, self._seed = path, model, preset, weights_seed
        self._recording: Recording | None = None
        if path.exists() and not resume:
            raise InputError(
                f"out={shown(str(path))}: exists; --resume measures what it lacks, another --out"
                " starts anew"
            )
        self._lock_path = path.with_name(f".{path.name}.lock")
        self._lock = self._held()
        try:
            if path.exists():
                self._recording = self._read()
        except BaseException:
            self.close()
            raise
        self._earlier = len(self._recording.sessions) if self._recording else 0  # sessions

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._lock_path.unlink(missing_ok=True)  # while it is still held: nobody else's goes
        os.close(self._lock)

    @property
    def begun(self) -> bool:
        """Whether the model's paths are known, without which there is no recording."""
        return self._recording is not None

    @property
    def cases(self) -> dict[CaseWorkload, Case]:
        """What is on disk, by workload."""
        held = self._recording.cases if self._recording else ()
        return {case.workload: case for case in held}

    def begin(
        self, paths: tuple[str, ...], session: Session, planned: Mapping[CaseWorkload, int]
    ) -> None:
        """Take the model's paths, and check that there is room for all planned cases, by seed.

        Nothing is written before there is something to keep.

        Raises:
            InputError: The recording would grow larger than a reader takes.
            WorkError: The recording was made of other paths: by other code.
        """
        if self._recording is None:
            self._recording = Recording(
                schema_version=1,
                preset=self._preset,
                model=self._model,
                weights_seed=self._seed,
                paths=paths,
                sessions=(session,),
                cases=(),
            )
        held = self._recording
        if held.paths != paths:
            raise WorkError(
                f"{self.path.name}: its operators have other paths than those of this version;"
                " measure into a new file"
            )
        new = (Case(workload=w, seed=s) for w, s in planned.items() if w not in self.cases)
        try:
            replace(held, cases=(*held.cases, *new))
        except ValidationError as error:
            raise InputError(f"plan: {explained(error)}") from None

    def add(
        self, workload: CaseWorkload, seed: int, name: RunName, found: Done, session: Session
    ) -> None:
        """Keep a finished run; it is on disk when this returns.

        Raises:
            InputError: It does not go with the recording: a column of another length, a quantity
                that this kind of run does not measure.
            WorkError: It cannot be written, or the file would be too large to be read.
        """
        assert self._recording is not None
        sessions = self._with_session(self._recording.sessions, session)
        run = Run(
            session=len(sessions) - 1,
            conditions=found.conditions,
            step=found.step,
            operators=found.operators,
            accesses=found.accesses,
        )
        case = self.cases.get(workload) or Case(workload=workload, seed=seed)
        lacking = {other: reason for other, reason in case.lacking.items() if other != name}
        self._keep(replace(case, runs={**case.runs, name: run}, lacking=lacking), sessions)

    def lack(self, workload: CaseWorkload, seed: int, name: RunName, reason: str) -> None:
        """Keep the reason why a run is not there; it is on disk when this returns.

        Raises:
            WorkError: It cannot be written, or the file would be too large to be read.
        """
        assert self._recording is not None
        case = self.cases.get(workload) or Case(workload=workload, seed=seed)
        if case.lacking.get(name) != reason:
            lacking = {**case.lacking, name: reason}
            self._keep(replace(case, lacking=lacking), self._recording.sessions)

    def _with_session(self, sessions: tuple[Session, ...], session: Session) -> tuple[Session, ...]:
        """This start of the profiler is one session, whose self-check grows from run to run."""
        last = sessions[-1]
        own = len(sessions) > self._earlier
        if own and replace(last, self_check=session.self_check) == session:
            return (*sessions[:-1], session)
        return (*sessions, session)

    def _keep(self, case: Case, sessions: tuple[Session, ...]) -> None:
        """The recording with this case, checked as a reader would, then on disk."""
        held = self._recording
        assert held is not None
        cases = {**self.cases, case.workload: case}
        try:
            new = replace(held, cases=tuple(cases.values()), sessions=sessions)
        except ValidationError as error:
            raise InputError(explained(error)) from None
        self._write(recording_text(new))
        self._recording = new

    def _write(self, text: str) -> None:
        data = text.encode()
        if len(data) > MAX_FILE_BYTES:
            raise WorkError(
                f"{self.path.name}: would hold {len(data):,} bytes, of which no reader takes more"
                f" than {MAX_FILE_BYTES:,}; measure the rest into another file"
            )
        temporary = self.path.with_name(f".{self.path.name}.new")  # ours alone, by the lock
        try:
            write_atomically(self.path, data, durable=True, temporary=temporary)
        except InputError as error:
            raise WorkError(str(error)) from None

    def _read(self) -> Recording:
        found = load_recording(self.path)
        where = f"out={shown(str(self.path))}"
        if found.model != self._model:
            raise InputError(f"{where}: is of another model than {shown(self._model.name)}")
        if found.weights_seed != self._seed:
            raise InputError(
                f"{where}: weights_seed={found.weights_seed}; weights are drawn from"
                f" {self._seed} now"
            )
        return found

    def _held(self) -> int:
        """A lock on a file beside it, which the system lets go of when this process ends."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            while True:
                lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # Its last holder may have removed the name since it was opened.
                    if self._lock_path.exists() and os.path.samestat(
                        os.fstat(lock), self._lock_path.stat()
                    ):
                        return lock
                except BaseException:
                    os.close(lock)
                    raise
                os.close(lock)
        except BlockingIOError:
            raise WorkError(
                f"{self.path}: another profiler writes this recording; wait for it, or give"
                " another --out"
            ) from None
        except OSError as error:
            raise WorkError(f"{self.path}: cannot be written: {error.strerror}") from None
