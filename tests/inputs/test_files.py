"""Reading files that nobody vouches for: what is read, and how the rest is refused."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.errors import InputError
from costmodel.inputs.files import (
    MAX_DEPTH,
    MAX_FILE_BYTES,
    MAX_TOML_BYTES,
    read_json_object,
    read_text,
    read_toml,
)
from tests.slowness import guarded

Reader = Callable[[Path], object]
READERS: list[Reader] = [read_text, read_toml, read_json_object]
EVERY = pytest.mark.parametrize("reader", READERS)


def refusal(reader: Reader, path: Path) -> str:
    with pytest.raises(InputError) as caught:
        reader(path)
    message = str(caught.value)
    assert message.startswith("file='")
    assert message.isprintable()
    return message


def toml(folder: Path, text: str | bytes) -> Path:
    path = folder / "a.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def json_file(folder: Path, text: str | bytes) -> Path:
    path = folder / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_what_is_right_is_read(tmp_path: Path) -> None:
    table = {"name": "ünï 漢字", "n": 2**70, "x": 1e-300, "flags": [True, {"a": []}]}
    text = (
        '{"name": "ünï 漢字", "n": 1180591620717411303424, "x": 1e-300, "flags": [true, {"a": []}]}'
    )
    assert read_json_object(json_file(tmp_path, text)) == table
    text = 'name = "ünï 漢字"\nn = 1180591620717411303424\nx = 1e-300\nflags = [true, {a = []}]\r\n'
    assert read_toml(toml(tmp_path, text)) == table
    assert read_text(toml(tmp_path, "")) == ""
    assert read_toml(toml(tmp_path, "")) == {}
    assert read_json_object(json_file(tmp_path, r'{"smile": "\ud83d\ude00"}')) == {"smile": "😀"}


@EVERY
@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("none.json", "does not exist"),
        ("none/none.json", "does not exist"),
        ("file/none.json", "does not exist"),
        ("broken", "does not exist"),
        ("loop", "does not exist"),
        ("folder", "is a directory; a file is expected"),
        (".", "is a directory; a file is expected"),
        ("fifo", "is not a regular file"),
        ("zero", "is not a regular file"),
        ("x" * 5000, "cannot be read: File name too long"),
        ("nul\0", "does not exist"),
        ("huge", "holds 50,000,000 bytes; at most 1"),  # of JSON 16 MiB, of TOML one
        ("latin", "is not UTF-8 text (byte 1)"),
        ("utf16", "is not UTF-8 text (byte 0)"),
        ("binary", "is not UTF-8 text (byte 128)"),
        ("surrogate", "is not UTF-8 text (byte 1)"),
    ],
)
def test_what_is_no_readable_text(tmp_path: Path, reader: Reader, name: str, rule: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "fifo")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(50_000_000)
    (tmp_path / "latin").write_bytes("aé".encode("latin-1"))
    (tmp_path / "utf16").write_bytes("a".encode("utf-16"))
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "surrogate").write_bytes(b"a\xed\xa0\x80")
    assert rule in refusal(reader, tmp_path / name)


def test_a_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"x" * MAX_FILE_BYTES)
    assert len(read_text(path)) == MAX_FILE_BYTES


def test_a_toml_file_is_bounded_by_how_slowly_it_is_read(tmp_path: Path) -> None:
    """16 MiB of it took 37 s."""
    path = tmp_path / "a.toml"
    path.write_text("#" * MAX_TOML_BYTES)
    assert read_toml(path) == {}
    path.write_text("#" * (MAX_TOML_BYTES + 1))
    assert "holds 1,048,577 bytes; at most 1,048,576 are read" in refusal(read_toml, path)


def test_names_cannot_break_the_message() -> None:
    message = refusal(read_toml, Path("a\x1b[31m\n[red]\udcff.toml"))
    assert r"\x1b[31m\n[red]\udcff" in message


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("a", "is not TOML: Expected '=' after a key"),
        ("a = ", "is not TOML: Invalid value"),
        ("a = 1\na = 2", "is not TOML: Cannot overwrite a value"),
        ("[a]\n[a]", "is not TOML: Cannot declare ('a',) twice"),
        ("a = 01", "is not TOML"),
        ("a = 'x", "is not TOML: Expected"),
        ("a = 1\0", "is not TOML"),
        ('a = "\\ud800"', "is not TOML"),
        ('a = "\x1b"', "is not TOML"),
        ("a = 1" + "0" * 5000, "is not TOML: Exceeds the limit (4300 digits)"),
        ("{}", "is not TOML"),
        (b"\x89PNG\r\n\x1a\n", "is not UTF-8 text (byte 0)"),
    ],
)
def test_what_is_no_toml(tmp_path: Path, text: str | bytes, rule: str) -> None:
    assert rule in refusal(read_toml, toml(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "is not JSON: Expecting value: line 1 column 1"),
        ("{", "is not JSON"),
        ("{'a': 1}", "is not JSON"),
        ('{"a": 1} x', "is not JSON: Extra data"),
        ('{"a": 1,}', "is not JSON"),
        ('{"a": "\x1b"}', "is not JSON: Invalid control character"),
        ("[]", "holds a list; an object is expected"),
        ("null", "holds a NoneType; an object is expected"),
        ('"x"', "holds a str; an object is expected"),
        ('{"a": NaN}', "number 'NaN' is not finite"),
        ('{"a": [-Infinity]}', "number '-Infinity' is not finite"),
        ('{"a": 1e400}', "number '1e400' is not finite"),
        ('{"a": -1e999}', "number '-1e999' is not finite"),
        ('{"a": 1' + "0" * 5000 + "}", "is not JSON: Exceeds the limit (4300 digits)"),
        ('{"a": 1, "a": 1}', "field 'a' stands twice in one object"),
        ('{"a": {"b\\n": 1, "b\\n": 2}}', r"field 'b\n' stands twice in one object"),
        (r'{"a": "x\ud800"}', r"""text '{"a": "x\ud800' ends in half a character"""),
        (r'{"\udfff": 1}', "ends in half a character"),
    ],
)
def test_what_is_no_json_object(tmp_path: Path, text: str, rule: str) -> None:
    assert rule in refusal(read_json_object, json_file(tmp_path, text))


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 1_000, 100_000])
@pytest.mark.parametrize(
    "text",
    [
        lambda n: "a = " + "[" * n + "]" * n,
        lambda n: "a = " + "{a = " * n + "1" + "}" * n,
        lambda n: ".".join("a" * (n + 1)) + " = 1",
        lambda n: " . ".join(["'a b'"] * (n + 1)) + " = 1",
        lambda n: "x = {" + ".".join(['"a"'] * (n + 1)) + " = 1}",
        lambda n: "[" + ".".join("a" * (n + 1)) + "]",
        lambda n: "[[" + ".".join(["a-b"] * (n + 1)) + "]]",
    ],
    ids=["lists", "tables", "dots", "quoted", "inline", "header", "headers"],
)
def test_toml_nested_too_deeply(tmp_path: Path, levels: int, text: Callable[[int], str]) -> None:
    with guarded(1.0):
        message = refusal(read_toml, toml(tmp_path, text(levels)))
    assert message.endswith(f"is nested deeper than {MAX_DEPTH} levels")


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 1_000, 100_000])
def test_json_nested_too_deeply(tmp_path: Path, levels: int) -> None:
    for opened, closed in (("[", "]"), ('{"a":', "}")):
        text = '{"a": ' + opened * levels + "1" + closed * levels + "}"
        message = refusal(read_json_object, json_file(tmp_path, text))
        assert message.endswith(f"is nested deeper than {MAX_DEPTH} levels")


def test_nesting_up_to_the_limit_is_read(tmp_path: Path) -> None:
    levels = MAX_DEPTH - 1
    brackets = "[" * levels + "]" * levels
    assert read_toml(toml(tmp_path, f"a = {brackets}"))
    assert read_json_object(json_file(tmp_path, f'{{"a": {brackets}}}'))
    assert read_toml(toml(tmp_path, ".".join("a" * levels) + " = 1"))
    dots = "One. Two. Three. v1.2.3.4, see a.b.c " * 40
    assert read_toml(toml(tmp_path, f'notes = "{dots}"  # {dots}\nx = [{"1.5, " * 100}]'))


@pytest.mark.parametrize("text", ["a='" + "x" * 2**23, 'a="' + "x." * 2**22, "'" * 2**22])
def test_large_nonsense_is_refused_in_time(tmp_path: Path, text: str) -> None:
    with guarded(2.5):
        refusal(read_toml, toml(tmp_path, text))


def test_a_fifo_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reading = threading.Thread(target=refusal, args=(read_text, tmp_path / "fifo"), daemon=True)
    reading.start()
    reading.join(timeout=120)  # a limit, not a wait
    assert not reading.is_alive()


LIKE_TOML = st.text(st.sampled_from("ab01=.[]{}\"'\n#,-_ \\u\x00é"), max_size=40)
LIKE_JSON = st.text(st.sampled_from('{}[]":,0123eE+-.\\untrufalsd \n'), max_size=40)


@given(st.one_of(st.binary(max_size=60), LIKE_TOML.map(str.encode), LIKE_JSON.map(str.encode)))
def test_any_bytes_give_a_table_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    path = toml(folder, content)
    for reader in (read_toml, read_json_object):
        table: Any = None
        try:
            table = reader(path)
        except InputError as error:
            assert str(error).isprintable()  # noqa: PT017
        else:
            assert isinstance(table, dict)
