"""Models by name or path: a preset, a TOML file or a Hugging Face config.json."""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from costmodel.errors import InputError, shown
from costmodel.inputs.hf.config import load_hf_config
from costmodel.inputs.model import MAX_NAME, ModelConfig, load_model_toml

FOLDER = Path(__file__).parent.parent / "presets" / "models"


@cache
def model_names() -> tuple[str, ...]:
    """The names of the presets, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load_model(name_or_path: str) -> ModelConfig:
    """The model of a preset (named in any case), of a TOML file or of a `config.json`.

    Text that is no preset's name is a path if it ends in .toml or .json, holds a separator, or
    names a file that exists. Only names that are presets are joined to the presets' folder.

    Raises:
        InputError: There is no such preset or file, or the file is no valid model.
    """
    name = name_or_path.lower()
    if name in model_names():
        return load_model_toml(FOLDER / f"{name}.toml")
    path = Path(name_or_path)
    if path.suffix.lower() == ".json":
        return load_hf_config(path)
    is_path = path.suffix.lower() == ".toml" or os.sep in name_or_path
    if is_path or (name_or_path and os.path.exists(path)):  # noqa: PTH110 - Path's raises if long
        return load_model_toml(path)
    raise InputError(
        f"model={shown(name_or_path)}: is neither a preset nor a .toml or .json file;"
        f" the presets are {', '.join(model_names())}"
    )


def numbered(models: Sequence[ModelConfig]) -> list[ModelConfig]:
    """The same models with distinct names: of equal names the later ones get ` (2)` and so on.

    A number that would make the name of another model is skipped.
    """
    original_names = {model.name for model in models}
    taken: set[str] = set()
    renamed = []
    for model in models:
        name, number = model.name, 1
        while name in taken or (number > 1 and name in original_names):
            number += 1
            suffix = f" ({number})"
            name = model.name[: MAX_NAME - len(suffix)] + suffix
        taken.add(name)
        renamed.append(model if number == 1 else replace(model, name=name))
    return renamed
