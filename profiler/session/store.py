"""A recording file while a profile fills it: valid after each finished run, with one writer.

A new text replaces the old one in one step, so a kill at any moment loses only the case that was
being measured. A lock on the file itself keeps out other profilers. A recording that does not exist
yet has none: of two profilers that begin it, the second to finish a run is told.
"""

import fcntl
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from costmodel.errors import InputError, WorkError, shown
from costmodel.inputs.files import MAX_FILE_BYTES, inputs_noted
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.output_file import OutputFile
from costmodel.inputs.workload import Backend
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.quantities import RunName
from costmodel.recordings.recording import (
    Case,
    Recording,
    Run,
    RunResult,
    Session,
    load_recording,
    recording_text,
)
from costmodel.strict import explained


class RecordingStore:
    """One recording file, locked from construction to `close`."""

    def __init__(
        self,
        path: Path,
        *,
        model: ModelConfig,
        preset: str | None,
        weights_seed: int,
        backend: Backend,
        resume: bool,
    ) -> None:
        """Lock the file, and read it if it exists.

        Raises:
            InputError: It exists and `resume` is False, it is no valid recording, or it is of
                another model or backend.
            WorkError: Another profiler holds it, or it cannot be written.
        """
        self.path, self._model, self._preset, self._seed = path, model, preset, weights_seed
        self._backend = backend
        self._recording: Recording | None = None
        if path.exists() and not resume:
            raise InputError(
                f"out={shown(str(path))}: exists; --resume measures what it lacks, another --out"
                " starts anew"
            )
        self._lock = self._locked()  # a descriptor of the file; None: there is none yet
        try:
            self._out.check()
            if self._lock is not None:
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
        """Release the lock."""
        if self._lock is not None:
            os.close(self._lock)

    @property
    def _out(self) -> OutputFile:
        """The file; it is written over only by who holds the lock of what is there."""
        return OutputFile(path=self.path, force=self._lock is not None)

    @property
    def begun(self) -> bool:
        """Whether the model's paths are known; without them there is no recording."""
        return self._recording is not None

    @property
    def cases(self) -> dict[CaseWorkload, Case]:
        """The recorded cases, by workload."""
        held = self._recording.cases if self._recording else ()
        return {case.workload: case for case in held}

    def begin(
        self, paths: tuple[str, ...], session: Session, planned: Mapping[CaseWorkload, int]
    ) -> None:
        """Take the model's paths, and check that all planned cases will fit into the recording.

        `planned` maps workloads to seeds. Nothing is written before the first result or reason.

        Raises:
            InputError: The recording would grow beyond the schema's limits.
            WorkError: The recording exists and has other paths, so other code has made it.
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
        new_cases = (Case(workload=w, seed=s) for w, s in planned.items() if w not in self.cases)
        try:
            replace(held, cases=(*held.cases, *new_cases))
        except ValidationError as error:
            raise InputError(f"plan: {explained(error)}") from None

    def add(
        self, workload: CaseWorkload, seed: int, name: RunName, result: RunResult, session: Session
    ) -> None:
        """Keep the result of a run; it is on disk when this returns.

        Raises:
            InputError: The result breaks a rule of the recording, such as by a column of another
                length or a quantity that this kind of run does not measure.
            WorkError: The file cannot be written, or would be too large to be read.
        """
        assert self._recording is not None
        sessions = self._with_session(self._recording.sessions, session)
        run = Run.of_session(result, len(sessions) - 1)
        case = self.cases.get(workload) or Case(workload=workload, seed=seed)
        lacking = {other: reason for other, reason in case.lacking.items() if other != name}
        self._keep(replace(case, runs={**case.runs, name: run}, lacking=lacking), sessions)

    def lack(self, workload: CaseWorkload, seed: int, name: RunName, reason: str) -> None:
        """Keep the reason why a run is absent; it is on disk when this returns.

        Raises:
            WorkError: The file cannot be written, or would be too large to be read.
        """
        assert self._recording is not None
        case = self.cases.get(workload) or Case(workload=workload, seed=seed)
        if case.lacking.get(name) != reason:
            lacking = {**case.lacking, name: reason}
            self._keep(replace(case, lacking=lacking), self._recording.sessions)

    def _with_session(self, sessions: tuple[Session, ...], session: Session) -> tuple[Session, ...]:
        """The sessions, with this start of the profiler as the last; its self-check may grow."""
        last = sessions[-1]
        begun_here = len(sessions) > self._earlier
        if begun_here and replace(last, self_check=session.self_check) == session:
            return (*sessions[:-1], session)
        return (*sessions, session)

    def _keep(self, case: Case, sessions: tuple[Session, ...]) -> None:
        """Write the recording with this case in it, validated as a reader would."""
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
        try:
            lock = self._out.write_locked(data)
        except InputError as error:
            if self._lock is None and self.path.exists():
                raise WorkError(
                    f"{self.path}: another profiler has begun this recording meanwhile; give"
                    " another --out"
                ) from None
            raise WorkError(str(error)) from None
        self.close()
        self._lock = lock

    def _read(self) -> Recording:
        with inputs_noted():  # apart from the inputs, since this file is to be written again
            recording = load_recording(self.path)
        where = f"out={shown(str(self.path))}"
        if recording.model != self._model:
            raise InputError(f"{where}: is of another model than {shown(self._model.name)}")
        if recording.weights_seed != self._seed:
            raise InputError(
                f"{where}: weights_seed={recording.weights_seed}; weights are drawn from"
                f" {self._seed} now"
            )
        others = {run.backend for case in recording.cases for run in case.runs.values()}
        if others - {self._backend}:
            raise InputError(
                f"{where}: holds runs of the backend {', '.join(sorted(others))}; those of"
                f" {self._backend} need a file of their own"
            )
        return recording

    def _locked(self) -> int | None:
        """The locked file; the system releases it when this process ends. None: it does not exist.

        Its folder is made.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            while self.path.exists():
                lock = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.path.samestat(os.fstat(lock), self.path.stat()):
                        return lock
                except BaseException:
                    os.close(lock)
                    raise
                os.close(lock)  # of a text that its last holder has replaced since it was opened
        except BlockingIOError:
            raise WorkError(
                f"{self.path}: another profiler writes this recording; wait for it, or give"
                " another --out"
            ) from None
        except OSError as error:
            raise WorkError(f"{self.path}: cannot be written: {error.strerror}") from None
        return None
