"""A worker process that takes and gives lines: how it is started, waited for and ended."""

import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from time import monotonic
from typing import IO, Self

from costmodel.inputs.files import MAX_FILE_BYTES
from profiler.instruments.redact import redacted

STOP_S = 5.0  # between SIGTERM and SIGKILL
STDERR_LINES = 3  # the last ones, which say why a process crashed
LINE_CHARACTERS = 1000
PR_SET_PDEATHSIG = 1  # prctl(2): send this process a signal when its parent dies


class WorkerLostError(Exception):
    """The worker crashed, or was ended after it broke the protocol; the message says why."""


class LineProcess:
    """One worker process; leaving the `with` block ends it.

    The worker has a process group of its own, so that Ctrl-C reaches only the profiler, which then
    ends the worker and all processes that it started.
    """

    def __init__(
        self, command: Sequence[str], *, timeout_s: float, ends_s: float | None = None
    ) -> None:
        """Start the process; `ends_s`, by `time.monotonic`, is when nothing is waited for more."""
        self._timeout_s, self._ends_s = timeout_s, inf if ends_s is None else ends_s
        self._process = subprocess.Popen(  # noqa: S603 - our own worker
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._stdin = process.stdin
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._stderr_lines: deque[str] = deque(maxlen=STDERR_LINES)
        self._readers = (
            threading.Thread(target=self._read_events, args=(process.stdout,), daemon=True),
            threading.Thread(target=self._read_stderr, args=(process.stderr,), daemon=True),
        )
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def write(self, line: bytes) -> None:
        """Send a line; a worker that is gone is noticed by the next `read`."""
        with suppress(BrokenPipeError):
            self._stdin.write(line)
            self._stdin.flush()

    def read(self) -> bytes | None:
        """Wait for the worker's next line; None once it is `ends_s`.

        Raises:
            WorkerLostError: The process ended, or sent nothing for `timeout_s`. It no longer runs.
        """
        left_s = self._ends_s - monotonic()
        if left_s <= 0:
            return None
        try:
            line = self._lines.get(timeout=min(self._timeout_s, left_s))
        except queue.Empty:
            if left_s < self._timeout_s:
                return None
            self.stop()
            raise WorkerLostError(f"gave no sign of life for {self._timeout_s:g} s") from None
        if not line:
            raise WorkerLostError(self._ending())
        return line

    def wait(self) -> None:
        """Wait a little for a process that has said that it ends: it frees its device."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)

    def stop(self) -> None:
        """End the process by SIGTERM, or after `STOP_S` by SIGKILL."""
        try:
            if self._process.poll() is None:
                self._signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        finally:  # also when Ctrl-C interrupts the wait
            if self._process.poll() is None:
                self._signal(signal.SIGKILL)
                self._process.wait()
        for reader in self._readers:
            reader.join(STOP_S)
        with suppress(BrokenPipeError):  # of a message that was never read
            self._stdin.close()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _ending(self) -> str:
        """How the process ended, and the last lines of its stderr."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        status = self._process.poll()
        self.stop()
        if status is None:
            how = "closed its output and went on"
        elif status < 0:
            how = f"was killed by {signal.Signals(-status).name}"
        else:
            how = f"ended with exit status {status}"
        words = redacted(" | ".join(self._stderr_lines))
        return f"{how}: {words}" if words else how

    def _read_events(self, stream: IO[bytes]) -> None:
        with stream:
            while line := stream.readline(MAX_FILE_BYTES):
                self._lines.put(line)
        self._lines.put(b"")

    def _read_stderr(self, stream: IO[bytes]) -> None:
        with stream:
            while line := stream.readline(LINE_CHARACTERS):
                text = line.decode(errors="replace").strip()
                if text:
                    self._stderr_lines.append(text)


def end_with_parent() -> None:
    """Have the system kill this process when its parent dies, even by SIGKILL (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
