"""Models by name or path: a preset, a TOML file or a Hugging Face config.json, or its folder."""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from costmodel.errors import InputError, shown
from costmodel.inputs.files import read_text
from costmodel.inputs.hf.config import load_hf_config
from costmodel.inputs.hf.fields import IgnoredKeys
from costmodel.inputs.model import MAX_NAME, ModelConfig, load_model_toml
from costmodel.inputs.other_files import config_of_folder, refuse_weights
from costmodel.inputs.typed_names import did_you_mean, not_fetched

FOLDER = Path(__file__).parent.parent / "presets" / "models"


@cache
def model_names() -> tuple[str, ...]:
    """The names of the presets, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load_models(
    names_or_paths: Sequence[str], ignored_keys: Sequence[str] | None = None
) -> list[ModelConfig]:
    """The models of several names or paths, as `load_model` reads each.

    Args:
        names_or_paths: Presets, TOML files, config.json files or their folders.
        ignored_keys: Keys of a config.json that are taken to cost nothing, by their paths in it.

    Raises:
        InputError: A model cannot be read, or a key to ignore is in none of them, or is understood.
    """
    met: set[str] = set()
    models = []
    for name_or_path in names_or_paths:
        ignored = IgnoredKeys(ignored_keys or ())
        models.append(load_model(name_or_path, ignored))
        met.update(ignored.met)
    for key in ignored_keys or ():
        if key not in met:
            raise InputError(
                f"ignore_key={shown(key)}: no config.json given holds such a key that is not"
                " understood"
            )
    return models


def load_model(name_or_path: str, ignored: IgnoredKeys | None = None) -> ModelConfig:
    """The model of a preset (named in any case), a TOML file, a `config.json` or its folder.

    Text that is no preset's name is a path if it ends in .toml or .json, holds a separator, or
    names a file that exists. Only names that are presets are joined to the presets' folder. A file
    with neither ending is JSON if it begins with a brace.

    Raises:
        InputError: There is no such preset or file, or the file is no valid model.
    """
    name = name_or_path.lower()
    if name in model_names():
        return load_model_toml(FOLDER / f"{name}.toml")
    path = Path(name_or_path)
    suffix = path.suffix.lower()
    exists = bool(name_or_path) and os.path.exists(path)  # noqa: PTH110 - Path's raises if long
    if not exists:
        if (refusal := not_fetched(name_or_path, model_names())) is not None:
            raise refusal
        if suffix not in (".json", ".toml") and os.sep not in name_or_path:
            raise InputError(
                f"model={shown(name_or_path)}: is neither a preset nor a .toml or .json file"
                f"{did_you_mean(name_or_path, model_names())};"
                f" the presets are {', '.join(model_names())}"
            )
    elif path.is_dir():
        path, suffix = config_of_folder(path), ".json"
    refuse_weights(path)
    if suffix == ".json" or (suffix != ".toml" and read_text(path).lstrip().startswith("{")):
        return load_hf_config(path, ignored)
    return load_model_toml(path)


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
