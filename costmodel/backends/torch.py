"""Plain PyTorch, as the reference models run it: by default a kernel for each operation of a part.

The table holds the parts that take more, which were read once from a trace of the reference models
on an H200 at 64 tokens. `sparsecost validate` compares it with the launches of every recording.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from costmodel.backends.base import Backend
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part

Entry: TypeAlias = int | Callable[[Any, Part], int]
"""Launches of a part: a number, or a function of the layer's configuration and the part.

Of the part it may read `operations` only: sizes may be arrays over many designs.
"""
Entries: TypeAlias = dict[tuple[str, str], Entry]
"""Launches by leaf and name of the part."""

ANGLES, TURN = 6, 8  # of the rotation: once, and for each of queries and keys
ROTARY = ANGLES + 2 * TURN
CACHE_WRITE = 3


KERNELS: dict[str, Entries] = {
    "gqa": {
        ("attention.core", "scores"): (  # with a softcap two products: counted in the code
            lambda layer, _: 8 if layer.sinks else 7 if layer.softcap else 1
        ),
        ("attention.rope", "qk_norm"): lambda _, part: 2 * part.operations,  # a copy, a norm
        ("attention.rope", "value_norm"): 2,
        ("attention.rope", "rotary"): lambda _, part: ANGLES + TURN * part.operations,
        ("attention.rope", "cache_write"): lambda _, part: CACHE_WRITE * part.operations,
    },
    "mla": {
        ("attention.latent_norm", "norm"): lambda _, part: 2 * part.operations,  # a copy, a norm
        ("attention.rope", "rotary"): ROTARY,
        ("attention.rope", "cache_write"): CACHE_WRITE,
        ("attention.v_up", "gemm"): 2,
    },
    "moe": {
        (
            "moe.router",
            "group_choice",
        ): 9,  # top-k in groups 2, sum, top-k of groups 2, mask 3, fill
        ("moe.router", "top_k"): 5,  # top-k 2, weights of the chosen, two casts
        ("moe.router", "weights"): (
            lambda layer, _: 1 if layer.scoring == "softmax_of_chosen" else 2
        ),
        ("moe.experts", "sort"): 6,
        ("moe.experts", "permute"): 2,
        ("moe.experts", "activation"): (
            lambda layer, part: 7 if layer.activation == "clamped_silu" else part.operations
        ),
        ("moe.experts", "combine"): lambda _, part: 2 + part.operations,
        ("moe.experts", "bias"): 4,
    },
    "ultramem": {
        ("memory.retrieve", "merge"): 6,
        ("memory.retrieve", "first_top_m"): 4,
        ("memory.retrieve", "grid"): (  # gather both sides, copies, two products; and of expanded
            # values the division of virtual rows, which ends the retrieval
            lambda layer, _: 7 + (layer.num_heads > 1) + (layer.value_expansion > 1)
        ),
        ("memory.retrieve", "second_top_m"): 2,
        ("memory.retrieve", "permutation"): 8,  # i n + j, permutation, scores of the m rows
        ("memory.retrieve", "scores"): (  # queries of ranks are copied for each of several heads
            lambda layer, _: 2 if layer.num_queries > 1 and layer.num_heads > 1 else 1
        ),
        ("memory.pre_values", "dots"): lambda layer, _: 4 if layer.value_expansion == 1 else 5,
        ("memory.values", "weighted_sum"): (  # virtual rows to rows of the table: a division
            lambda layer, _: (
                19 if layer.output_groups > 1 else 7 if layer.value_expansion == 1 else 8
            )
        ),
    },
    "product_key": {
        ("memory.retrieve", "scores"): 4,
        ("memory.retrieve", "first_top_m"): 4,
        ("memory.retrieve", "second_top_m"): 2,
        ("memory.retrieve", "softmax"): 9,  # indices 6, softmax 1, two casts
        ("memory.values", "weighted_sum"): 2,
    },
    "peer": {
        ("memory.retrieve", "scores"): lambda layer, _: 2 if layer.shared_keys else 4,
        ("memory.retrieve", "first_top_m"): 4,
        ("memory.retrieve", "second_top_m"): 2,
        ("memory.retrieve", "softmax"): lambda layer, _: 11 if layer.table_per_head else 9,
        ("memory.down", "dots"): 2,
        ("memory.up", "weighted_sum"): 2,
    },
    "ngram": {  # counted in the code of the reference model: no recording has the kind yet
        ("ngram.hash", "hash"): lambda layer, _: 2 * layer.max_ngram_size + 4,
        ("ngram.gate", "norms"): 5,  # a copy of the keys; two norms, and their weights
        ("ngram.gate", "gates"): 9,  # product, sum, scale, root 5, sigmoid
        ("ngram.conv", "norm"): 2,
        ("ngram.conv", "taps"): lambda layer, _: layer.conv_kernel + 3,  # window, state, zeros
    },
}
"""By `kind` of the layer: the parts that do not launch one kernel for each operation."""


class Torch(Backend):
    """Plain PyTorch, launched one by one or as a CUDA graph."""

    name = "torch"
    saves_intermediates = False

    def launches(self, operator: Operator, part: Part, tokens: Number) -> int:
        """One for each operation of the part, unless the table says otherwise."""
        del tokens
        layer = operator.layer_kind
        entries = None if layer is None else KERNELS.get(layer.kind)
        if entries is None:
            return part.operations
        entry = entries.get((operator.leaf, part.name), part.operations)
        return entry if isinstance(entry, int) else entry(layer, part)
