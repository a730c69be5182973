"""A model of the user's own, as text and within a link: TOML or a Hugging Face config.json.

Nothing given is trusted: sizes are bounded before anything is unpacked, and the model is checked
like any other file. A link holds the model's text, compressed.
"""

import base64
import binascii
import json
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from costmodel.inputs.config import ModelConfig

MAX_TEXT_BYTES = 256 * 2**10  # the largest real config.json is under 100 kB
MAX_LINK_CHARS = (
    6000  # of a compressed model in a link; browsers and proxies take about 8000 in all
)


def read_model(text: str) -> ModelConfig:
    """The model that a text describes; JSON is told from TOML by its first character.

    Raises:
        InputError: The text is too long, or no valid model.
    """
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise InputError(f"model: is longer than {MAX_TEXT_BYTES // 1024} KiB of text")
    suffix = ".json" if text.lstrip().startswith("{") else ".toml"
    with TemporaryDirectory() as folder:  # the readers of files are the ones that check
        path = Path(folder) / f"model{suffix}"
        path.write_text(text, encoding="utf-8")
        try:
            return load_model(str(path))
        except InputError as error:
            raise InputError(str(error).replace(folder, "").replace("/model", "model")) from None


def packed(text: str) -> str | None:
    """The text for a link, compressed; None if it would be too long for one."""
    data = zlib.compress(_shortest(text).encode(), 9)
    link = base64.urlsafe_b64encode(data).decode().rstrip("=")
    return link if len(link) <= MAX_LINK_CHARS else None


def unpacked(link: str) -> str:
    """The text within a link.

    Raises:
        InputError: It is none, or would grow beyond `MAX_TEXT_BYTES`.
    """
    broken = InputError("own: is no model that this app put into a link")
    if len(link) > MAX_LINK_CHARS:
        raise broken
    try:
        data = base64.urlsafe_b64decode(link + "=" * (-len(link) % 4))
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(data, MAX_TEXT_BYTES)
        if unpacker.unconsumed_tail or not unpacker.eof:
            raise broken
        return text.decode()
    except (binascii.Error, zlib.error, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise broken from None


def _shortest(text: str) -> str:
    """Without the blanks that JSON does not need."""
    try:
        return json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
