"""Reasons that go into a recording say nothing of who measured, and where."""

import getpass
import socket

import pytest

from profiler.instruments.redact import ROOT, redacted


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "alice")
    monkeypatch.setattr(socket, "gethostname", lambda: "node7")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            f'File "{ROOT}/profiler/session/run.py", line 3',
            'File "profiler/session/run.py", line 3',
        ),
        ('File "/home/alice/x y.py", line 3', 'File "[path] y.py", line 3'),
        ("cannot open '/scratch/bob/data.bin'.", "cannot open '[path]'."),
        ("cannot open ~/secret and ~bob/x", "cannot open [path] and ~bob/x"),
        ("Alice on node7: alices node77", "[user] on [host]: alices node77"),
        ("3 GB/s and/or 1 / 2, n/a", "3 GB/s and/or 1 / 2, n/a"),
        ("GPU-0d1e2f3a-0123-4567-89ab-0123456789ab is lost", "GPU-[id] is lost"),
        ("two\nlines\tand\x1b[31m", "two lines and [31m"),
        ("x" * 301, "x" * 297 + "..."),
        ("x" * 300, "x" * 300),
    ],
)
def test_a_reason(text: str, told: str) -> None:
    assert redacted(text) == told


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("uid not found: 1000")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert redacted("as it was") == "as it was"
