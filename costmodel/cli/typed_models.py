"""The models that a command was given, with a line on stderr for each key that was ignored."""

from collections.abc import Sequence

from costmodel.inputs.catalog import load_models
from costmodel.inputs.hf.fields import IGNORED
from costmodel.inputs.model import ModelConfig
from costmodel.show.text import tell


def typed_models(
    names_or_paths: Sequence[str], ignored_keys: Sequence[str] | None
) -> list[ModelConfig]:
    """The models of names or paths; keys that --ignore-key names stand on stderr and in notes.

    Raises:
        InputError: A model cannot be read, or a key to ignore is none that could be.
    """
    models = load_models(names_or_paths, ignored_keys)
    for model in models:
        tell_ignored_keys(model.name, model)
    return models


def tell_ignored_keys(name: str, model: ModelConfig) -> None:
    """Write a line to stderr for each key of a model, shown as `name`, that was ignored."""
    for note in model.notes:
        if IGNORED in note:
            tell(f"note: {name}: {note}")
