"""No command writes past the tests of `test_writes`; two commands at once write one whole file."""

import ast
import inspect
import os
from importlib.metadata import entry_points
from pathlib import Path
from typing import get_args

import pytest

from costmodel.cli.app import COMMANDS
from costmodel.cli.plugins import ENTRY_POINTS
from tests.cli.test_writes import ROOT, WRITES, names
from tests.commands import Done, run

ROOMS = ("costmodel", "dashboard", "profiler", "reference_model")
MEASURES = {("profile", "out"), ("calibrate", "out")}  # written in `tests/profiler/test_writes.py`
READ = {("validate", "recordings"), ("report", "recording")}
NAMES_FILES = ("PATH", "FILE", ".json", ".toml", ".csv")  # in the metavar of an option
WRITERS = {  # what is no output of a command, and so needs no writer of whole files
    "costmodel/cli/app.py": "os.devnull in place of a closed stdout",
    "costmodel/inputs/output_file.py": "the writer itself",
    "costmodel/inputs/other_files.py": "reads",
    "dashboard/app/given_file.py": "a text or an upload in a temporary folder, for the readers",
    "dashboard/pages/profile/jobs.py": "a model in the server's temporary folder, for the profiler",
    "profiler/calibrate/leaves/command.py": "the file and its journal are checked by its own tests",
    "profiler/calibrate/leaves/fit_file.py": "a preset, by the developer who runs it",
    "profiler/calibrate/leaves/journal.py": "appends events to the journal",
    "profiler/calibrate/leaves/shapes.py": "reads the list of shapes",
    "profiler/calibrate/leaves/worker.py": "a pipe to the command",
    "profiler/runs/cpu.py": "a counter of the kernel's in /proc",
    "profiler/session/store.py": "opens the recording to lock it",
    "profiler/session/worker.py": "a pipe to the profiler",
}


def test_each_option_that_names_a_file_to_write_is_tested() -> None:
    """A new one fails here until a command with it stands in `WRITES`."""
    tested = {(words.split()[0], words.split()[-1].lstrip("-")) for words in WRITES.values()}
    commands = [command for command, _ in COMMANDS]
    commands += [entry.load() for entry in entry_points(group=ENTRY_POINTS)]
    found = set()
    for command in commands:
        for name, parameter in inspect.signature(command).parameters.items():
            kind, *given = get_args(parameter.annotation) or (parameter.annotation,)
            metavar = str(getattr(given[0], "metavar", "")) if given else ""
            if "Path" in str(kind) or any(part in metavar for part in NAMES_FILES):
                found.add((command.__name__, name))
    assert found - READ == tested | MEASURES


def test_nothing_else_opens_a_file_to_write() -> None:
    """A new place uses `OutputFile`, or stands in `WRITERS` with its reason."""
    names_of_writers = {"write_text", "write_bytes", "open", "fdopen", "touch", "mkstemp"}
    found = set()
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    called = getattr(node.func, "attr", getattr(node.func, "id", None))
                    if called in names_of_writers:
                        found.add(str(path.relative_to(ROOT)))
    assert found == set(WRITERS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "force"), [*((name, False) for name in WRITES), ("predict.csv", True)]
)
def test_two_commands_at_once_write_one_whole_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, force: bool
) -> None:
    """The second one writes while the first has its content on the disk, and no name for it yet."""
    words = [*WRITES[name].split(), str(tmp_path / name), *(["--force"] if force else [])]
    flush, second = os.fsync, list[Done]()

    def meanwhile(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", flush)
        second.append(run(*words))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", meanwhile)
    first = run(*words)
    assert [done.code for done in second] == [0]
    written = (tmp_path / name).read_bytes()
    assert written
    assert names(tmp_path) == [name]
    if force:
        assert (first.code, first.err) == (0, second[0].err)
    else:
        assert (first.code, first.out) == (2, "")
        assert first.err.endswith(f"{name}': exists; --force replaces it\n")
