"""Memory layers of the backend `fused`: their kernels, the regions of these, sizes without kernels.

UltraMem, PKM, Memory+ and PEER take the same chain (`reference_model/kernels/memory.py`).
"""

from collections.abc import Sequence

import numpy as np

from costmodel.backends.base import Branch
from costmodel.layers.base import MemoryKind
from costmodel.layers.numbers import Number, larger
from costmodel.layers.operator import Operator, Part
from costmodel.layers.peer import Peer
from costmodel.layers.product_key import ProductKey
from costmodel.layers.ultramem import UltraMem
from costmodel.layers.ultramem_retrieve import first_kept

QUERY, RETRIEVE = "memory.query", "memory.retrieve"
PRE_PROJECTION, GATE = "memory.pre_projection", "memory.gate"  # parts of the query's product
FIRST_LAUNCHES = ("scores", "merge", "grid")  # parts of a retrieval that begin a kernel
PRODUCT_LAUNCHES = ("scores", "first_top_m", "grid")  # of product keys
FEW_ROWS = 32  # of one head, which the kernel that chooses them reads
SEARCH = (RETRIEVE, "memory.pre_values", "memory.values")  # what may run beside a dense FFN
BESIDE = ("ffn.gate_up", "ffn.down")
MEMORY_KINDS = (UltraMem, ProductKey, Peer)
PART_TOKENS = 2048  # of many, that are searched for together
MOST_KEYS = 2**15  # scores that a block of the choice holds: of a side,
MOST_KEPT = 128  # and of a grid, 128 x 128
MOST_READS = 1024  # rows that a block ranks
MOST_WIDTH = 4096  # elements of a row
MOST_SUM = 2**14  # elements of all sums of a token's rows
MOST_CORE = 64  # multiply-adds of a point: loops over them are unrolled
MULTIPLE = 8  # elements of 16 bytes, which a tensor descriptor's rows are a multiple of

MEMORY_SPANS = (
    ("ffn_norm", QUERY),
    ("ffn_norm", QUERY, PRE_PROJECTION),
    ("ffn_norm", QUERY, GATE),
    (QUERY, PRE_PROJECTION),
    (QUERY, GATE),
    (RETRIEVE, "memory.values"),
    (RETRIEVE, "memory.pre_values", "memory.values"),
    ("memory.pre_values", "memory.values"),
    ("memory.down", "memory.up"),
)


def memory_joins(members: Sequence[Operator], layer: MemoryKind, tokens: int) -> bool:
    """Whether leaves of a memory layer, and the norm before it, form a region at N tokens."""
    first = members[0].leaf
    if first == RETRIEVE:
        return reads_at_once(layer) and len(members) == 2 + _has_pre_values(layer)
    if first == "memory.pre_values":
        return not reads_at_once(layer)
    projects_more = _has_pre_values(layer) or (isinstance(layer, ProductKey) and layer.gate)
    normed = tokens == 1 and layer.in_place_of_ffn  # else the norm is the FFN's
    if first == "ffn_norm":
        return normed and len(members) == 2 + projects_more
    return first == "memory.down" or not normed


def memory_launches(operator: Operator, layer: MemoryKind, part: Part, tokens: Number) -> Number:
    """Kernels that a part begins: 1 or 0, and of many tokens as many as there are parts of them.

    Neurons (PEER) of one token have their norm apart.
    """
    leaf = operator.leaf
    if leaf == RETRIEVE:
        begins = FIRST_LAUNCHES if isinstance(layer, UltraMem) else PRODUCT_LAUNCHES
        count = 1 if part.name == "scores" else _parts(tokens)
        return count if part.name in begins else 0
    if leaf in {PRE_PROJECTION, GATE, "memory.up"} or part is not operator.parts[0]:
        return 0
    if leaf == QUERY and isinstance(layer, Peer):
        return (
            1 + np.where(tokens == 1, 1, 0) if isinstance(tokens, np.ndarray) else 1 + (tokens == 1)
        )
    if leaf in {"memory.pre_values", "memory.values"}:
        elsewhere = leaf == "memory.values" and _has_pre_values(layer)
        count = _parts(tokens) if _has_output(layer) else 1
        return 0 if elsewhere or reads_at_once(layer) else count
    return 1


