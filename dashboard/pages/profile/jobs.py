"""A profile as a separate process: started, watched, cancelled.

The app never imports torch, and a crash of CUDA or a closed tab does not affect the server. Only
one process at a time can profile a GPU, so the server runs one job. It belongs to the session that
started it: who holds its token sees the log and may cancel it, everybody sees that it runs.
"""

import hashlib
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

from costmodel.errors import InputError, shown
from costmodel.inputs.model_toml import model_toml
from dashboard.app.given_file import disk_refusals_told
from dashboard.app.own_model import read_model

LINES = 400  # of the log that are kept
WIDTH = 48  # characters of a line of a command on a narrow page
KEPT_JOBS = 8  # the latest, with their logs
TOKEN_BYTES = 16
GRACE_S = 10.0  # between an interrupt and a kill
DONE = re.compile(r"^\[(?P<done>\d+)/(?P<total>\d+)\] (?P<what>.*)$")
LACKING = re.compile(r"^\[\d+/\d+\] .*: lacking, ")  # a run that this machine cannot make
LEFT = re.compile(r"about (?P<seconds>\d+) s left$")
# A server that a script put into the background ignores Ctrl-C, and its children inherit that
PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    " from costmodel.cli.main import main; main()"
)
TERMINAL = ("FORCE_COLOR", "TTY_COMPATIBLE")  # rich would draw a bar in place of lines
FILE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,80}\.json", re.ASCII)

