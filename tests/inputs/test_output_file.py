"""Writing files: a name holds the old file or the complete new one, and nothing else is left."""

import errno
import fcntl
import os
import re
import stat
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import pytest

from costmodel.errors import InputError, WorkError
from costmodel.inputs.files import inputs_noted, read_text
from costmodel.inputs.output_file import Content, OutputFile

FULL = OSError(errno.ENOSPC, "No space left on device")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refusals(out: OutputFile) -> tuple[str, str]:
    """What is said before the work, and what instead of writing."""
    with pytest.raises(InputError) as before:
        out.check()
    with pytest.raises(InputError) as instead:
        out.write("new")
    return str(before.value), str(instead.value)


@pytest.fixture(params=["unnamed", "named", "no links"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With unnamed files as on Linux; without; without hard links, too."""
    if request.param != "unnamed":
        monkeypatch.delattr(os, "O_TMPFILE")
    if request.param == "no links":

        def no_links(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", no_links)


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("content", ["é\n", "é\n".encode(), lambda file: file.write(b"\xc3\xa9\n")])
def test_text_bytes_or_what_a_function_writes_is_written_whole(
    tmp_path: Path, content: Content
) -> None:
    path = tmp_path / "a.txt"
    OutputFile(path=path).write(content)
    assert path.read_bytes() == b"\xc3\xa9\n"
    path.write_text("an older and longer file")
    OutputFile(path=path, force=True).write(content)
    assert path.read_bytes() == b"\xc3\xa9\n"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.usefixtures("system")
def test_an_older_file_stays_without_force(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    out = OutputFile(path=path, field="csv")
    for refused in refusals(out):
        assert re.fullmatch(r"csv='.*a\.txt': exists; --force replaces it", refused)
    assert (names(tmp_path), path.read_text()) == (["a.txt"], "old")


@pytest.mark.usefixtures("system")
def test_a_file_that_another_made_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    def slow(file: BinaryIO) -> None:
        file.write(b"ours")
        path.write_text("theirs")

    with pytest.raises(InputError, match="exists; --force replaces it"):
        OutputFile(path=path).write(slow)
    assert (names(tmp_path), path.read_text()) == (["a.txt"], "theirs")


@pytest.mark.usefixtures("system")
def test_a_file_that_another_made_meanwhile_is_replaced_with_force(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    def slow(file: BinaryIO) -> None:
        file.write(b"ours")
        path.write_text("theirs")
        path.chmod(0o640)

    OutputFile(path=path, force=True).write(slow)
    assert (names(tmp_path), path.read_text()) == (["a.txt"], "ours")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.usefixtures("system")
def test_the_name_holds_the_old_file_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def look(file: BinaryIO) -> None:
        file.write(b"new")
        assert path.read_text() == "old"

    OutputFile(path=path, force=True).write(look)
    assert path.read_text() == "new"


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("force", [False, True])
def test_of_two_writers_at_once_one_wins_whole(tmp_path: Path, *, force: bool) -> None:
    """Both have written all content before either gives it a name."""
    path, meet = tmp_path / "a.txt", threading.Barrier(2)
    refused: list[str] = []

    def writer(letter: bytes) -> None:
        def content(file: BinaryIO) -> None:
            file.write(letter * 100_000)
            meet.wait(10)

        try:
            OutputFile(path=path, force=force).write(content)
        except InputError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=writer, args=(letter,)) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in {b"a" * 100_000, b"b" * 100_000}
    assert len(refused) == (0 if force else 1)
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("older", [True, False])
def test_a_full_disk_changes_nothing_and_is_a_failure_of_the_work(
    tmp_path: Path, *, older: bool
) -> None:
    path = tmp_path / "a.txt"
    if older:
        path.write_text("old")

    def half(file: BinaryIO) -> None:
        file.write(b"half")
        raise FULL

    with pytest.raises(WorkError, match=r"^out='.*a\.txt': cannot be written: No space left"):
        OutputFile(path=path, force=True).write(half)
    with pytest.raises(InputError, match=r"a\.txt': cannot be written: 'utf-8' codec"):
        OutputFile(path=path, force=True).write("\ud800")
    assert names(tmp_path) == ["a.txt"] * older
    assert not older or path.read_text() == "old"


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("failure", [KeyboardInterrupt(), MemoryError(), InputError("a rule")])
def test_what_interrupts_a_write_passes_through_and_leaves_nothing(
    tmp_path: Path, failure: BaseException
) -> None:
    def interrupted(file: BinaryIO) -> None:
        file.write(b"half")
        raise failure

    with pytest.raises(type(failure)) as caught:
        OutputFile(path=tmp_path / "a.txt").write(interrupted)
    assert caught.value is failure
    assert names(tmp_path) == []


@pytest.mark.usefixtures("system")
def test_the_mode_is_the_usual_one_or_that_of_the_older_file(tmp_path: Path) -> None:
    usual, new, older = (tmp_path / name for name in ("usual", "new", "older"))
    usual.touch()
    OutputFile(path=new).write("text")
    assert new.stat().st_mode == usual.stat().st_mode
    older.touch()
    older.chmod(0o640)
    OutputFile(path=older, force=True).write("text")
    assert stat.S_IMODE(older.stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_the_owner_is_that_of_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.touch()
    os.chown(path, 1234, 2345)
    OutputFile(path=path, force=True).write("text")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 2345)


@pytest.mark.usefixtures("system")
def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    link = tmp_path / "a.txt"
    link.symlink_to("elsewhere/b.txt")
    OutputFile(path=link).write("first")
    with pytest.raises(InputError, match=r"a\.txt': exists"):
        OutputFile(path=link).write("second")
    OutputFile(path=link, force=True).write("third")
    assert link.is_symlink()
    assert (folder / "b.txt").read_text() == "third"
    assert (names(tmp_path), names(folder)) == (["a.txt", "elsewhere"], ["b.txt"])


@pytest.mark.parametrize("how", ["itself", "a link", "a hard link", "a path with .."])
def test_what_the_command_reads_is_not_written_over(tmp_path: Path, how: str) -> None:
    read, out = tmp_path / "model.toml", tmp_path / "out.toml"
    read.write_text("model")
    if how == "itself":
        out = read
    elif how == "a link":
        out.symlink_to(read)
    elif how == "a hard link":
        out.hardlink_to(read)
    else:
        out = tmp_path / ".." / tmp_path.name / "model.toml"
    with inputs_noted():
        read_text(read)
        with pytest.raises(InputError, match=r"toml': is an input of this command"):
            OutputFile(path=out, force=True).write("new")
    assert read.read_text() == "model"
    OutputFile(path=out, force=True).write("new")  # of another command
    assert out.read_text() == "new"


def test_an_input_that_was_replaced_since_it_was_read_is_still_one(tmp_path: Path) -> None:
    path, newer = tmp_path / "a.json", tmp_path / "newer"
    path.write_text("read")
    with inputs_noted():
        read_text(path)
        newer.write_text("newer")
        newer.replace(path)
        with pytest.raises(InputError, match="is an input of this command"):
            OutputFile(path=path, force=True).write("new")


@pytest.mark.parametrize("force", [False, True])
def test_paths_that_break_a_rule_are_mistakes(tmp_path: Path, *, force: bool) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "read-only").touch()
    (tmp_path / "read-only").chmod(0o444)
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    before = names(tmp_path)
    for name, rule in (
        ("folder", "is a directory"),
        ("fifo", "is not a regular file"),
        ("loop", "Too many levels of symbolic links"),
        ("none/a", "No such file or directory"),
        ("file/a", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("nul\0", "embedded null byte"),
        ("read-only", "the file is read-only" if force else "exists; --force replaces it"),
    ):
        out = OutputFile(path=tmp_path / name, force=force)
        for refused in refusals(out):
            assert refused.startswith("out='"), name
            assert refused.endswith(rule), name
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    ("flags", "reason"), [(0, "Permission denied"), (os.ST_RDONLY, "Read-only file system")]
)
@pytest.mark.parametrize("older", [True, False])
def test_what_the_system_forbids_is_a_failure_of_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: int, reason: str, *, older: bool
) -> None:
    """Told before the work."""
    path = tmp_path / "a.txt"
    if older:
        path.touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=flags))
    with pytest.raises(WorkError, match=rf"a\.txt': cannot be written: {reason}$"):
        OutputFile(path=path, force=True).check()


def test_a_suffix_may_be_asked_for(tmp_path: Path) -> None:
    out = OutputFile(path=tmp_path / "a.TXT")
    out.check(".txt")
    out.check(".md", ".txt")
    with pytest.raises(InputError, match=r"a\.TXT': ends in \.md$"):
        out.check(".md")
    with pytest.raises(InputError, match=r"a\.TXT': ends in one of \.md, \.csv$"):
        out.check(".md", ".csv")


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    for force in (False, True):
        OutputFile(path=path, force=force).write("text")
    assert names(tmp_path) == ["x" * 255]


def test_the_next_write_removes_what_a_kill_left_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer in the folder is at work, on a system without unnamed files."""
    (tmp_path / ".sparsecost-0123456789abcdef.part").touch()
    (tmp_path / ".other.part").touch()

    def meanwhile(_: BinaryIO) -> None:
        (at_work,) = tmp_path.glob(".sparsecost-*.part")  # ours
        OutputFile(path=tmp_path / "b.txt").write("text")
        assert names(tmp_path) == [".other.part", at_work.name, "b.txt"]

    monkeypatch.delattr(os, "O_TMPFILE")
    OutputFile(path=tmp_path / "a.txt").write(meanwhile)
    assert names(tmp_path) == [".other.part", "a.txt", "b.txt"]


def test_a_named_file_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, sweeps = fcntl.flock, iter((True, False, False))

    def swept_first(descriptor: int, how: int) -> None:
        if next(sweeps):
            (part,) = tmp_path.glob(".sparsecost-*.part")
            part.unlink()
        flock(descriptor, how)

    monkeypatch.delattr(os, "O_TMPFILE")
    monkeypatch.setattr(fcntl, "flock", swept_first)
    OutputFile(path=tmp_path / "a.txt").write("text")
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "text"


def test_the_content_is_on_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, fsync = tmp_path / "a", os.fsync
    flushed: list[tuple[str, bool]] = []

    def noted(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        flushed.append((kind, path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    OutputFile(path=path).write("text")
    assert flushed == [("file", False), ("folder", True)]
