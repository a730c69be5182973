"""The user's own model, as text and within a link.

The text is TOML, a Hugging Face config.json, or JSON with the fields of our TOML. A preset that is
edited becomes such JSON. A link holds the text, compressed.

Input is not trusted: sizes are bounded before anything is unpacked, and the model is checked like a
model from a file.
"""

import base64
import binascii
import json
import zlib
from dataclasses import replace
from pathlib import Path

from costmodel.errors import InputError, shown
from costmodel.inputs.catalog import load_model
from costmodel.inputs.files import read_json_object
from costmodel.inputs.model import MAX_NAME, ModelConfig, model_from_table
from costmodel.inputs.model_toml import model_table
from dashboard.app.given_file import read_given

MAX_TEXT_BYTES = 256 * 2**10  # the largest real config.json is under 100 kB
MAX_LINK_CHARS = 6000  # of a compressed model; browsers and proxies take about 8000 in all
NAMELESS = "your-model"  # the name of a model whose config.json gives none


def read_model(text: str) -> ModelConfig:
    """The model that a text describes; a text that begins with a brace is JSON, else TOML.

    Raises:
        InputError: The text is too long, or no valid model.
    """
    suffix = ".json" if text.lstrip().startswith("{") else ".toml"
    return read_given(encoded(text), f"{NAMELESS}{suffix}", "model", _read)


def _read(path: Path) -> ModelConfig:
    if path.suffix == ".json":
        table = read_json_object(path)
        if "attention" in table:  # no config.json has this field
            return model_from_table(table, where="model")
    return load_model(str(path))


def model_text(model: ModelConfig) -> str:
    """The model as JSON that `read_model` reads back as the same model."""
    return json.dumps(model_table(model), indent=2, ensure_ascii=False)


def uploaded(name: str, data: bytes) -> str:
    """The text of an uploaded file; a config.json without a name is named after the file.

    Raises:
        InputError: The file is too large, or is not text.
    """
    if len(data) > MAX_TEXT_BYTES:
        raise _too_long()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"file={shown(name)}: is not UTF-8 text (byte {error.start})") from None
    stem = Path(name).stem
    try:
        model = read_model(text)
    except InputError:
        return text  # the form shows what is wrong with it
    if model.name != NAMELESS or stem == "config" or not stem.isprintable():
        return text
    return model_text(replace(model, name=stem[:MAX_NAME]))


def packed(text: str) -> str | None:
    """The text for a link, compressed; None if it would be too long for one."""
    data = zlib.compress(encoded(_shortest(text)), 9)
    link = base64.urlsafe_b64encode(data).decode().rstrip("=")
    return link if len(link) <= MAX_LINK_CHARS else None


def unpacked(link: str, *, field: str = "own") -> str:
    """The text within a link; `field` is the key that held it.

    Raises:
        InputError: The link holds no text, or more than `MAX_TEXT_BYTES` of it.
    """
    broken = InputError(f"{field}: is not what this app wrote into a link")
    if len(link) > MAX_LINK_CHARS:
        raise broken
    try:
        data = base64.b64decode(link + "=" * (-len(link) % 4), altchars=b"-_", validate=True)
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(data, MAX_TEXT_BYTES).decode()
    except (binascii.Error, zlib.error, ValueError):  # ValueError: not ASCII, not UTF-8
        raise broken from None
    if not unpacker.eof or unpacker.unused_data:
        raise broken
    return text


def encoded(text: str, field: str = "model") -> bytes:
    """The text as UTF-8; `field` is what messages call it.

    Raises:
        InputError: The text is too long, or no text.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{field}: ends in half a character ({error.start})") from None
    if len(data) > MAX_TEXT_BYTES:
        raise _too_long(field)
    return data


def _too_long(field: str = "model") -> InputError:
    return InputError(f"{field}: is longer than {MAX_TEXT_BYTES // 1024} KiB of text")


def _shortest(text: str) -> str:
    """The text without blanks that JSON does not need; TOML as it is."""
    try:
        return json.dumps(json.loads(text), separators=(",", ":"))
    except (ValueError, RecursionError):
        return text
