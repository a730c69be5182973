"""Multimodal files: which object within them is the text model, and what the other keys are for.

The text model alone is costed; towers and projectors are resident weights where `towers.py` can
count them, else left out.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from costmodel.errors import InputError
from costmodel.inputs.hf.fields import ANYTHING, OBJECT, Fields
from costmodel.inputs.hf.ignored_keys import WITHOUT_COST

TEXT_KEYS: Final = ("text_config", "llm_config", "language_config")
WRAPPERS: Final = {  # families that are wrappers, and their text models
    "gemma3": "gemma3_text",
    "gemma3n": "gemma3n_text",
    "gemma4": "gemma4_text",
    "minimax_m3_vl": "minimax_m3_vl_text",
    "qwen4_exp": "qwen4_exp_text",
}
TEXT_TYPES: Final = {  # text models that are another family's, layer for layer
    "qwen2_5_vl_text": "qwen2",
    "qwen2_vl_text": "qwen2",
    "qwen3_vl_moe_text": "qwen3_moe",
    "qwen3_vl_text": "qwen3",
}
_OF_TOWERS: Final = re.compile(
    r"vision|visual|image|video|audio|speech|media|projector|multimodal|^mm_|tower|placeholder"
    r"|spatial|downsample|token_id|token_index",
    re.ASCII,
)
_ACCOUNTED_FOR: Final = frozenset({"architectures", "quantization", "quantization_config"})
WRAPPER_WITHOUT_COST: Final = frozenset({"ignore_index"})


def text_key(table: Mapping[str, Any], families: Collection[str], where: str) -> str | None:
    """The key of the text model in a file; None: the file holds none that can be read.

    Args:
        table: The file.
        families: The families that can be read, by `model_type`.
        where: What messages call the file.

    Raises:
        InputError: Two keys hold a model.
    """
    held = [key for key in TEXT_KEYS if isinstance(table.get(key), dict)]
    readable = [key for key in held if family_of(table[key]) in families]
    if readable and len(held) > 1:
        raise InputError(
            f"{where}: {' and '.join(held)}: it is not clear which of them is the text model"
        )
    return readable[0] if readable else None


def family_of(table: Mapping[str, Any]) -> str:
    """The family whose layers the text model of a multimodal file has; "": it says none."""
    stated = table.get("model_type")
    return TEXT_TYPES.get(stated, stated) if isinstance(stated, str) else ""


def text_model(wrapper: Fields, key: str) -> Fields:
    """The text model of a multimodal file, with every other key of the wrapper accounted for.

    A key of the text model that the wrapper holds, too, must be the same there: it would not be
    clear which is meant.

    Raises:
        InputError: It is not the same.
    """
    table = wrapper.required(key, OBJECT)
    stated = family_of(table) or WRAPPERS.get(wrapper.model_type, "")
    text = wrapper.child(key, model_type=stated)
    if text.model_type != WRAPPERS.get(wrapper.model_type, text.model_type):
        raise text.refused("model_type", f"is not the text model of {wrapper.model_type!r}")
    for name in (*table, *wrapper.keys_matching(_OF_TOWERS)):
        if name in WITHOUT_COST or name in _ACCOUNTED_FOR or not wrapper.holds(name):
            continue
        held = wrapper.optional(name, ANYTHING, None)
        if name in table and held != table[name]:
            raise wrapper.refused(name, f"differs from that of {key}")
    return text
