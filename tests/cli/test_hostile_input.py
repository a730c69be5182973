"""Files and names that nobody means well with, and random damage to good ones."""

import copy
import json
import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel.costs.predict import predict
from costmodel.errors import InputError
from costmodel.inputs.catalog import FOLDER, load_model, model_names
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.model import model_from_table
from costmodel.inputs.workload import Workload
from costmodel.show.prediction_json import prediction_json
from tests.commands import SPARSECOST, output, refusal, run

NAME = "olmoe-227m-1.2b"
ODD_FILES = {
    "fifo": "is not a regular file",
    "zero": "is not a regular file",
    "broken": "does not exist",
    "loop": "does not exist",
    "folder": "is a directory",
    "huge": "holds 50,000,000 bytes; at most ",
    "binary": "is not UTF-8 text (byte 128)",
    "utf16": "is not UTF-8 text (byte 0)",
    "empty": "is ",
    "deep": "is nested deeper than 32 levels",
    "dots": "is ",
}


@pytest.fixture
def odd_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for ending in ("toml", "json"):
        os.mkfifo(f"fifo.{ending}")
        Path(f"zero.{ending}").symlink_to("/dev/zero")
        Path(f"broken.{ending}").symlink_to("nowhere")
        Path(f"loop.{ending}").symlink_to(f"loop.{ending}")
        Path(f"folder.{ending}").mkdir()
        Path(f"binary.{ending}").write_bytes(bytes(range(256)))
        Path(f"utf16.{ending}").write_bytes("a".encode("utf-16"))
        Path(f"empty.{ending}").touch()
        Path(f"dots.{ending}").write_text(".".join("a" * 100_000) + " = 1")
        with Path(f"huge.{ending}").open("wb") as file:
            file.truncate(50_000_000)
    Path("deep.toml").write_text("a = " + "[" * 100_000)
    Path("deep.json").write_text('{"a":' * 100_000)


@pytest.mark.usefixtures("odd_files")
@pytest.mark.parametrize(("name", "rule"), ODD_FILES.items())
def test_odd_files_are_refused_wherever_they_are_given(name: str, rule: str) -> None:
    toml, text = f"{name}.toml", f"{name}.json"
    empty = "name: is missing" if name == "empty" else rule
    assert empty in refusal("predict", toml)
    assert empty in refusal("models", f"./{toml}")
    assert rule in refusal("predict", text)
    assert rule in refusal("predict", NAME, "--hardware", toml)
    unseen = ("broken", "loop")  # a routing is a word unless there is such a file
    routing = refusal("predict", NAME, "--routing", text)
    assert ("expected uniform" if name in unseen else rule) in routing


HOSTILE = (
    "\x1b]0;title\x07",
    "\x1b[2J\x1b[31m",
    "a\nerror: all is well",
    "a\rb",
    "\u202egnp.exe",
    "\x00",
    "\x9b31m",
    "\udcff",
    "[/bold]",
    "{0.__class__}",
    "%s%n",
)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "command",
    [
        ["predict", "{}"],
        ["predict", "{}.toml"],
        ["predict", "./{}.json"],
        ["models", "{}"],
        ["hardware", "{}"],
        ["predict", NAME, "--hardware", "{}"],
        ["predict", NAME, "--hardware", "{}.toml"],
        ["predict", NAME, "--batch", "{}"],
        ["predict", NAME, "--dtype", "{}"],
        ["predict", NAME, "--routing", "{}"],
        ["predict", NAME, "--routing", "zipf:{}"],
        ["predict", NAME, "--calibration", "{}"],
        ["compare", NAME, "{}"],
        ["sweep", NAME, "--hardware", "h200,{}"],
    ],
    ids=" ".join,
)
def test_a_message_is_one_printable_line(text: str, command: list[str]) -> None:
    message = refusal(*(part.replace("{}", text) for part in command))
    assert message.isprintable()


