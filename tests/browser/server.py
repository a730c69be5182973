"""The dashboard as a process of its own, started by its launcher as on a fresh machine."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.commands import SPARSECOST

START_S, STOP_S = 300.0, 60.0  # limits, not waits
SESSION_S = 120  # Streamlit's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running dashboard."""

    url: str
    pid: int
    recordings: Path  # of the user's own, to which profiles are written
    log: Path

    def rss_bytes(self) -> int:
        """The memory that the process holds (Linux)."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_s(self) -> float:
        """The processor time that the process has had (Linux)."""
        after_name = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def serving(
    folder: Path, sparsecost: Path = SPARSECOST, *, session_s: int = SESSION_S
) -> Iterator[Server]:
    """A dashboard within `folder`, without settings of a user; it ends with the block.

    `sparsecost` is the command that starts it, of another environment if need be. The session of a
    closed tab is kept for `session_s`.
    """
    recordings = folder / "recordings"
    home = folder / "home"
    home.mkdir()
    port, log = free_port(), folder / "server.log"
    environment = {**os.environ, "HOME": str(home)}
    environment["STREAMLIT_SERVER_DISCONNECTED_SESSION_TTL"] = str(session_s)
    environment.pop("SPARSECOST_RECORDINGS", None)  # own ones are where it is started
    with log.open("w") as out:
        process = subprocess.Popen(
            [sparsecost, "dashboard", "--port", str(port), "--headless"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    url = f"http://localhost:{port}"
    try:
        _wait(process, f"{url}/_stcore/health", log)
        yield Server(url=url, pid=process.pid, recordings=recordings, log=log)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", health: str, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urlopen(health, timeout=10) as answer:  # noqa: S310 - our own server
                if answer.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.05)
    raise AssertionError(f"the dashboard does not answer: {log.read_text()}")
