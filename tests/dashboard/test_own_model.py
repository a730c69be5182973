"""A model of one's own: what reads back as itself, and what is refused however it is given."""

import base64
import hashlib
import json
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from costmodel.errors import InputError
from costmodel.inputs.catalog import FOLDER, load_model, model_names
from dashboard.app import own_model
from dashboard.app.own_model import (
    MAX_LINK_CHARS,
    MAX_TEXT_BYTES,
    NAMELESS,
    model_text,
    packed,
    read_model,
    unpacked,
    uploaded,
)

HF = Path(__file__).parents[1] / "data" / "hf"
CONFIGS = sorted(HF.glob("*.json"))
OLMOE = (FOLDER / "olmoe-1b-7b.toml").read_text(encoding="utf-8")


def link_of(data: bytes) -> str:
    return base64.urlsafe_b64encode(zlib.compress(data, 9)).decode().rstrip("=")


@pytest.mark.parametrize("name", model_names())
def test_a_preset_reads_back_from_its_toml_from_its_json_and_from_a_link(name: str) -> None:
    model = load_model(name)
    assert read_model((FOLDER / f"{name}.toml").read_text(encoding="utf-8")) == model
    assert read_model(model_text(model)) == model
    link = packed(model_text(model))
    assert link is not None
    assert read_model(unpacked(link)) == model


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_real_config_is_the_model_that_the_command_line_reads(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    expected = load_model(str(path))
    model = read_model(text)
    assert replace(model, name=expected.name) == expected
    assert read_model(model_text(model)) == model
    link = packed(text)
    assert link is not None
    assert set(link) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    assert read_model(unpacked(link)) == model


def test_an_override_that_lacks_what_the_default_has_keeps_lacking_it() -> None:
    model = load_model(str(HF / "gemma-3-1b.json"))  # windows everywhere but in every sixth layer
    windows = [getattr(model.attention_of(i), "sliding_window", 0) for i in range(12)]
    assert windows == [512, 512, 512, 512, 512, None] * 2
    again = read_model(model_text(model))
    assert [getattr(again.attention_of(i), "sliding_window", 0) for i in range(12)] == windows


def test_a_text_that_does_not_shrink_is_too_long_for_a_link() -> None:
    noise = "".join(hashlib.sha256(bytes([i])).hexdigest() for i in range(200))
    assert packed(noise) is None
    short = packed(noise[:64])
    assert short is not None
    assert unpacked(short) == noise[:64]


def test_a_link_that_would_unpack_to_more_than_a_text_may_hold_is_refused() -> None:
    bomb = link_of(b"a" * 2**22)  # 4 MiB in 5,500 characters
    assert len(bomb) <= MAX_LINK_CHARS
    with pytest.raises(InputError, match=r"^own: .* link$"):
        unpacked(bomb)
    assert len(unpacked(link_of(b"a" * MAX_TEXT_BYTES))) == MAX_TEXT_BYTES
    with pytest.raises(InputError, match=r"^own: .* link$"):
        unpacked(link_of(b"a" * (MAX_TEXT_BYTES + 1)))


GOOD_LINK = link_of(b"name = 'x'")
NO_LINKS = {
    "nothing": "",
    "not base64": "!!!!",
    "base64 of nothing that was compressed": "AAAAAAAA",
    "a letter of no alphabet": "\u0416" * 8,
    "blanks within": GOOD_LINK[:4] + " " + GOOD_LINK[4:],
    "cut": GOOD_LINK[:-6],
    "with more behind it": link_of(b"a")[:-1] + "AAAA" + GOOD_LINK,
    "two in one": base64.urlsafe_b64encode(zlib.compress(b"a") + zlib.compress(b"b")).decode(),
    "no text": link_of(b"\xff\xfe"),
    "half a character": link_of("\ud800".encode(errors="surrogatepass")),
    "too long": "A" * (MAX_LINK_CHARS + 1),
    "a path": "../../etc/passwd",
}


@pytest.mark.parametrize("link", NO_LINKS.values(), ids=NO_LINKS.keys())
def test_what_is_no_link_of_this_app_is_refused_with_one_message(link: str) -> None:
    with pytest.raises(InputError, match=r"^own: .* link$"):
        unpacked(link)


NO_MODELS = {
    "nothing": ("", "name: is missing"),
    "no toml": ("[[[", "model: is not TOML"),
    "no json": ('{"a": ', "model: is not JSON"),
    "a long text": ("#" * (MAX_TEXT_BYTES + 1), "longer than 256 KiB"),
    "a long text in few letters": ("\u0416" * (MAX_TEXT_BYTES // 2 + 1), "longer than 256 KiB"),
    "half a character": ("name = '\ud800'", "half a character"),
    "half a character escaped": ('{"attention": "\\ud800"}', "half a character"),
    "deep json": ('{"a":' * 50_000, "model: is nested deeper than 32 levels"),
    "deep toml": ("a = " + "[" * 5_000 + "]" * 5_000, "nested deeper than 32 levels"),
    "a field twice": ('{"attention": 1, "attention": 2}', "stands twice"),
    "not finite": ('{"attention": NaN}', "not finite"),
    "a long number": ('{"attention": {"head_dim": 1' + "0" * 5_000 + "}}", "model: is not JSON"),
    "an unknown family": ('{"model_type": "<script>"}', "model_type='<script>'"),
    "an unknown field": (OLMOE.replace("hidden_size", "width"), "width=2048: Unexpected keyword"),
    "a rule broken": (
        OLMOE.replace("num_experts_per_tok = 8", "num_experts_per_tok = 65"),
        "num_experts_per_tok=65: exceeds num_experts=64",
    ),
    "more layers than any model has": (
        OLMOE.replace("num_hidden_layers = 16", "num_hidden_layers = 1000000000"),
        "num_hidden_layers=1000000000",
    ),
}


@pytest.mark.parametrize(("text", "message"), NO_MODELS.values(), ids=NO_MODELS.keys())
def test_what_is_no_model_is_refused_by_its_rule_and_without_a_path(
    text: str, message: str
) -> None:
    with pytest.raises(InputError) as refused:
        read_model(text)
    assert message in str(refused.value)
    assert "tmp" not in str(refused.value)
    assert "/" not in str(refused.value).replace("</", "")


def test_a_path_too_long_to_be_shown_whole_does_not_leak(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = tmp_path / ("secret" * 20)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with pytest.raises(InputError, match=r"^model: is not JSON") as refused:
        read_model("{")
    assert "secret" not in str(refused.value)


def test_an_uploaded_config_without_a_name_is_called_as_its_file() -> None:
    data = (HF / "qwen3-8b.json").read_bytes()
    assert read_model(uploaded("My Qwen.json", data)).name == "My Qwen"
    assert read_model(uploaded("config.json", data)).name == NAMELESS
    assert read_model(uploaded("../../etc/passwd.json", data)).name == "passwd"
    assert len(read_model(uploaded("x" * 500 + ".json", data)).name) == 120
    assert read_model(uploaded("<script>.json", data)).name == "<script>"
    assert read_model(uploaded("a\nb.json", data)).name == NAMELESS


def test_an_uploaded_toml_keeps_its_comments_and_its_name() -> None:
    assert uploaded("other.toml", OLMOE.encode()) == OLMOE
    assert uploaded("bom.toml", b"\xef\xbb\xbf" + OLMOE.encode()) == OLMOE


def test_an_upload_that_is_no_text_or_too_large_is_refused() -> None:
    with pytest.raises(InputError, match=r"file='model.json': is not UTF-8 text \(byte 10\)"):
        uploaded("model.json", b"PK\x03\x04\x14\x00\x00\x00\x08\x00\xff")
    with pytest.raises(InputError, match="longer than 256 KiB"):
        uploaded("model.toml", b"#" * (50 * 2**20))


def test_an_upload_that_breaks_a_rule_is_shown_to_be_mended() -> None:
    assert uploaded("x.toml", b"hidden_size = 0") == "hidden_size = 0"


def test_json_in_a_link_loses_its_blanks_and_nothing_else() -> None:
    text = json.dumps({"a": [1, 2.5, "\u0416 b"], "c": None}, indent=4)
    link = packed(text)
    assert link is not None
    assert json.loads(unpacked(link)) == json.loads(text)
    assert " " not in unpacked(link).replace(" b", "")


def test_only_models_that_fit_the_bounds_of_a_text_are_packed() -> None:
    with pytest.raises(InputError, match="longer than 256 KiB"):
        packed("#" * (MAX_TEXT_BYTES + 1))
    assert own_model.MAX_LINK_CHARS < 8000
