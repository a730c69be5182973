"""Commands that write: killed, on a full disk, in a read-only folder, over what they read."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import output, refusal
from tests.costs.calibrations import write as write_calibration

pytestmark = pytest.mark.slow  # most tests start processes

ROOT = Path(__file__).parents[2]
MODEL = "olmoe-227m-1.2b"
OTHER = "ultramemv2-227m-1.2b"
REPORT = f"report {MODEL} --contents summary,operators --out"
WRITES = {  # file: command, to which the file is added
    "predict.csv": f"predict {MODEL} --csv",
    "compare.csv": f"compare {MODEL} {OTHER} --csv",
    "request.csv": f"request {MODEL} --prompt 9 --output 3 --csv",
    "match.csv": f"match {MODEL} --to {OTHER} --csv",
    "match.toml": f"match {MODEL} --to {OTHER} --out",
    "reproduce.csv": "reproduce --csv",
    "sweep.csv": f"sweep {MODEL} --batch 1,2,3 --csv",
    "sweep.json": f"sweep {MODEL} --batch 1,2,3 --out",
    "sweep.parquet": f"sweep {MODEL} --batch 1,2,3 --out",
    "validate.csv": f"validate h200-{MODEL} --csv",
    "report.html": REPORT,
    "report.json": REPORT,
    "report.xlsx": REPORT,
}
each_write = pytest.mark.parametrize("name", WRITES)
# All write through one class (test_every_writer.py): where nothing lies, one of each way it is used
each_place = pytest.mark.parametrize(
    ("name", "older"),
    [(name, True) for name in WRITES]
    + [(name, False) for name in ("predict.csv", "sweep.csv", "sweep.parquet")],
)

START = "from costmodel.cli.main import main; main()"
STALLED = f"""
import os, sys, time
def stall(_):  # when the content is written and has no name yet
    sys.stderr.write("writing\\n")
    time.sleep(3600)
os.fsync = stall
{START}
"""
FULL = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # of bytes of a file
{START}
"""
WITHOUT_PRIVILEGES = f"""
import ctypes
none = (ctypes.c_uint32 * 6)()  # no capability of root's, such as to write what is read-only
ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), none)
{START}
"""


def command(program: str, name: str, folder: Path, *options: str) -> list[str]:
    words = [*WRITES[name].split(), str(folder / name), *options]
    return [sys.executable, "-B", "-c", program, *words]


def done_by(
    program: str, name: str, folder: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    words = command(program, name, folder, *options)
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@each_place
def test_a_kill_while_it_writes_leaves_what_was_there(
    name: str, tmp_path: Path, *, older: bool
) -> None:
    path = tmp_path / name
    if older:
        path.write_text("old")
    running = subprocess.Popen(
        command(STALLED, name, tmp_path, "--force"), stderr=subprocess.PIPE, cwd=ROOT
    )
    assert running.stderr is not None
    with running.stderr as lines:
        assert lines.readline() == b"writing\n"
        running.kill()
        assert running.wait() == -signal.SIGKILL
    assert names(tmp_path) == [name] * older
    assert not older or path.read_text() == "old"


def test_a_kill_before_a_file_takes_the_name_of_another_leaves_the_older_one(
    tmp_path: Path,
) -> None:
    """Its hidden name, which Linux asks for, goes with the next write."""
    name, path = "predict.csv", tmp_path / "predict.csv"
    path.write_text("old")
    stalled = STALLED.replace("os.fsync = stall", "import pathlib; pathlib.Path.replace = stall")
    running = subprocess.Popen(
        command(stalled.replace("stall(_)", "stall(*_)"), name, tmp_path, "--force"),
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    assert running.stderr is not None
    with running.stderr as lines:
        assert lines.readline() == b"writing\n"
        running.kill()
        assert running.wait() == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(names(tmp_path)) == 2
    output(*WRITES[name].split(), str(path), "--force")
    assert names(tmp_path) == [name]


@each_write
def test_a_full_disk_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("old")
    done = done_by(FULL, name, tmp_path, "--force")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("cannot be written: File too large\n")
    assert (names(tmp_path), path.read_text()) == ([name], "old")


@each_place
def test_a_read_only_folder_is_told_in_one_line(name: str, tmp_path: Path, *, older: bool) -> None:
    if older:
        (tmp_path / name).write_text("old")
    tmp_path.chmod(0o555)
    done = done_by(WITHOUT_PRIVILEGES, name, tmp_path, "--force")
    tmp_path.chmod(0o755)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith(f"{name}': cannot be written: Permission denied\n")
    assert names(tmp_path) == [name] * older
    assert not older or (tmp_path / name).read_text() == "old"


@each_write
def test_an_older_file_is_replaced_only_if_asked(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    words = [*WRITES[name].split(), str(path)]
    path.write_text("old")
    assert refusal(*words).endswith(f"{name}': exists; --force replaces it")
    assert path.read_text() == "old"
    output(*words, "--force")
    assert path.read_bytes() != b"old"
    assert names(tmp_path) == [name]


def model_file(path: Path) -> None:
    output("match", MODEL, "--to", OTHER, "--out", str(path))


def test_no_input_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By --force, under its own name or through a link of the suffix that is asked for."""
    monkeypatch.chdir(tmp_path)
    model_file(Path("model.toml"))
    shutil.copy(next((ROOT / "tests" / "data" / "hf").glob("*.json")), "config.json")
    shutil.copy(ROOT / "costmodel/presets/hardware/h200.toml", "h200.toml")
    write_calibration(Path("calibration.json"))
    Path("routing.json").write_text(
        '{"schema_version": 1, "source": "by hand", "experts":'
        ' {"population": 64, "trials": 1, "draws": 8, "counts": [[0, 56], [1, 8]]}}'
    )
    texts = {path: path.read_bytes() for path in Path().iterdir()}
    for read, words in (
        ("model.toml", f"match {MODEL} --to model.toml --out"),
        ("model.toml", "predict model.toml --csv"),
        ("config.json", "report config.json --contents summary --out"),
        ("config.json", "sweep config.json --out"),
        ("h200.toml", f"predict {MODEL} --hardware h200.toml --calibration none --csv"),
        ("calibration.json", f"sweep {MODEL} --calibration calibration.json --out"),
        ("routing.json", "sweep olmoe-1b-7b --routing experts=routing.json,rows=uniform --out"),
        ("routing.json", "request olmoe-1b-7b --prompt 1 --output 2 --routing routing.json --csv"),
    ):
        link = Path("link.csv")
        link.symlink_to(read)
        hard = Path("hard.csv")
        hard.hardlink_to(read)
        suffix = Path(read).suffix
        own = [read] if words.endswith("--out") and suffix in {".toml", ".json"} else []
        tables = [] if suffix == ".toml" and own else [str(link), str(hard)]
        for out in (*own, *tables):
            told = refusal(*words.split(), out, "--force")
            assert "is an input of this command" in told, (words, out)
        link.unlink()
        hard.unlink()
    assert {path: path.read_bytes() for path in Path().iterdir()} == texts
