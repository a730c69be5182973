"""How a checkpoint stores its weights: the quantisation that its files state, applied to each leaf.

Where the modules that one leaf fuses are stored in several formats, the widest is taken for all of
them, and a note says so. A quantisation that cannot be read is refused.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias

from costmodel.errors import MAX_SHOWN, InputError
from costmodel.inputs.hf.blocks import Blocks
from costmodel.inputs.hf.fields import ANYTHING, OBJECT_OR_NULL, TEXT, Fields
from costmodel.inputs.hf.quantization.compressed_tensors import compressed_tensors
from costmodel.inputs.hf.quantization.floats import MXFP8, fbgemm_fp8, fp8, mxfp4, of_deepseek_v4
from costmodel.inputs.hf.quantization.integers import awq, bitsandbytes, gptq
from costmodel.inputs.hf.quantization.mlx import mlx
from costmodel.inputs.hf.quantization.modelopt import modelopt
from costmodel.inputs.hf.quantization.module_lists import looked_at
from costmodel.inputs.hf.quantization.modules import NAMED_MIXERS, modules_of
from costmodel.inputs.hf.quantization.scheme import Scheme
from costmodel.inputs.hf.quantization.side_file import SIDE_FILE, read_side_file
from costmodel.inputs.tower import TowerFormat
from costmodel.layers.dtype import DTYPES, Dtype
from costmodel.layers.formats import Formats, Group, LeafFormat, Storage
from costmodel.layers.site import layer_pattern

METHODS: Final[dict[str, Callable[[Fields], Scheme]]] = {
    "awq": awq,
    "bitsandbytes": bitsandbytes,
    "compressed-tensors": compressed_tensors,
    "fbgemm_fp8": fbgemm_fp8,
    "fp8": fp8,
    "gptq": gptq,
    "modelopt": modelopt,
    "mxfp4": mxfp4,
}
_MODELOPT: Final = ("modelopt_fp4", "modelopt_fp8", "modelopt_mixed", "nvfp4")  # and so spelt
_UNQUANTISED: Final[dict[str, TowerFormat]] = {"float16": "fp16", "float32": "fp32"}  # else bf16
ByLeaf: TypeAlias = dict[str, dict[int | None, list[Dtype]]]
"""The different formats of the modules of each leaf in each layer (None: beside the layers)."""

_GROUPS: Final[dict[str, Group]] = {  # by the beginning of a leaf's name
    "attention": "attention",
    "ffn": "ffn",
    "moe.router": "router",
    "moe.experts": "experts",
    "moe.shared": "shared_experts",
    "embed": "embedding",
    "lm_head": "lm_head",
}
_WORDS: Final[dict[Group, str]] = {
    "ffn": "FFN",
    "lm_head": "LM head",
    "shared_experts": "shared experts",
}
E8M0_SCALES: Final = ("deepseek_v4", "deepseek_v41_text")  # families of such scales
MAX_NOTES: Final = 4  # on leaves that hold several formats


def read_storage(
    parts: tuple[Fields, ...], path: Path, blocks: Blocks, *, tied: bool
) -> Storage | None:
    """What the files of a model say of its storage; None: nothing.

    Args:
        parts: The objects that may hold the statement: the file's top and its text model.
        path: The file. A `hf_quant_config.json` beside a `config.json` was written when the weights
            were quantised; where the two differ it holds, and a note says so: a config.json may
            still have the statement of the model that it was made from.
        blocks: The layers.
        tied: Whether the LM head is the embedding.

    Raises:
        InputError: A statement cannot be read, or two of the file itself differ.
    """
    default, text = DTYPES[unquantised(parts)], parts[-1]

    def applied(key: str, scheme: Scheme) -> Storage:
        if blocks.model.get("shortcuts"):
            raise InputError(
                f"{parts[0].where}: {key}: is not modelled for experts beside a dense FFN; without"
                " it in the file the format of --dtype is costed"
            )
        own = text.model_type in E8M0_SCALES  # whose tables are known
        memories = [m["kind"] for m in blocks.model.get("memory", ()) if not own]
        streams = ("altup", "laurel", "gated_residual")
        for kind in (*memories, *(kind for kind in streams if kind in blocks.model)):
            raise InputError(  # their modules have no names yet
                f"{parts[0].where}: {key}: is not modelled beside layers of kind {kind!r}; without"
                " it in the file the format of --dtype is costed"
            )
        for table in blocks.attention:
            if table["kind"] not in NAMED_MIXERS:
                raise InputError(
                    f"{parts[0].where}: {key}: is not modelled for layers of kind"
                    f" {table['kind']!r}; without it in the file the format of --dtype is costed"
                )
        return _storage(key, _of_family(scheme, text), blocks, tied=tied, default=default)

    own = [applied(key, scheme) for part in parts for key, scheme in _stated(part)]
    for other in own[1:]:
        if _differ(own[0], other):
            raise InputError(
                f"{parts[0].where}: {own[0].origin}: differs from {other.origin}; remove one of the"
                " two statements"
            )
    side = read_side_file(path, parts[0].model_type)
    if side is None:
        return own[0] if own else None
    storage = applied(SIDE_FILE, modelopt(side))
    if own and _differ(own[0], storage):
        note = f"{SIDE_FILE} holds; it differs from config.json, which says {own[0].origin}."
        storage = replace(storage, notes=(*storage.notes, note))
    return storage


def _of_family(scheme: Scheme, text: Fields) -> Scheme:
    """The scheme as a family changes it."""
    return of_deepseek_v4(scheme, text) if text.model_type in E8M0_SCALES else scheme


def _differ(one: Storage, other: Storage) -> bool:
    return (one.weights, one.kv_dtype) != (other.weights, other.kv_dtype)


def _stated(part: Fields) -> list[tuple[str, Scheme]]:
    """The keys of one object that state a quantisation, and what each says."""
    table = part.optional("quantization", OBJECT_OR_NULL, None)
    config = part.optional("quantization_config", OBJECT_OR_NULL, None)
    older = part.optional("compression_config", OBJECT_OR_NULL, None)
    stated = []
    if table is not None:
        stated.append((f"{part.prefix}quantization", mlx(part.child("quantization"), table)))
    for key, held in (("quantization_config", config), ("compression_config", older)):
        if held is not None and held != table:  # MLX writes its own a second time
            stated.append((f"{part.prefix}{key}", _scheme(part.child(key))))
    return stated


def _scheme(fields: Fields) -> Scheme:
    method = fields.optional("quant_method", TEXT, None)
    if method is None:
        inferred = {
            "quant_algo": "modelopt",
            "config_groups": "compressed-tensors",
            "load_in_4bit": "bitsandbytes",
            "load_in_8bit": "bitsandbytes",
        }
        method = next((name for key, name in inferred.items() if fields.holds(key)), None)
    elif method in _MODELOPT or fields.holds("quant_algo"):
        method = "modelopt"
    if method is None or method not in METHODS:
        raise fields.refused(
            "quant_method",
            f"is not one of {', '.join(METHODS)}; without {fields.prefix.rstrip('.')} in the file"
            " the format of --dtype is costed",
        )
    return METHODS[method](fields)


def unquantised(parts: tuple[Fields, ...]) -> TowerFormat:
    """The format of what is not quantised: fp16 or fp32 where the file says so, else bf16."""
    for part in reversed(parts):
        for key in ("dtype", "torch_dtype"):
            stated = part.optional(key, ANYTHING, None)
            if isinstance(stated, str):
                return _UNQUANTISED.get(stated.removeprefix("torch."), "bf16")
    return "bf16"


def _storage(key: str, scheme: Scheme, blocks: Blocks, *, tied: bool, default: Dtype) -> Storage:
    """A scheme applied to each leaf of each layer."""
    counts = [ffn["num_experts"] for ffn in blocks.ffn if ffn["kind"] == "moe"]
    if scheme.kinds == {"expert"} and not counts:
        raise InputError(f"{key}: {scheme.method}: this model has no experts")
    experts = looked_at(scheme.entries, max(counts)) if counts else set[int]()
    formats: ByLeaf = {}
    for module in modules_of(blocks, tied=tied, experts=sorted(experts)):
        held = formats.setdefault(module.leaf, {}).setdefault(module.layer, [])
        dtype = scheme.dtype_of(module) or default
        if dtype not in held:
            held.append(dtype)
    weights = _formats(formats, default, tied=tied)
    if "hyper_connections" in blocks.model:  # kept in float32: arXiv 2512.24880, section 4.3
        weights = replace(weights, groups=(*weights.groups, ("residual", DTYPES["fp32"])))
    if blocks.model.get("memory"):  # of DeepSeek-V4.1: its rows, and their projection
        rows: tuple[Group, Dtype] = ("memory_values", MXFP8)
        linear: tuple[Group, Dtype] = ("memory_projections", scheme.rules[0].dtype or default)
        weights = replace(weights, groups=(*weights.groups, rows, linear))
    return Storage(
        weights=weights,
        kv_dtype=scheme.kv_dtype,
        origin=f"{key}: {scheme.method}; {_left_alone(formats, default)} in {default.name}",
        notes=(*scheme.notes, *_notes(key, formats)),
        by_default=True,
    )


def _formats(formats: ByLeaf, default: Dtype, *, tied: bool) -> Formats:
    """The widest format of each leaf and layer, stated for a whole group where it has only one."""
    layers_of: dict[str, dict[Dtype, list[int | None]]] = {}
    dtypes_of: dict[Group, set[Dtype]] = {}
    for leaf, by_layer in formats.items():
        for layer, held in by_layer.items():
            dtype = max(held, key=_width)
            layers_of.setdefault(leaf, {}).setdefault(dtype, []).append(layer)
            dtypes_of.setdefault(_group(leaf, tied=tied), set()).add(dtype)
    groups = {group: dtypes.pop() for group, dtypes in dtypes_of.items() if len(dtypes) == 1}
    leaves = [
        LeafFormat(
            leaf=leaf,
            layers=None if len(by_dtype) == 1 else tuple(n for n in layers if n is not None),
            dtype=dtype,
        )
        for leaf, by_dtype in layers_of.items()
        if _group(leaf, tied=tied) not in groups
        for dtype, layers in by_dtype.items()
        if dtype != default
    ]
    return Formats(
        default=default,
        groups=tuple((group, dtype) for group, dtype in groups.items() if dtype != default),
        leaves=tuple(leaves),
    )


def _notes(key: str, formats: ByLeaf) -> Iterator[str]:
    """What is said of leaves that fuse modules of several formats."""
    mixed: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for leaf, by_layer in formats.items():
        for layer, held in by_layer.items():
            if len(held) > 1 and layer is not None:
                names = tuple(sorted(dtype.described for dtype in held))
                mixed.setdefault((leaf, names), []).append(layer)
    for (leaf, names), layers in list(mixed.items())[:MAX_NOTES]:
        pattern = layer_pattern(layers).strip("{}")
        where = f"layers {pattern}" if len(pattern) <= MAX_SHOWN else f"{len(layers)} layers"
        yield (
            f"{key}: {leaf} of {where} holds modules in {' and in '.join(names)}; all are costed in"
            " the widest."
        )
    if len(mixed) > MAX_NOTES:
        yield f"{key}: {len(mixed) - MAX_NOTES} more leaves hold modules in several formats."


def _group(leaf: str, *, tied: bool) -> Group:
    """The group of a leaf's matrices, as the cost model has it."""
    if tied and leaf == "lm_head":
        return "embedding"
    return next(group for start, group in _GROUPS.items() if leaf.startswith(start))


def _width(dtype: Dtype) -> float:
    """Bits of an element with its share of a group's scale and zero point."""
    rows = dtype.block_rows or 1
    return dtype.bits + (dtype.scale_bits + dtype.zero_bits) / ((dtype.group or 2**16) * rows)


def _left_alone(formats: ByLeaf, default: Dtype) -> str:
    """The groups of weights of which nothing is quantised, in words."""
    quantised: dict[Group, bool] = {}
    for leaf, by_layer in formats.items():
        group = _group(leaf, tied=False)
        is_here = any(dtype != default for held in by_layer.values() for dtype in held)
        quantised[group] = quantised.get(group, False) or is_here
    left = [
        _WORDS.get(group, group) for group, is_quantised in quantised.items() if not is_quantised
    ]
    return ", ".join(left) or "norms"
