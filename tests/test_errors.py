"""What a message tells users to type."""

import sys
from pathlib import Path

import pytest

from costmodel.errors import install_command


@pytest.mark.parametrize(
    ("python", "command"),
    [
        (".venv/bin/python", '.venv/bin/python -m pip install "sparsecost[gpu]"'),
        ("../elsewhere/python", 'python -m pip install "sparsecost[gpu]"'),
        ("/usr/bin/python3", 'python -m pip install "sparsecost[gpu]"'),
    ],
)
def test_the_python_of_a_clone_is_named_and_no_other(
    python: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / python))
    assert install_command("gpu") == command


def test_a_folder_that_is_gone_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert install_command("dashboard") == 'python -m pip install "sparsecost[dashboard]"'
