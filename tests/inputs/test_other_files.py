"""What people give in place of a config.json: its folder, files beside it, odd endings."""

import json
from pathlib import Path

import pytest

from costmodel.errors import InputError
from costmodel.inputs.catalog import FOLDER, load_model, load_models

CONFIG = Path(__file__).parents[1] / "data" / "hf" / "olmoe-1b-7b.json"


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_model(str(path))
    return str(caught.value)


def test_a_folder_stands_for_its_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(CONFIG.read_text())
    assert load_model(str(tmp_path)) == load_model(str(tmp_path / "config.json"))


def test_a_folder_without_one_is_told_by_what_it_holds(tmp_path: Path) -> None:
    assert refusal(tmp_path).endswith("is a directory without a config.json")
    for name in "abcdefg":
        (tmp_path / f"{name}.txt").touch()
    message = refusal(tmp_path)
    assert "(it holds '" in message
    assert message.count(".txt") == 5


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.gguf", b"GGUF\3\0\0\0", "is a GGUF file, which holds weights"),
        ("model", b"GGUF\3\0\0\0", "is a GGUF file, which holds weights"),
        ("model.safetensors", b"\x08\0\0\0\0\0\0\0{}", "is a safetensors file"),
        ("pytorch_model.bin", b"PK", "holds weights"),
        ("a.safetensors.index.json", b'{"weight_map": {}}', "is an index of weight files"),
        ("params.json", b'{"dim": 4096, "n_layers": 32}', "is a params.json of the original"),
        ("adapter_config.json", b'{"peft_type": "LORA"}', "is the configuration of an adapter"),
        ("tokenizer.json", b'{"added_tokens": [], "pre_tokenizer": {}}', "is a tokenizer"),
        (
            "tokenizer_config.json",
            b'{"added_tokens_decoder": {}, "tokenizer_class": "x"}',
            "is the configuration of a tokenizer",
        ),
        ("generation_config.json", b'{"_from_model_config": true}', "holds defaults of text"),
    ],
)
def test_other_files_are_named_for_what_they_are(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    message = refusal(tmp_path / name)
    assert said in message
    assert message.endswith("give the config.json of the model")


def test_a_config_that_holds_such_keys_too_is_still_read(tmp_path: Path) -> None:
    table = json.loads(CONFIG.read_text())
    (tmp_path / "config.json").write_text(json.dumps({**table, "tokenizer_class": "x"}))
    assert load_model(str(tmp_path)).hidden_size == table["hidden_size"]


def test_json_is_told_by_its_beginning_and_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    known = load_model(str(CONFIG))
    for name, before in (("model", ""), ("model.cfg", "\n "), ("bom.json", "\ufeff")):
        (tmp_path / name).write_text(before + CONFIG.read_text(), encoding="utf-8")
        assert load_model(str(tmp_path / name)).ffn == known.ffn
    text = (FOLDER / "olmoe-1b-7b.toml").read_text()
    (tmp_path / "bom.toml").write_text("\ufeff" + text, encoding="utf-8")
    assert load_model(str(tmp_path / "bom.toml")) == load_model("olmoe-1b-7b")


def test_keys_are_ignored_in_whichever_file_holds_them(tmp_path: Path) -> None:
    table = json.loads(CONFIG.read_text())
    (tmp_path / "a.json").write_text(json.dumps({**table, "foo": 1}))
    (tmp_path / "b.json").write_text(json.dumps({**table, "bar": 2}))
    names = [str(tmp_path / "a.json"), str(tmp_path / "b.json"), "olmoe-1b-7b"]
    a, b, preset = load_models(names, ["foo", "bar"])
    assert "foo=1: is not understood" in str(a.notes)
    assert "bar=2: is not understood" in str(b.notes)
    assert preset == load_model("olmoe-1b-7b")
    for idle in ("baz", "hidden_size"):
        with pytest.raises(InputError, match=f"ignore_key='{idle}': no config.json given"):
            load_models(names, ["foo", "bar", idle])
