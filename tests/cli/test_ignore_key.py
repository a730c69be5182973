"""`--ignore-key`: every command that takes a model has it, names it, and says what it ignored."""

import json
from pathlib import Path

import pandas as pd
import pytest

from costmodel.inputs.catalog import load_model
from costmodel.inputs.hf.fields import IgnoredKeys
from tests.commands import run
from tests.recording_values import case, recording, written
from tests.recording_values import run as run_of_step

CONFIG = Path(__file__).parents[1] / "data" / "hf" / "qwen3-8b.json"


@pytest.fixture
def odd(tmp_path: Path) -> str:
    path = tmp_path / "odd.json"
    path.write_text(json.dumps({**json.loads(CONFIG.read_text()), "foo": 7}))
    return str(path)


@pytest.mark.parametrize(
    "words",
    [
        ["predict"],
        ["explain", "kv_cache.bytes_per_token"],
        ["compare", "olmoe-1b-7b"],
        ["sweep"],
        ["request"],
    ],
)
def test_commands_ignore_a_key_and_say_so(odd: str, words: list[str]) -> None:
    command, *rest = words
    refused = run(command, odd, *rest)
    assert refused.code == 2
    assert "'foo'=7: is not understood" in refused.err
    assert "--ignore-key" in refused.err
    done = run(command, odd, *rest, "--ignore-key", "foo", "--json")
    assert done.code == 0
    assert done.err.startswith("note: ")
    assert "foo=7: is not understood" in done.err
    assert "foo=7: is not understood" in done.out


@pytest.mark.parametrize(
    ("command", "columns"),
    [
        ("predict ODD --ignore-key foo --csv a.csv", {"foo=7"}),
        ("request ODD --prompt 9 --output 3 --ignore-key foo --csv a.csv", {"foo=7"}),
        ("compare olmoe-1b-7b ODD --ignore-key foo --csv a.csv", {"", "foo=7"}),
        ("sweep olmoe-1b-7b ODD --ignore-key foo --csv a.csv", {"", "foo=7"}),
        ("sweep ODD --batch 1,2 --ignore-key foo --out a.csv", {"foo=7"}),
        (
            "match ODD --to ultramemv2-227m-1.2b --ignore-key foo --csv a.csv",
            {"target: foo=7"},
        ),
        ("report ODD --contents summary,operators --ignore-key foo --out a.csv", {"foo=7"}),
        ("validate RECORDING --csv a.csv", {"foo=7"}),
        ("predict olmoe-1b-7b --csv a.csv", {""}),
    ],
)
def test_a_table_file_says_in_a_column_what_was_ignored(
    odd: str, command: str, columns: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = load_model(odd, IgnoredKeys(["foo"]))
    made = recording(model, case(time=run_of_step({"parameters": 7})))
    words = command.replace("ODD", odd).replace("RECORDING", str(written(made, tmp_path)))
    assert run(*words.split()).code == 0
    table = pd.read_csv("a.csv")  # as anybody would read it
    assert list(table)[-1] == "ignored_keys"
    told = [text if isinstance(text, str) else "" for text in table["ignored_keys"]]
    assert set(told) == columns
    if "model" in table:
        assert [bool(text) for text in told] == list(table["model"] == model.name)


@pytest.mark.parametrize("command", ["report", "profile", "generate", "match"])
def test_the_other_commands_take_it_too(odd: str, command: str, tmp_path: Path) -> None:
    out = {"report": ["--out", str(tmp_path / "r.json")], "match": ["--to", "ultramemv2-227m-1.2b"]}
    done = run(command, odd, *out.get(command, []), "--ignore-key", "bar")
    assert done.code == 2
    assert "'foo'=7: is not understood" in done.err


def test_a_key_that_no_file_holds_is_a_mistake(odd: str) -> None:
    done = run("predict", odd, "--ignore-key", "foo", "--ignore-key", "hidden_size")
    assert done.code == 2
    assert "ignore_key='hidden_size'" in done.err
