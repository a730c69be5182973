"""A model read from a Hugging Face config.json, of a known family and with every key accounted for.

A key is used, listed as one that does not change the cost (`ignored_keys.py`), or refused by name.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from costmodel.errors import InputError, shown
from costmodel.inputs.files import read_json_object
from costmodel.inputs.hf.blocks import Blocks, Table
from costmodel.inputs.hf.families import FAMILIES
from costmodel.inputs.hf.fields import (
    FLAG,
    IGNORED,
    LAYER_TYPES_OR_NULL,
    OBJECT_OR_NULL,
    STRINGS_OR_NULL,
    VOCABULARY,
    WIDTH,
    Fields,
    IgnoredKeys,
)
from costmodel.inputs.hf.ignored_keys import ONE_VALUE, WITHOUT_COST
from costmodel.inputs.hf.quantization.storage import read_storage, unquantised
from costmodel.inputs.hf.towers import read_towers
from costmodel.inputs.hf.wrappers import (
    TEXT_KEYS,
    WRAPPER_WITHOUT_COST,
    WRAPPERS,
    text_key,
    text_model,
)
from costmodel.inputs.model import MAX_NAME, ModelConfig
from costmodel.inputs.other_files import other_json
from costmodel.layers.site import layer_pattern
from costmodel.strict import validated

HUB_ID = re.compile(r"[A-Za-z0-9][\w.+-]*(/[\w.+-]+)?", re.ASCII)  # not the path of a folder
TOML_FIELDS = (
    "name, source, hidden_size, vocab_size, num_hidden_layers, [attention] and [ffn];"
    " models.md of the documentation has an example"
)
MIN_STEPS = 3  # layers in equal steps from which on a selector is written "0-22/2"

MODEL_ENDINGS = ("ForCausalLM", "ForConditionalGeneration")  # models that end in an LM head
GEMMA3_VOCABULARY = 262208  # transformers' Gemma3TextConfig; published files leave it out


def load_hf_config(path: Path, ignored: IgnoredKeys | None = None) -> ModelConfig:
    """The model that a config.json describes.

    Args:
        path: The file.
        ignored: Keys that are taken to cost nothing if they are not understood; a note of the model
            names each that the file holds.

    Raises:
        InputError: The file cannot be read, its `model_type` is unknown, a size is missing, or a
            key or its value is not modelled.
    """
    table = read_json_object(path, non_finite=True)  # a bound of time steps may be Infinity
    where = f"file={shown(str(path))}"
    ignored = IgnoredKeys() if ignored is None else ignored
    stated = table.get("model_type")
    model_type = stated if isinstance(stated, str) else ""
    key = "text_config" if model_type in WRAPPERS else None
    if model_type not in FAMILIES:
        key = text_key(table, FAMILIES, where)
    if model_type not in FAMILIES and key is None:
        raise _unknown_family(table, where)
    top = Fields(table, model_type=model_type, where=where, ignored=ignored)
    fields = top
    tied: bool | None = None
    if key is not None:
        fields = text_model(top, key)
        if model_type in WRAPPERS:
            tied = top.optional("tie_word_embeddings", FLAG, default=True)
        elif top.holds("tie_word_embeddings"):
            tied = top.required("tie_word_embeddings", FLAG)
    model, blocks = _model(fields, tied=tied)
    parts = (top,) if fields is top else (top, fields)
    storage = read_storage(parts, path, blocks, tied=model["tie_word_embeddings"])
    family = FAMILIES[fields.model_type]
    _account_for_the_rest(fields, family.without_cost, family.only)
    if fields is not top:
        dtype, quantised = unquantised(parts), storage is not None
        model["towers"] = read_towers(top, model["hidden_size"], dtype, quantised=quantised)
        _account_for_the_rest(top, WRAPPER_WITHOUT_COST, {})
    model |= {"name": _name(table, path), "source": f"config.json (model_type {model_type})"}
    model["notes"] = [
        *(note for part in parts for note in part.notes),
        *(
            f"{path if path.isprintable() else shown(path)}={shown(value)}: {IGNORED}."
            for path, value in ignored.met.items()
        ),
    ]
    return replace(_validated(model, fields, where), storage=storage)


def _unknown_family(table: Mapping[str, Any], where: str) -> InputError:
    """The error that says which families can be read, or what else the file is."""
    if not isinstance(table.get("model_type"), str) and (kind := other_json(table)) is not None:
        return InputError(f"{where}: {kind}")
    fault = (
        f"={shown(table['model_type'])}: is not" if "model_type" in table else ": is missing; it is"
    )
    inner = [
        f" ({key}.model_type={shown(table[key].get('model_type'))} is not, either)"
        for key in TEXT_KEYS
        if isinstance(table.get(key), dict)
    ]
    return InputError(
        f"{where}: model_type{fault} one of the families that can be read{''.join(inner)}:"
        f" {', '.join(sorted(FAMILIES))}. A model whose layers are of kinds that are"
        f" modelled can be written as TOML: {TOML_FIELDS}"
    )


def _model(fields: Fields, *, tied: bool | None) -> tuple[Table, Blocks]:
    """The fields of a `ModelConfig`, but for name, source and notes; and its blocks.

    `tied` is what the wrapper of a multimodal file says of the embeddings; None without a wrapper.
    """
    family = FAMILIES[fields.model_type]
    blocks = family.read(fields)
    if fields.model_type in ("gemma3", "gemma3_text"):
        vocabulary = fields.optional("vocab_size", VOCABULARY, GEMMA3_VOCABULARY)
    else:
        vocabulary = fields.required("vocab_size", VOCABULARY)
    own_tied = fields.optional("tie_word_embeddings", FLAG, blocks.tied if tied is None else tied)
    if tied is not None and own_tied != tied:
        raise fields.refused("tie_word_embeddings", f"differs from {tied} of the whole model")
    model = {
        "hidden_size": fields.required("hidden_size", WIDTH),
        "vocab_size": vocabulary,
        "num_hidden_layers": len(blocks.ffn),
        "tie_word_embeddings": own_tied,
        **blocks.model,
        **_layers(blocks),
    }
    return model, blocks


def _account_for_the_rest(
    fields: Fields, without_cost: frozenset[str], only: Mapping[str, tuple[object, ...]]
) -> None:
    """Read the keys that all families share, and refuse every key that nobody has read."""
    classes = fields.optional("architectures", STRINGS_OR_NULL, None)
    if classes and not all(name.endswith(MODEL_ENDINGS) for name in classes):
        raise fields.refused("architectures", f"is not a model {' or '.join(MODEL_ENDINGS)}")
    for part in ("rope_parameters", "rope_scaling"):  # read already where a head is rotated
        fields.optional(part, OBJECT_OR_NULL, None)
    fields.only(only)
    inert = {key: values for key, values in ONE_VALUE.items() if key not in without_cost}
    fields.only(inert, unless_read=True)
    if not fields.was_read("layer_types"):
        types = fields.optional("layer_types", LAYER_TYPES_OR_NULL, None) or []
        if "sliding_attention" in types:
            rule = f"has windows, which are not modelled for model_type {fields.model_type!r}"
            raise fields.refused("layer_types", rule)
    fields.finish(WITHOUT_COST | without_cost)


def _layers(blocks: Blocks) -> dict[str, Any]:
    """The default layer (the most frequent attention and FFN) and overrides of other blocks."""
    attention, ffn = _most_frequent(blocks.attention), _most_frequent(blocks.ffn)
    groups: list[tuple[dict[str, Table], list[int]]] = []
    for layer, (layer_attention, layer_ffn) in enumerate(
        zip(blocks.attention, blocks.ffn, strict=True)
    ):
        change = {}
        if layer_attention != attention:
            change["attention"] = layer_attention
        if layer_ffn != ffn:
            change["ffn"] = layer_ffn
        if not change:
            continue
        for known, layers in groups:
            if known == change:
                layers.append(layer)
                break
        else:
            groups.append((change, [layer]))
    overrides = [{"layers": _selector(layers), **change} for change, layers in groups]
    return {"attention": attention, "ffn": ffn, "overrides": overrides}


def _most_frequent(by_layer: list[Table]) -> Table:
    """The table of most blocks; of equally frequent ones, the one whose last block comes latest."""
    texts = [repr(sorted(table.items())) for table in by_layer]  # a table may hold another
    counts = Counter(texts)
    most = max(counts.values())
    return next(
        table
        for table, text in zip(reversed(by_layer), reversed(texts), strict=True)
        if counts[text] == most
    )


def _selector(layers: list[int]) -> str:
    """Layers in the notation of `Override.layers`: "0-2,5", or "0-22/2" for equal steps."""
    steps = {b - a for a, b in pairwise(layers)}
    if len(layers) >= MIN_STEPS and len(steps) == 1 and (step := steps.pop()) > 1:
        return f"{layers[0]}-{layers[-1]}/{step}"
    return layer_pattern(layers).strip("{}")


def _name(table: dict[str, Any], path: Path) -> str:
    """The hub's name of the model; else the file's name, or its folder's if it is `config.json`."""
    hub_id = table.get("_name_or_path")
    if isinstance(hub_id, str) and len(hub_id) <= MAX_NAME and HUB_ID.fullmatch(hub_id):
        return hub_id
    name = path.absolute().parent.name if path.name == "config.json" else path.stem
    return name if name.isprintable() and 0 < len(name) <= MAX_NAME else "model"


def _validated(model: Table, fields: Fields, where: str) -> ModelConfig:
    """The model; a message about a defaulted field says that the file did not hold it."""
    try:
        return validated(ModelConfig, model, where=where)
    except InputError as error:
        named = set(re.findall(r"\w+(?==)", str(error)))
        used = [f"{key}={shown(value)}" for key, value in fields.defaults.items() if key in named]
        if not used:
            raise
        raise InputError(f"{error} (not in the file, so the default: {', '.join(used)})") from None
