"""A worker process as the profiler sees it: orders go in, events come out."""

import sys

from costmodel.errors import InputError
from profiler.instruments.process import LineProcess, WorkerLostError
from profiler.session.protocol import End, Event, Setup, Work, decoded_event, encoded

# -P: no module of the current folder is imported
WORKER = (sys.executable, "-P", "-m", "profiler.session.worker")


class Child(LineProcess):
    """One worker process, which speaks `profiler.session.protocol`."""

    def send(self, message: Setup | Work) -> None:
        """Send a message; a worker that is gone is noticed by the next `receive`."""
        self.write(encoded(message))

    def receive(self) -> Event | None:
        """Wait for the worker's next event; None once it is `ends_s`.

        Raises:
            WorkerLostError: The process ended, sent nothing for `timeout_s`, or sent a line that is
                no event. It no longer runs.
        """
        line = self.read()
        if line is None:
            return None
        try:
            event = decoded_event(line)
        except InputError as error:
            self.stop()
            raise WorkerLostError(f"said what is no event: {error}") from None
        if isinstance(event, End):
            self.wait()
        return event
