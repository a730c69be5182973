"""Files beside a config.json that people give in its place, each named for what it is."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from costmodel.errors import InputError, shown

GIVE: Final = "give the config.json of the model"
MAX_LISTED: Final = 5  # files of a folder that a message names
_WEIGHTS: Final = {
    ".bin": "holds weights",
    ".gguf": "is a GGUF file, which holds weights",
    ".onnx": "is an ONNX graph",
    ".pt": "holds weights",
    ".pth": "holds weights",
    ".safetensors": "is a safetensors file, which holds weights",
}
_JSON_FILES: Final[dict[str, tuple[str, ...]]] = {  # by keys that no config.json has together
    "is an index of weight files": ("weight_map",),
    "is a params.json of the original release, not of Hugging Face": ("dim", "n_layers"),
    "is the configuration of an adapter (PEFT)": ("peft_type",),
    "is a tokenizer": ("added_tokens", "pre_tokenizer"),
    "is the configuration of a tokenizer": ("tokenizer_class", "added_tokens_decoder"),
    "holds defaults of text generation": ("_from_model_config",),
}


def config_of_folder(folder: Path) -> Path:
    """The config.json of a folder.

    Raises:
        InputError: There is none.
    """
    config = folder / "config.json"
    if config.exists():
        return config
    try:
        names = sorted(path.name for path in islice(folder.iterdir(), MAX_LISTED))
    except OSError:
        names = []
    held = f" (it holds {', '.join(map(shown, names))})" if names else ""
    raise InputError(f"file={shown(str(folder))}: is a directory without a config.json{held}")


def refuse_weights(path: Path) -> None:
    """Refuse a file of weights, told by its beginning or its ending.

    Raises:
        InputError: It is one.
    """
    kind = _WEIGHTS.get(path.suffix.lower())
    try:
        if kind is None and path.is_file():
            with path.open("rb") as file:
                kind = _WEIGHTS[".gguf"] if file.read(4) == b"GGUF" else None
    except OSError:
        return  # whoever reads the file says why it cannot be read
    if kind is not None:
        raise InputError(f"file={shown(str(path))}: {kind}; {GIVE}")


def other_json(table: Mapping[str, Any]) -> str | None:
    """What a JSON file without a known `model_type` is, as a predicate; None: not known."""
    for kind, keys in _JSON_FILES.items():
        if all(key in table for key in keys):
            return f"{kind}; {GIVE}"
    return None
