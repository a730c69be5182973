"""A worker process as its profiler holds it: lines in, events out, and how it came to its end."""

import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Self

from costmodel.errors import InputError
from costmodel.inputs.files import MAX_FILE_BYTES
from profiler.instruments.redact import anonymous
from profiler.session.protocol import End, Event, Setup, Work, decoded_event, encoded

WORKER = (
    sys.executable,
    "-P",
    "-m",
    "profiler.session.worker",
)  # -P: no module of the current folder
STOP_S = 5.0  # from the request to end to the kill
STDERR_LINES = 3  # of the last ones: the last words of a process that crashed
LINE_CHARACTERS = 1000


class LostError(Exception):
    """The worker is gone, or was ended because it could not be trusted; the message says why."""


class Child:
    """One worker, from its start to its end; leaving the `with` block ends it.

    It has a process group of its own, so that Ctrl-C reaches the profiler alone, which then ends
    the worker and whatever the worker started.
    """

    def __init__(self, command: Sequence[str], *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
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
        self._last_words: deque[str] = deque(maxlen=STDERR_LINES)
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

    def send(self, message: Setup | Work) -> None:
        """Give an order; that nobody takes it is seen when the answer is read."""
        with suppress(BrokenPipeError):
            self._stdin.write(encoded(message))
            self._stdin.flush()

    def receive(self) -> Event:
        """The next event.

        Raises:
            LostError: There is none: the process ended, said nothing for too long, or said
                something that is no event. It is no longer there.
        """
        try:
            line = self._lines.get(timeout=self._timeout_s)
        except queue.Empty:
            self.stop()
            raise LostError(f"gave no sign of life for {self._timeout_s:g} s") from None
        if not line:
            raise LostError(self._ending())
        try:
            event = decoded_event(line)
        except InputError as error:
            self.stop()
            raise LostError(f"said what is no event: {error}") from None
        if isinstance(event, End):  # it lets go of its device
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        return event

    def stop(self) -> None:
        """End it: politely, then not."""
        try:
            if self._process.poll() is None:
                self._signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        finally:  # also when Ctrl-C comes while waiting
            if self._process.poll() is None:
                self._signal(signal.SIGKILL)
                self._process.wait()
        for reader in self._readers:
            reader.join(STOP_S)
        with suppress(BrokenPipeError):  # of an order that nobody took
            self._stdin.close()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _ending(self) -> str:
        """How the process ended, and its last words."""
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
        words = anonymous(" | ".join(self._last_words))
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
                    self._last_words.append(text)
