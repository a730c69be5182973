"""The vision tower and projector of a multimodal config.json, counted from their sizes.

They are resident weights: no text step reads them. A tower whose file leaves a size out, holds a
key that is not understood, or is of another family, is left out, and a note says so.
Source of the shapes: the models of these families in transformers 5.24, of which
`tests/inputs/hf/test_towers.py` holds the counts.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any, Final, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter

from costmodel.errors import InputError
from costmodel.inputs.hf.fields import (
    ANYTHING,
    COUNT,
    FLAG,
    INDICES_OR_NULL,
    LAYERS,
    TEXT,
    WIDTH,
    Fields,
)
from costmodel.inputs.hf.ignored_keys import ONE_VALUE, WITHOUT_COST
from costmodel.inputs.tower import Tower, TowerFormat
from costmodel.layers.base import MAX_LAYERS
from costmodel.strict import validated

VISION: Final = "vision_config"
VISION_WITHOUT_COST: Final = WITHOUT_COST | {
    "fullatt_block_indexes",  # which blocks look at the whole image
    "head_dim",  # projections are square: heads split the width
    "hidden_act",
    "is_composition",
    "num_attention_heads",
    "num_heads",
    "projection_dim",  # of CLIP's own embedding, which a language model does not use
    "rope_parameters",
    "spatial_patch_size",
    "tie_word_embeddings",  # a tower has none
    "tokens_per_second",
    "vocab_size",
    "window_size",
}
_LAYER_OR_LAYERS: Final[TypeAdapter[int | list[int]]] = TypeAdapter(
    int | Annotated[list[int], Field(min_length=1, max_length=MAX_LAYERS, fail_fast=True)],
    config=ConfigDict(strict=True),
)
_OF_SOUND: Final = re.compile(r"^(audio|speech)\w*_config$", re.ASCII)
Counts: TypeAlias = dict[str, int]
"""Parameters by the name of a tower or projector."""


def read_towers(
    top: Fields, text_hidden_size: int, dtype: TowerFormat, *, quantised: bool
) -> list[dict[str, Any]]:
    """The towers of a multimodal file as tables of `Tower`; none where they cannot be counted.

    Notes of `top` say what is counted and what is left out.

    Args:
        top: The file, whose text model was read already.
        text_hidden_size: D of the text model, to which a projector leads.
        dtype: The format of what the file does not quantise.
        quantised: Whether the file quantises its text model.
    """
    try:
        counts = _counted(top, text_hidden_size)
        towers = [
            {"name": name, "parameters": parameters, "dtype": dtype}
            for name, parameters in counts.items()
        ]
        for tower in towers:
            validated(Tower, tower, where=VISION)
    except InputError as error:
        reason = str(error).removeprefix(f"{top.where}: ")
        top.notes.append(
            "The text model alone is costed; towers (vision, audio) and their projectors are left"
            f" out: {reason}."
        )
        return []
    listed = " and ".join(f"{name} ({count:,} parameters)" for name, count in counts.items())
    top.notes.append(
        f"The text model alone is costed; {listed} are resident in {dtype}, and no step reads them."
        + (" They are taken to be left out of the file's quantisation." if quantised else "")
        + "".join(f" {key} is left out." for key in top.keys_matching(_OF_SOUND))
    )
    return towers


def _counted(top: Fields, text_hidden_size: int) -> Counts:
    """The parameters of tower and projector.

    Raises:
        InputError: They do not follow from the file.
    """
    if top.model_type not in TOWERS:
        raise InputError(f"those of model_type {top.model_type!r} are not counted")
    vision = top.child(VISION)
    counts = TOWERS[top.model_type](top, vision, text_hidden_size)
    vision.only(ONE_VALUE, unless_read=True)
    vision.finish(VISION_WITHOUT_COST)
    return counts


def _linear(inputs: int, outputs: int, *, bias: bool = True) -> int:
    return inputs * outputs + (outputs if bias else 0)


def _layer_norm(width: int) -> int:
    return 2 * width


def _blocks(vision: Fields, depth: str, *, gated: bool, bias: bool, layer_norms: bool) -> int:
    """Blocks of full attention with square projections, and a plain or gated FFN.

    `depth` is the key of their number; without `layer_norms` their two norms are RMSNorms.
    """
    width, inner = (
        vision.required("hidden_size", WIDTH),
        vision.required("intermediate_size", WIDTH),
    )
    attention = 4 * _linear(width, width, bias=bias)
    ffn = (2 if gated else 1) * _linear(width, inner, bias=bias) + _linear(inner, width, bias=bias)
    norms = 2 * (_layer_norm(width) if layer_norms else width)
    return vision.required(depth, LAYERS) * (attention + ffn + norms)


def _patch(vision: Fields) -> int:
    """The values of a patch of one image."""
    channels = vision.optional("in_channels", COUNT, 3, also=("in_chans", "num_channels"))
    return channels * vision.required("patch_size", COUNT) ** 2


def _patches(vision: Fields) -> int:
    """The patches of a square image, each of which has a position."""
    return int((vision.required("image_size", WIDTH) // vision.required("patch_size", COUNT)) ** 2)


def _qwen3_vl(_: Fields, vision: Fields, text_hidden_size: int) -> Counts:
    """Patches with a bias, trained positions; a merger at the end and of each deepstack layer."""
    width = vision.required("hidden_size", WIDTH)
    frames = vision.required("temporal_patch_size", COUNT)
    positions = vision.required("num_position_embeddings", WIDTH) * width
    blocks = _blocks(vision, "depth", gated=False, bias=True, layer_norms=True)
    merged, projections = _merger(vision, text_hidden_size)
    deep = len(vision.required("deepstack_visual_indexes", INDICES_OR_NULL) or [])
    return {
        "vision tower": _linear(frames * _patch(vision), width) + positions + blocks,
        "mergers": _layer_norm(width) + projections + deep * (_layer_norm(merged) + projections),
    }


def _qwen2_5_vl(_: Fields, vision: Fields, text_hidden_size: int) -> Counts:
    """Patches without a bias, rotated positions; one merger behind an RMSNorm."""
    width = vision.required("hidden_size", WIDTH)
    frames = vision.required("temporal_patch_size", COUNT)
    blocks = _blocks(vision, "depth", gated=True, bias=True, layer_norms=False)
    return {
        "vision tower": _linear(frames * _patch(vision), width, bias=False) + blocks,
        "merger": width + _merger(vision, text_hidden_size)[1],
    }


def _merger(vision: Fields, text_hidden_size: int) -> tuple[int, int]:
    """The width of the patches that a merger joins, and the parameters of its two projections."""
    out = vision.required("out_hidden_size", WIDTH)
    if out != text_hidden_size:
        raise vision.refused("out_hidden_size", f"differs from {text_hidden_size} of the text")
    merge = vision.required("spatial_merge_size", COUNT)
    merged = vision.required("hidden_size", WIDTH) * merge**2
    return merged, _linear(merged, merged) + _linear(merged, out)


def _llava(top: Fields, vision: Fields, text_hidden_size: int) -> Counts:
    """A tower of CLIP, SigLIP or Pixtral, and a projector."""
    projector = _projector(top, vision, text_hidden_size, bias=True)
    return {"vision tower": _tower(vision), "projector": projector}


def _mistral3(top: Fields, vision: Fields, text_hidden_size: int) -> Counts:
    """A tower of Pixtral; the projector norms the patches and merges neighbours first."""
    width, merge = vision.required("hidden_size", WIDTH), top.required("spatial_merge_size", COUNT)
    merger = width + _linear(width * merge**2, width, bias=False)
    projector = _projector(top, vision, text_hidden_size, bias=False)
    return {"vision tower": _tower(vision), "projector": merger + projector}


def _gemma3(_: Fields, vision: Fields, text_hidden_size: int) -> Counts:
    """A tower of SigLIP; the projector is a norm and one matrix without a bias."""
    width = vision.required("hidden_size", WIDTH)
    projector = width + _linear(width, text_hidden_size, bias=False)
    return {"vision tower": _tower(vision), "projector": projector}


def _projector(top: Fields, vision: Fields, text_hidden_size: int, *, bias: bool) -> int:
    """Two projections; the first takes the patches of one layer of the tower, or of several."""
    bias = top.optional("multimodal_projector_bias", FLAG, default=bias)
    layers = top.optional("vision_feature_layer", _LAYER_OR_LAYERS, -1)
    width = vision.required("hidden_size", WIDTH) * (1 if isinstance(layers, int) else len(layers))
    first = _linear(width, text_hidden_size, bias=bias)
    return first + _linear(text_hidden_size, text_hidden_size, bias=bias)


def _tower(vision: Fields) -> int:
    """A tower of the family that it states."""
    stated = vision.required("model_type", TEXT)
    if stated not in BY_TYPE:
        raise vision.refused("model_type", f"is not one of {', '.join(BY_TYPE)}")
    return BY_TYPE[stated](vision)


def _clip(vision: Fields) -> int:
    """A class token beside the patches, a norm before the blocks and one behind them."""
    width = vision.required("hidden_size", WIDTH)
    tokens = width + (_patches(vision) + 1) * width  # the class token, and each one's position
    blocks = _blocks(vision, "num_hidden_layers", gated=False, bias=True, layer_norms=True)
    return _linear(_patch(vision), width, bias=False) + tokens + 2 * _layer_norm(width) + blocks


def _siglip(vision: Fields) -> int:
    """Patches with a bias, and a norm behind the blocks."""
    width = vision.required("hidden_size", WIDTH)
    if vision.optional("vision_use_head", FLAG, default=True):
        raise vision.refused("vision_use_head", "a tower with a pooling head is not counted")
    blocks = _blocks(vision, "num_hidden_layers", gated=False, bias=True, layer_norms=True)
    positions = _patches(vision) * width
    return _linear(_patch(vision), width) + positions + blocks + _layer_norm(width)


def _pixtral(vision: Fields) -> int:
    """A norm before the blocks; positions are rotated, so that an image may have any size."""
    width = vision.required("hidden_size", WIDTH)
    vision.optional("image_size", ANYTHING, None)
    blocks = _blocks(vision, "num_hidden_layers", gated=True, bias=False, layer_norms=False)
    return _linear(_patch(vision), width, bias=False) + width + blocks


BY_TYPE: Final[dict[str, Callable[[Fields], int]]] = {
    "clip_vision_model": _clip,
    "pixtral": _pixtral,
    "siglip_vision_model": _siglip,
}
TOWERS: Final[dict[str, Callable[[Fields, Fields, int], Counts]]] = {
    "gemma3": _gemma3,
    "llava": _llava,
    "mistral3": _mistral3,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "qwen3_vl_moe": _qwen3_vl,
}