@pytest.mark.parametrize("text", [text for text in HOSTILE if "\x00" not in text])
@pytest.mark.parametrize("command", [["{}"], ["predict", NAME, "--{}"], ["predict", NAME, "{}"]])
def test_usage_errors_are_exit_code_2_without_control_characters(
    text: str, command: list[str]
) -> None:
    done = run(*(part.replace("{}", text) for part in command))
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err
    assert not set(done.err) & {"\x1b", "\x07", "\r", "\x9b"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict"],
        ["predict", NAME, "--phase", "train"],
        ["predict", NAME, "--mla", ""],
        ["predict", NAME, "--no-such-option"],
        ["predict", NAME, "--batch"],
        ["compare"],
        ["no-such-command"],
        ["--json"],
    ],
)
def test_usage_errors(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "Usage: sparsecost" in done.err or "requires an argument" in done.err


def test_names_in_a_file_reach_no_output_as_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (FOLDER / f"{NAME}.toml").read_text()
    table = tomllib.loads(text)
    bad = "[bold]<script>alert(1)</script>|`=cmd()` :smile: \\u001b[31m\\u202e\\n# x"
    text = text.replace(json.dumps(table["source"]), f'"{bad}"')
    text = text.replace(json.dumps(table["name"]), '"=[b]<b>|`x`"')
    assert text.count("<") == 3
    Path("m.toml").write_text(text)
    for command in (["predict", "m.toml"], ["models", "m.toml"], ["compare", "m.toml", NAME]):
        shown = output(*command)
        assert "=[b]<b>|`x`" in shown
        page = output(*command, "--markdown")
        assert r"=\[b\]&lt;b&gt;\|\`x\`" in page
        assert "<" not in page
        data = output(*command, "--json")
        assert data.isascii()
        for told in (shown, page, data):
            assert not set(told) & {"\x1b", "\u202e", "\r"}
    output("sweep", "m.toml", "--batch", "1", "--csv", "a.csv")
    assert "\n'=[b]<b>|`x`,decode," in Path("a.csv").read_text()


@pytest.mark.slow
def test_the_installed_command_does_the_same(tmp_path: Path) -> None:
    fifo, raw = tmp_path / "fifo.toml", os.fsencode(tmp_path) + b"/\xff\x1b[31m.toml"
    os.mkfifo(fifo)
    for argument in (b"no-such-model", os.fsencode(fifo), raw, b"\xff\xfe"):
        done = subprocess.run(
            [SPARSECOST, "predict", argument], capture_output=True, check=False, timeout=300
        )
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr.startswith(b"error: ")
        assert done.stderr.count(b"\n") == 1
        assert done.stderr.decode("ascii").strip().isprintable()


TABLES = {name: tomllib.loads((FOLDER / f"{name}.toml").read_text()) for name in model_names()}
KEYS = sorted({key for t in TABLES.values() for part in (t, *t.get("memory", [])) for key in part})
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 4096)
    | st.sampled_from([2**16, 2**20, 2**31, 10**30, 10**400, -1])
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["all", "0-2", "1:3", "0-22/2", "gqa", "mla", "moe", "dense", "peer"])
    | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
    ),
    max_leaves=6,
)


def containers(value: Any) -> list[Any]:  # noqa: ANN401 - any part of a TOML table
    """Every non-empty table and list within."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return ([value] if inner else []) + [nested for child in inner for nested in containers(child)]


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    """A preset with some values dropped, replaced, scaled, copied or added."""
    table: dict[str, Any] = copy.deepcopy(TABLES[draw(st.sampled_from(sorted(TABLES)))])
    for _ in range(draw(st.integers(1, 3))):
        places = containers(table)
        if not places:
            break
        place = draw(st.sampled_from(places))
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        how = draw(st.sampled_from(["drop", "change", "scale", "copy", "add"]))
        if how == "drop":
            del place[key]
        elif how == "scale" and type(place[key]) is int:
            place[key] = place[key] * draw(st.integers(0, 5)) + draw(st.integers(-1, 1))
        elif how == "copy":
            place[key] = copy.deepcopy(draw(st.sampled_from(places)))
        elif how == "add" and isinstance(place, dict):
            place[draw(st.sampled_from(KEYS) | st.text(max_size=5))] = draw(ANYTHING)
        else:
            place[key] = draw(ANYTHING)
    return table


@settings(max_examples=400)
@given(damaged())
def test_a_damaged_model_gives_a_prediction_or_an_input_error(table: dict[str, Any]) -> None:
    try:
        model = model_from_table(table, where="model 'm.toml'")
        document = prediction_json(predict(model, Workload(batch=3), load_hardware("h200")))
    except InputError as error:
        assert str(error).isprintable()  # noqa: PT017 - both outcomes are right
        assert len(str(error)) < 3000  # noqa: PT017
    else:
        assert json.dumps(document, allow_nan=False)


def test_values_that_no_file_holds_are_refused_too() -> None:
    tables: list[Any] = [{("a",): 1}, {"name": "\ud800"}, {"a": {"b": [1, object()]}}]
    for table in tables:
        with pytest.raises(InputError) as caught:
            model_from_table(table, where="here")
        assert str(caught.value).startswith("here: ")
    assert "a.b.1=<object object" in str(caught.value)


@given(st.text(max_size=60) | st.text(st.sampled_from('ab01=.[]{}"\n#,-_ '), max_size=60))
def test_any_text_as_a_model_file_gives_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = tmp_path_factory.mktemp("text")
    for name in ("m.toml", "config.json", "bare"):
        (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(InputError):
            load_model(str(folder / name))