State = Literal["running", "done", "cancelled", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is, by the lines that it has printed."""

    state: State
    done: int  # runs of cases, measured or lacking
    lacking: int  # of them, those that could not be measured
    total: int
    left_s: float | None
    last: str  # line printed
    elapsed_s: float
    exit_code: int | None


@dataclass(slots=True)
class Job:
    """One process and the lines that it prints."""

    arguments: tuple[str, ...]  # after `sparsecost`
    out: Path
    process: "subprocess.Popen[str]"
    token: str = field(default_factory=lambda: secrets.token_urlsafe(TOKEN_BYTES))
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_s: float = field(default_factory=time.monotonic)
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))
    cancelled: bool = False
    lacking: int = 0  # runs that could not be measured, of all lines
    ended_s: float | None = None
    finished: threading.Event = field(default_factory=threading.Event)  # all lines are read

    @property
    def command(self) -> str:
        """The command that a user would type for the same, in one or several lines."""
        return command_line(self.arguments)

    def cancel(self) -> None:
        """Interrupt the process as Ctrl-C does; after `GRACE_S` kill it. Measured cases stay."""
        if self.process.poll() is None:
            self.cancelled = True
            self.process.send_signal(signal.SIGINT)
            timer = threading.Timer(GRACE_S, self._kill)
            timer.daemon = True
            timer.start()

    def _kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()

    def progress(self) -> Progress:
        """How far the job is now."""
        code = self.process.poll()
        if code is not None and self.ended_s is None:
            self.ended_s = time.monotonic()
        return progress(
            tuple(self.lines),
            lacking=self.lacking,
            exit_code=code,
            cancelled=self.cancelled,
            elapsed_s=(self.ended_s or time.monotonic()) - self.started_s,
        )


def progress(
    lines: Sequence[str],
    *,
    lacking: int = 0,
    exit_code: int | None,
    cancelled: bool,
    elapsed_s: float,
) -> Progress:
    """How far a profile is, by the lines that it has printed; `exit_code` None: it runs.

    `lacking` is counted by `is_lacking` of every line, since the first of many are not kept.
    """
    done, total, left_s = 0, 0, None
    for line in lines:
        counter = DONE.match(line)
        if counter:
            done, total = int(counter["done"]), int(counter["total"])
            left = LEFT.search(line)
            left_s = float(left["seconds"]) if left else left_s
    state: State = "running"
    if exit_code is not None:
        state = "done" if exit_code == 0 else "cancelled" if cancelled else "failed"
    return Progress(
        state=state,
        done=done,
        lacking=lacking,
        total=total,
        left_s=left_s,
        last=lines[-1] if lines else "",
        elapsed_s=elapsed_s,
        exit_code=exit_code,
    )


def is_lacking(line: str) -> bool:
    """Whether a line of the profiler says that a run of a case could not be measured."""
    return LACKING.match(line) is not None


def finished_words(progress: Progress) -> str:
    """How many runs of cases were measured, and how many could not be: `2 of 8, 6 lacking`."""
    if not progress.total:
        return "none yet"
    measured = f"{progress.done - progress.lacking:,} of {progress.total:,}"
    return f"{measured}, {progress.lacking:,} lacking" if progress.lacking else measured


class Jobs:
    """The server's jobs, of which one at a time runs, and the files of the users' own models."""

    def __init__(self, command: Sequence[str] = (sys.executable, "-c", PROGRAM)) -> None:
        self._command, self._lock = tuple(command), threading.Lock()
        self._latest: deque[Job] = deque(maxlen=KEPT_JOBS)

    @cached_property
    def _folder(self) -> Path:
        """Where the models' files lie: a folder of this user alone, as long as the server runs."""
        made = Path(tempfile.mkdtemp(prefix="sparsecost-"))
        weakref.finalize(self, shutil.rmtree, made, ignore_errors=True)
        return made

    @property
    def current(self) -> Job | None:
        """The job that was started last, running or not."""
        return self._latest[-1] if self._latest else None

    def of(self, tokens: Collection[str]) -> Job | None:
        """The latest job that has one of these tokens; None: all others belong to somebody else."""
        held = [token.encode() for token in tokens]
        for job in reversed(self._latest):
            if any(secrets.compare_digest(job.token.encode(), token) for token in held):
                return job
        return None

    def model_file(self, text: str) -> Path:
        """The file of a model that a user pasted, for the command line to read.

        The app takes JSON with the fields of our TOML, which the command line does not: such JSON
        is written as TOML where TOML can express it.

        Raises:
            InputError: The text is no valid model, or the disk refuses its file.
        """
        suffix = ".json" if text.lstrip().startswith("{") else ".toml"
        model = read_model(text)
        if suffix == ".json":
            with suppress(InputError):
                text, suffix = model_toml(model), ".toml"
        name = f"{hashlib.sha256(text.encode()).hexdigest()[:16]}{suffix}"
        with self._lock, disk_refusals_told("model"):
            path = self._folder / name
            if not path.exists():  # else a profile may be reading it
                try:
                    path.write_text(text, encoding="utf-8")
                except OSError:
                    path.unlink(missing_ok=True)  # a part of the text
                    raise
        return path

    def start(self, arguments: Sequence[str], out: Path) -> Job:
        """Start `sparsecost ARGUMENTS`, which writes `out`.

        Raises:
            InputError: A job is running, or the file's folder cannot be made.
        """
        with self._lock:
            if self.current is not None and self.current.process.poll() is None:
                raise InputError(
                    "profile: one is running on this machine; wait for it or cancel it"
                )
            try:
                out.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"out={shown(str(out))}: {error.strerror}") from None
            process = subprocess.Popen(  # noqa: S603 - our own command; arguments are checked
                [*self._command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={name: value for name, value in os.environ.items() if name not in TERMINAL},
                start_new_session=True,  # Ctrl-C at the server's terminal does not reach it
            )
            job = Job(tuple(arguments), out, process)
            threading.Thread(target=_read, args=(job,), daemon=True).start()
            self._latest.append(job)
            return job


def _read(job: Job) -> None:
    assert job.process.stdout is not None
    with job.process.stdout as output:
        for line in output:
            job.lines.append(line.rstrip("\n"))
            job.lacking += is_lacking(line)
    job.process.wait()
    job.finished.set()


def command_line(arguments: Sequence[str]) -> str:
    """The command as it is typed in a shell, broken into lines of `WIDTH` characters if possible.

    Lines are broken between options, never within one.
    """
    options = ["sparsecost"]  # each with its values
    for word in map(shlex.quote, arguments):
        if word.startswith("--"):
            options.append(word)
        else:
            options[-1] += f" {word}"
    lines = options[:1]
    for option in options[1:]:
        if len(f"{lines[-1]} {option}") <= WIDTH:
            lines[-1] += f" {option}"
        else:
            lines.append(f"  {option}")
    return " \\\n".join(lines)


def recording_path(folder: Path, name: str) -> Path:
    """A recording's file within a folder.

    Raises:
        InputError: The name is not that of a JSON file directly in the folder.
    """
    if not FILE_NAME.fullmatch(name) or ".." in name:
        raise InputError(
            f"out={shown(name)}: is a file name of a-z, 0-9, '.', '_' and '-' that ends in .json"
        )
    return folder / name
