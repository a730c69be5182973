"""Models by name or path: names never become paths, and every preset is a model."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.errors import InputError
from costmodel.inputs.catalog import FOLDER, load_model, model_names, numbered
from costmodel.inputs.model import MAX_NAME, ModelConfig

HF = Path(__file__).parents[1] / "data" / "hf"


def refusal(name: str) -> str:
    with pytest.raises(InputError) as caught:
        load_model(name)
    return str(caught.value)


def test_names_are_sorted_and_could_be_typed() -> None:
    names = model_names()
    assert list(names) == sorted(set(names))
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name) for name in names)
    assert {f"{name}.toml" for name in names} == {path.name for path in FOLDER.iterdir()}


@pytest.mark.parametrize("name", model_names())
def test_every_preset_loads_in_any_case(name: str) -> None:
    model = load_model(name)
    assert isinstance(model, ModelConfig)
    assert model.source
    assert load_model(name.upper()) == model
    assert load_model(str(FOLDER / f"{name}.toml")) == model


def test_presets_have_names_of_their_own() -> None:
    names = [load_model(name).name for name in model_names()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("name", "config"), [("minimax-m2.5", "minimax-m2.7"), ("mistral-7b", "mistral-7b-v0.1")]
)
def test_a_preset_typed_from_a_config_is_what_the_reader_makes_of_it(
    name: str, config: str
) -> None:
    preset, read = load_model(name), load_model(str(HF / f"{config}.json"))
    told = ("name", "source", "notes", "published", "storage")
    assert replace(preset, **{field: getattr(read, field) for field in told}) == read
    assert (preset.storage is None) == (read.storage is None)
    if preset.storage is not None and read.storage is not None:
        assert preset.storage.weights == read.storage.weights


def test_a_path_is_told_by_its_ending_a_separator_or_by_being_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (FOLDER / "olmoe-1b-7b.toml").read_text()
    preset = load_model("olmoe-1b-7b")
    (tmp_path / "folder").mkdir()
    for name in ("mine.toml", "MINE.TOML", "bare", "folder/bare", "olmoe-1b-7b.toml"):
        (tmp_path / name).write_text(text)
        assert load_model(name) == preset
    (tmp_path / "model.JSON").write_text((HF / "olmoe-1b-7b.json").read_text())
    assert load_model("model.JSON").hidden_size == preset.hidden_size


def test_a_file_in_the_working_folder_does_not_shadow_a_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "llama-3.1-8b").write_text("not a model")
    assert load_model("llama-3.1-8b").num_hidden_layers == 32
    assert "is not TOML" in refusal("./llama-3.1-8b")


@pytest.mark.parametrize(
    "name",
    [
        "no-such-model",
        "",
        " ",
        "olmoe",
        "olmoe-1b-7b ",
        "*",
        "?",
        "~",
        "a\0b",
        "x" * 5000,
        "é",
        "%",
    ],
)
def test_an_unknown_name_is_told_the_presets(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = refusal(name)
    assert message.startswith("model='")
    assert "is neither a preset nor a .toml or .json file" in message
    assert message.endswith(", ".join(model_names()))
    assert ("did you mean olmoe-1b-7b" in message) == name.startswith("olmoe")
    assert message.isprintable()


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("../olmoe-1b-7b", "does not exist"),
        ("models/../olmoe-1b-7b", "does not exist"),
        ("/olmoe-1b-7b", "does not exist"),
        ("olmoe-1b-7b/", "does not exist"),
        ("..", "is a directory"),
        (".", "is a directory"),
        ("/", "is a directory"),
        ("~/x.toml", "does not exist"),
        ("none.toml", "does not exist"),
        ("none.json", "does not exist"),
        ("/dev/zero", "is not a regular file"),
        (f"{'x' * 5000}.toml", "File name too long"),
        (f"{'x' * 5000}.json", "File name too long"),
        (f"./{'x' * 5000}", "File name too long"),
        ("a\0b.toml", "does not exist"),
    ],
)
def test_a_path_is_the_users_and_never_in_the_presets(
    name: str, rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = refusal(name)
    assert message.startswith("file='")
    assert rule in message


@given(st.text())
def test_no_text_but_a_preset_or_a_file_loads(text: str) -> None:
    if text.lower() in model_names():
        return
    with pytest.raises(InputError):
        load_model(text)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("a", "b", "a", "a"), ["a", "b", "a (2)", "a (3)"]),
        (("a", "a", "a (2)"), ["a", "a (3)", "a (2)"]),  # a given name stays
        (("n" * MAX_NAME,) * 2, ["n" * 120, f"{'n' * 116} (2)"]),
    ],
)
def test_equal_names_get_numbers(names: tuple[str, ...], expected: list[str]) -> None:
    base = load_model("olmoe-1b-7b")
    assert [model.name for model in numbered([replace(base, name=n) for n in names])] == expected
