"""Writing files: a name holds the old file or the complete new one, and no temporary stays."""

from collections.abc import Callable
from pathlib import Path

import pytest

from costmodel.errors import InputError
from costmodel.inputs import files
from costmodel.inputs.files import write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def half(path: Path) -> None:
    path.write_text("half")
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("content", ["é\n", "é\n".encode(), lambda path: path.write_text("é\n")])
def test_text_bytes_or_a_function_is_written_whole(
    tmp_path: Path, content: str | bytes | Callable[[Path], None]
) -> None:
    path = tmp_path / "a.txt"
    for durable in (False, True):
        write_atomically(path, content, durable=durable)
        assert path.read_bytes() == b"\xc3\xa9\n"
        assert names(tmp_path) == ["a.txt"]
        path.write_text("an older and longer file")


def test_the_name_holds_the_old_file_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def look(temporary: Path) -> None:
        assert temporary.parent == tmp_path  # of the same file system, or it could not replace
        temporary.write_text("new")
        assert path.read_text() == "old"

    write_atomically(path, look)
    assert path.read_text() == "new"


@pytest.mark.parametrize("older", [True, False])
def test_a_write_that_fails_changes_nothing(tmp_path: Path, older: bool) -> None:  # noqa: FBT001
    path = tmp_path / "a.txt"
    if older:
        path.write_text("old")
    with pytest.raises(InputError, match=r"^out='.*a\.txt': cannot be written: No space left"):
        write_atomically(path, half, field="out")
    with pytest.raises(InputError, match=r"^file='.*a\.txt': cannot be written: 'utf-8' codec"):
        write_atomically(path, "\ud800")
    assert names(tmp_path) == ["a.txt"] * older
    assert not older or path.read_text() == "old"


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), MemoryError(), InputError("a rule")])
def test_what_interrupts_a_write_passes_through_and_leaves_nothing(
    tmp_path: Path, failure: BaseException
) -> None:
    def interrupted(path: Path) -> None:
        path.write_text("half")
        raise failure

    with pytest.raises(type(failure)) as caught:
        write_atomically(tmp_path / "a.txt", interrupted)
    assert caught.value is failure
    assert names(tmp_path) == []


def test_a_folder_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match="a': cannot be written: is a directory"):
        write_atomically(tmp_path / "a", "text")
    with pytest.raises(InputError, match="cannot be written: No such file or directory"):
        write_atomically(tmp_path / "none" / "a", "text")
    assert names(tmp_path) == ["a"]


def test_a_temporary_file_of_a_given_name_replaces_what_a_kill_left(tmp_path: Path) -> None:
    (tmp_path / ".a.new").write_text("half of a longer file")
    write_atomically(tmp_path / "a", "whole", temporary=tmp_path / ".a.new")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "whole"


def test_a_durable_write_flushes_the_content_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[Path, bool]] = []
    path = tmp_path / "a"
    monkeypatch.setattr(
        files, "_flush_to_disk", lambda place: flushed.append((place, path.exists()))
    )
    write_atomically(path, "text", durable=True, temporary=tmp_path / ".a.new")
    assert flushed == [(tmp_path / ".a.new", False), (tmp_path, True)]
