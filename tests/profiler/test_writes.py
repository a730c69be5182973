"""A recording and a calibration being written: a kill or a full disk keeps the older one."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from costmodel.inputs.output_file import OutputFile
from profiler.calibrate.file import write_calibration
from tests.profiler.calibrate.fake_cuda import done
from tests.profiler.session.profiles import workload
from tests.profiler.session.test_store import SESSION, begun, result

pytestmark = pytest.mark.slow  # each test starts a process

ROOT = Path(__file__).parents[2]
WRITES = {
    "recording": """
import sys
from pathlib import Path
from tests.profiler.session.profiles import workload
from tests.profiler.session.test_store import LATER, begun, result
with begun(Path(sys.argv[1]), resume=True, session=LATER) as store:
    trouble()
    store.add(workload(2), 8, "time", result(), LATER)
""",
    "calibration": """
import sys
from profiler.calibrate.file import calibration_file, write_calibration
from tests.profiler.calibrate.fake_cuda import done
made, file = done().calibration, calibration_file(sys.argv[1], force=True)
trouble()
write_calibration(made, file)
""",
}
STALL = """
import os, time
def trouble():
    os.fsync = lambda _: (print("writing", flush=True), time.sleep(3600))
"""
FULL = """
import resource
def trouble():
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
"""
each_kind = pytest.mark.parametrize("kind", WRITES)


def older(kind: str, path: Path) -> bytes:
    """An older file of this kind, at the path."""
    if kind == "calibration":
        write_calibration(done().calibration, OutputFile(path=path))
    else:
        with begun(path) as store:
            store.add(workload(), 7, "time", result(), SESSION)
    return path.read_bytes()


def started(kind: str, trouble: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-B", "-c", trouble + WRITES[kind], str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


@each_kind
def test_a_kill_while_it_is_written_leaves_the_older_one(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    before = older(kind, path)
    with started(kind, STALL, path) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "writing\n"
        running.kill()
    assert running.returncode == -signal.SIGKILL
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
    assert path.read_bytes() == before


@each_kind
def test_a_full_disk_leaves_the_older_one(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    before = older(kind, path)
    with started(kind, FULL, path) as running:
        told, error = running.communicate()
    assert "WorkError" in error  # which ends a command with exit code 1
    assert "a.json': cannot be written: File too large" in error
    assert bool(told) == (kind == "calibration")  # minutes of measuring are not lost
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
    assert path.read_bytes() == before
