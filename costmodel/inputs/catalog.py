"""Models by name or path: presets, TOML files and Hugging Face configurations."""

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
    """A preset by its name (in any case), a TOML file or a `config.json` by its path.

    A path ends in .toml or .json, or holds a separator. A name is looked up among the presets and
    never becomes part of a path.
    """
    name = name_or_path.lower()
    if name in model_names():
        return load_model_toml(FOLDER / f"{model_names()[model_names().index(name)]}.toml")
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
    """The models with different names: a name that comes again gets a number no other one has."""
    given = {model.name for model in models}
    taken: set[str] = set()
    found = []
    for model in models:
        name, number = model.name, 1
        while name in taken or (number > 1 and name in given):
            number += 1
            mark = f" ({number})"
            name = model.name[: MAX_NAME - len(mark)] + mark
        taken.add(name)
        found.append(model if number == 1 else replace(model, name=name))
    return found