def memory_branches(operators: Sequence[Operator], branches: Number) -> list[Branch]:
    """Searches that run beside the dense FFNs of their blocks.

    Of a layer without an output product the last kernel is not part of the branch: it adds its rows
    to the stream.

    Args:
        operators: Of a step.
        branches: Whether its layers branch at all: 1 or 0.

    Source: reference_model/fused/step.py.
    """
    found = []
    for retrieve in operators:
        if retrieve.leaf != RETRIEVE or not isinstance(retrieve.layer_kind, MEMORY_KINDS):
            continue
        layers = set(retrieve.layers)
        beside = [each for each in operators if each.leaf in BESIDE and layers & set(each.layers)]
        shared = layers.intersection(*(each.layers for each in beside))
        leaves = SEARCH if _has_output(retrieve.layer_kind) else SEARCH[:1]
        search = [each for each in operators if each.leaf in leaves and layers & set(each.layers)]
        if beside and shared:
            found.append(
                Branch(operators=tuple(search), beside=tuple(beside), layers=len(shared) * branches)
            )
    return found


def _parts(tokens: Number) -> Number:
    """How many parts of a step's tokens are searched for by themselves.

    Source: reference_model/kernels/memory.py, measured on an H200.
    """
    return larger(tokens // PART_TOKENS, 1)


def _has_output(layer: MemoryKind) -> bool:
    """Whether a product follows the sum of the rows; else the stream gets the sum at once."""
    return isinstance(layer, UltraMem) or (
        isinstance(layer, ProductKey) and layer.output_projection
    )


def reads_at_once(layer: MemoryKind) -> bool:
    """Whether one kernel chooses a token's rows and reads them.

    Source: reference_model/kernels/memory_grid.py, measured on an H200.
    """
    if isinstance(layer, UltraMem):
        return layer.num_heads == 1 and layer.knn <= FEW_ROWS
    assert isinstance(layer, ProductKey | Peer)
    return _has_output(layer) and layer.num_heads == 1 and layer.knn <= FEW_ROWS


def _has_pre_values(layer: MemoryKind) -> bool:
    return isinstance(layer, UltraMem) and layer.pre_value_dim is not None


def memory_refusal(operator: Operator) -> str | None:
    """Why there are no kernels for a memory layer, given its retrieval; None: there are."""
    layer = operator.layer_kind
    if isinstance(layer, UltraMem):
        keys = layer.row_keys(operator.count) * layer.value_expansion
        kept = first_kept(layer.first_stage_topk, layer.knn, keys)
        return _tucker_refusal(layer) or _sizes_refusal(layer, keys, kept)
    assert isinstance(layer, ProductKey | Peer)
    if isinstance(layer, Peer) and ":" in layer.layers:
        return f"has no kernels for PEER layers whose output skips blocks (layers={layer.layers})"
    return _sizes_refusal(layer, layer.num_keys, min(layer.knn, layer.num_keys))


def _tucker_refusal(layer: UltraMem) -> str | None:
    core = layer.tucker_rank**2 * layer.tucker_cores
    if core > MOST_CORE:
        return f"needs tucker_rank^2 tucker_cores of at most {MOST_CORE}, not {core}"
    total = layer.output_groups * layer.value_dim
    if total > MOST_SUM:
        return f"needs at most {MOST_SUM} elements in all groups of values, not {total}"
    return None


def _sizes_refusal(layer: UltraMem | ProductKey | Peer, keys: int, kept: int) -> str | None:
    if layer.key_dim % MULTIPLE:
        return f"needs key_dim to be a multiple of {MULTIPLE}, not {layer.key_dim}"
    widths = [layer.value_dim] if isinstance(layer, UltraMem | ProductKey) else []
    if isinstance(layer, UltraMem) and layer.pre_value_dim is not None:
        widths.append(layer.pre_value_dim)
    for what, size, most in (
        ("keys a side", keys, MOST_KEYS),
        ("lines and columns of a grid", kept, MOST_KEPT),
        ("rows read a head (knn)", layer.knn, MOST_READS),
        ("elements in a row", max(widths, default=0), MOST_WIDTH),
    ):
        if size > most:
            return f"has kernels for at most {most} {what}, not {size}"
    return None
