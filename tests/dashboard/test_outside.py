"""The server asks nobody outside: not at its start, not where it refuses an origin."""

import os
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # a server is started

START_S, ANSWER_S = 300.0, 120.0  # limits, not waits
# Writes each host that is looked up or connected to. A UDP socket that is connected sends nothing:
# Streamlit learns this machine's own address so, from the route that it would take.
PROGRAM = """
import socket, sys
from pathlib import Path

log = Path(sys.argv.pop(1))

def hook(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and arguments[0].type == socket.SOCK_STREAM:
        host = arguments[1][0]
    else:
        return
    with log.open("a") as file:
        file.write(f"{host}\\n")

sys.addaudithook(hook)
from costmodel.cli.main import main
main()
"""
EVERYWHERE = "0.0.0.0"  # noqa: S104 - beyond localhost Streamlit asks at its start too
OWN = {"localhost", "127.0.0.1", EVERYWHERE, "::1", "None"}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def test_the_server_asks_nobody_outside(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    asked = tmp_path / "asked.txt"
    command = [sys.executable, "-c", PROGRAM, str(asked)]
    command += ["dashboard", "--address", EVERYWHERE, "--port", str(port), "--headless"]
    server = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(server, port)
        assert status(port, "/_stcore/stream", f"http://localhost:{port}") == 101
        assert status(port, "/_stcore/stream", "http://other.example") == 403
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(START_S)
    hosts = set(asked.read_text().split()) if asked.exists() else set()
    assert hosts <= OWN


def status(port: int, path: str, origin: str) -> int:
    """What the server answers to a page of this origin that asks for a connection."""
    connection = HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
    try:
        connection.request("GET", path, headers={**UPGRADE, "Origin": origin})
        return connection.getresponse().status
    finally:
        connection.close()


def wait_for(server: "subprocess.Popen[bytes]", port: int) -> None:
    """Until the server answers."""
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail("the server does not start")
