"""Seconds of one part of an operator: a few parameters for each family of kernels.

A part with a shape belongs to the family of its shape, one without to that of its kind. Each family
is affine where physics is: launches at a fixed cost, then the work. Work that overlaps (bytes
streamed, FLOPs, a serial chain) counts as the 3-norm of its times, which is a little more than the
longest. No parameter is a table, so a new layer kind has a time without an entry here.

Parameters are seconds, bytes/s and FLOP/s by name (`gemm.hbm_bytes_per_s`); they are fitted on
measured leaves (`profiler/calibrate/leaves/fit.py`). Numbers or arrays come in and go out.
"""

from collections.abc import Mapping
from math import ceil, log2
from typing import Any, TypeAlias

import numpy as np

from costmodel.backends.fused import few
from costmodel.backends.torch_passes import multi_block
from costmodel.layers.kernel_shape import Attend, Gemm, Grouped, Rows, TopK
from costmodel.layers.numbers import Number, larger, smaller
from costmodel.layers.operator import Part

Parameters: TypeAlias = Mapping[str, float]

TILE, STEP = 64, 64  # rows of a tile of a product; elements of k in a step of it
COLUMNS = 128  # columns of a tile, keys of a tile of attention
FILLING, JOINED = 256, 64  # blocks that fill a GPU; slices and query heads that one joins
SPLITS = 8  # blocks that share a product's k at most
SMALL_GATHER = 16  # rows up to which PyTorch's index_select copies them one after another
USUAL_HEAD = 128  # elements of a head up to which several blocks fit on a multiprocessor
WIDE_HEAD = 256  # elements of a head beyond which PyTorch has no flash kernel
WIDE_ROWS = 32  # queries and heads of a block of the kernel that it takes then
JOINED_PROMPT = 3  # launches of a prompt whose keys and values differ in width, joins among them
HIGHEST = 128  # rows of a tile of a product with an activation
FEW_TOKENS = 512  # rows up to which a product with an activation is one kernel
ROUTED = 8  # experts that a block of a router by tokens multiplies at most
ROTATED = frozenset({"rotary", "qk_norm", "value_norm", "cache_write"})
GRID_SEARCH = "second_top_m"  # of a memory layer: over the grid of both halves' best
COMBINED = "combine"  # experts' results pass through memory in every backend
ACTIVATION = "activation"  # of an FFN: PyTorch's two kernels, or one of fused prompts
ALIGNED = 16  # elements that a product's k is a multiple of where cuBLAS takes its usual kernels
UNALIGNED_FROM = 64  # rows beyond which it matters
OVERLAP = 3  # of the norm that adds what overlaps


def part_s(p: Parameters, part: Part, *, launches: Number, tokens: Number, keeps: bool) -> Number:
    """Seconds of one part with the launches that it begins.

    Args:
        p: Parameters of a backend on a GPU.
        part: Its bytes, FLOPs and shape.
        launches: Kernels that begin at the part; 0: the kernel of the part before does it too.
        tokens: N of the step.
        keeps: Whether what passes between parts stays on the chip.
    """
    shape = part.shape
    if shape is None:
        return _moved_s(p, part, launches, tokens, keeps=keeps)
    if isinstance(shape, Gemm):
        return _product_s(p, part, shape, launches, keeps=keeps)
    if isinstance(shape, Grouped):
        return _grouped_s(p, part, shape, launches, tokens, keeps=keeps)
    if isinstance(shape, Rows):
        return _rows_s(p, part, shape, launches, tokens, keeps=keeps)
    if isinstance(shape, TopK):
        return _top_s(p, part, shape, launches, keeps=keeps)
    return _attend_s(p, part, shape, launches, keeps=keeps)


def _together(*seconds: Number) -> Number:
    """Seconds of work that overlaps."""
    total: Number = 0.0
    for each in seconds:
        total = total + each**OVERLAP
    return total ** (1 / OVERLAP)


def _where(condition: Any, yes: Number, no: Number) -> Number:  # noqa: ANN401
    return (
        np.where(condition, yes, no)
        if isinstance(condition, np.ndarray)
        else yes
        if condition
        else no
    )


def _ceil(a: Number, b: Number) -> Number:
    return -(-a // b)


def _quantised(p: Parameters, family: str, blocks: Number) -> Number:
    """Waves of blocks over the multiprocessors: between as many as fit and whole ones.

    At least one block's share; `<family>.whole` of 1 means whole waves, 0 that blocks fill gaps.
    """
    waves = blocks / p["multiprocessors"]
    share = p[family + ".whole"]
    return (1 - share) * waves + share * _ceil(blocks, p["multiprocessors"])


def _moved_s(p: Parameters, part: Part, launches: Number, tokens: Number, *, keeps: bool) -> Number:
    """Elementwise work: compulsory bytes from HBM, activations from L2 as far as it holds them."""
    kind: str = part.kind
    if part.name in ROTATED:
        kind = "rope"
    elif part.name == ACTIVATION:
        kind = ACTIVATION
    if kind + ".launch_s" not in p:
        kind = "elementwise"
    warm = part.activation_bytes
    if not keeps or part.name == COMBINED:
        warm = warm + part.intermediate_bytes
    held = larger(launches, 1) * p["l2_bytes"]
    seconds = (
        launches * p[kind + ".launch_s"]
        + (part.compulsory_bytes + larger(warm - held, 0)) / p[kind + ".hbm_bytes_per_s"]
        + smaller(warm, held) / p[kind + ".l2_bytes_per_s"]
    )
    if kind == "rope":  # blocks for each token; a norm over all heads goes through its elements
        elements = part.weight_bytes / 2
        each_s = tokens * p["rope.token_s"] + elements * p["rope.element_s"]
        return seconds + smaller(launches, 1) * each_s
    if kind == "norm":  # a block has a row, whose elements its threads take in turn
        return seconds + launches * (part.weight_bytes / 2) * p["norm.element_s"]
    if kind == "gather":
        return (
            seconds + launches * _where(tokens <= SMALL_GATHER, tokens, 0) * p["gather.small_row_s"]
        )
    return seconds


def _product_s(p: Parameters, part: Part, shape: Gemm, launches: Number, *, keeps: bool) -> Number:
    """A dense product; families of their own: of one row, and of a fused router by tokens.

    A kernel that does an activation too (`keeps`) has tiles of its own up to 512 rows
    (reference_model/kernels/tiles.py); beyond, and without one, products are cuBLAS's.
    """
    if keeps and part.name == "gemm" and part.routing:
        ranked = few(shape.m, shape.n)
        if np.all(ranked):
            return _ranks_s(p, part, shape, launches)
        if np.any(ranked):
            tiles = _gemm_s(p, "gemm", part, shape, launches)
            return _where(ranked, _ranks_s(p, part, shape, launches), tiles)
    gated = keeps and not part.routing and np.any(part.inner_output_bytes)
    one, tiled = shape.m == 1, (shape.m <= FEW_TOKENS) & gated
    if not isinstance(one, np.ndarray):
        if one:
            return _one_row_s(p, part, shape, launches, keeps=keeps)
        return _gemm_s(p, "tiled" if tiled else "gemm", part, shape, launches)
    return np.where(
        one,
        _one_row_s(p, part, shape, launches, keeps=keeps),
        np.where(
            tiled,
            _gemm_s(p, "tiled", part, shape, launches),
            _gemm_s(p, "gemm", part, shape, launches),
        ),
    )


def _one_row_s(p: Parameters, part: Part, shape: Gemm, launches: Number, *, keeps: bool) -> Number:
    """A product of one row: cuBLAS's, or a fused kernel without the matrix unit.

    That kernel's blocks hold whole rows of the weight in registers, each padded to a power of two
    (reference_model/kernels/linear.py).
    """
    if not keeps:
        return _gemm_s(p, "gemv", part, shape, launches)
    return _whole_rows_s(p, part, shape.n, shape.k, launches, p["row.launch_s"])


def _whole_rows_s(  # noqa: PLR0917 - one formula for dense products and experts
    p: Parameters, part: Part, rows: Number, k: Number, launches: Number, launch_s: float
) -> Number:
    """Rows of a weight, each held whole by a block and padded to a power of two, once streamed."""
    padded = _power_of_two(k)
    held = rows * (p["row.row_s"] + padded * p["row.element_s"])
    streamed = part.compulsory_bytes / p["row.hbm_bytes_per_s"]
    begun = smaller(launches, 1) * (launch_s + padded * p["row.padded_s"])
    return begun + _together(held, streamed)


def _power_of_two(k: Number) -> Number:
    """The least power of two that is not less."""
    if isinstance(k, np.ndarray):
        power: Number = np.exp2(np.ceil(np.log2(k.astype(float))))
        return power
    return float(2 ** ceil(log2(k)))


def _ranks_s(p: Parameters, part: Part, shape: Gemm, launches: Number) -> Number:
    """A router by blocks of a token and a few experts; the last block of a token ranks all pairs.

    A block multiplies gcd(E, 8) experts (reference_model/kernels/router_tokens.py). Beside what all
    tokens share there is the chain of one token's ranks.
    """
    pairs = shape.n * shape.n
    joined = np.gcd(np.asarray(shape.n, dtype=int), ROUTED)
    blocks: Number = shape.m * shape.n / (joined if joined.ndim else int(joined))
    work: Number = blocks * p["ranks.block_s"] + part.flops / p["ranks.flops_per_s"]
    ranks = shape.m * pairs * p["ranks.pair_s"] + pairs * p["ranks.chain_s"]
    return launches * p["ranks.launch_s"] + work + ranks


def _gemm_s(p: Parameters, family: str, part: Part, shape: Gemm, launches: Number) -> Number:
    """Tiles in waves, each a chain of steps over k, which several blocks may share (split-K)."""
    m, n, k = shape.m, shape.n, shape.k
    step_s: Number = p[family + ".step_s"]
    if family == "tiled":  # a tile is as high as the rows need
        step_s = step_s + smaller(m, HIGHEST) * p["tiled.row_step_s"]
    chain = smaller(launches, 1) * k / STEP * step_s
    chain = smaller(chain, p[family + ".split_s"] + chain / SPLITS)
    streamed = part.compulsory_bytes / p[family + ".hbm_bytes_per_s"]
    streamed = streamed + part.activation_bytes / p["l2_bytes_per_s"]
    blocks = _ceil(m, TILE) * _ceil(n, COLUMNS)
    tile_flops = 2.0 * TILE * COLUMNS * k * p["multiprocessors"]
    computed = _quantised(p, family, blocks) * tile_flops / p[family + ".flops_per_s"]
    work = _together(chain, streamed, shape.calls * computed)
    if family == "gemm":
        unaligned = (k % ALIGNED != 0) & (m > UNALIGNED_FROM)
        work = work * _where(unaligned, 1 + p["gemm.unaligned"], 1.0)
    return smaller(launches, 1) * p[family + ".launch_s"] + work


def _grouped_s(
    p: Parameters, part: Part, shape: Grouped, launches: Number, tokens: Number, *, keeps: bool
) -> Number:
    """Products of experts; fused ones of one token hold whole rows, as dense ones do."""
    one = keeps & (tokens == 1)
    tiled = _tiles_s(p, part, shape, launches)
    if not np.any(one):
        return tiled
    rows = shape.groups * shape.n
    held = _whole_rows_s(p, part, rows, shape.k, launches, p["grouped.launch_s"])
    return _where(one, held, tiled)


def _tiles_s(p: Parameters, part: Part, shape: Grouped, launches: Number) -> Number:
    """Whole tiles of each group's rows, weights streamed once.

    A group of r expected rows has r / 64 + 1/2 tiles, and at least one.
    """
    tiles = shape.groups * larger(1, shape.rows / shape.groups / TILE + 0.5)
    flops = 2.0 * TILE * tiles * shape.n * shape.k
    streamed = part.compulsory_bytes / p["grouped.hbm_bytes_per_s"]
    streamed = streamed + 2.0 * shape.rows * (shape.n + shape.k) / p["l2_bytes_per_s"]
    chain = shape.k / STEP * p["grouped.step_s"]
    work = _together(chain, streamed, flops / p["grouped.flops_per_s"])
    return launches * p["grouped.launch_s"] + work


def _rows_s(
    p: Parameters, part: Part, shape: Rows, launches: Number, tokens: Number, *, keeps: bool
) -> Number:
    """Random rows of a table. A bag that is summed is read one row after another.

    Dot products with rows (`dots`) gather them first, in parallel.
    """
    moved = shape.reads * shape.row_bytes
    if part.name == "dots":
        warm = 0 if keeps else part.intermediate_bytes
        work = moved / p["dots.bytes_per_s"] + warm / p["l2_bytes_per_s"]
        return launches * p["dots.launch_s"] + work + shape.reads * p["rows.read_s"]
    row_s = p["rows.row_s"] + shape.row_bytes * p["rows.byte_s"]
    chain = shape.reads / tokens * row_s
    work = _together(chain, moved / p["rows.bytes_per_s"] + shape.reads * p["rows.read_s"])
    return launches * p["rows.launch_s"] + work


def _top_s(p: Parameters, part: Part, shape: TopK, launches: Number, *, keeps: bool) -> Number:
    """A search in each row, rows in parallel; PyTorch takes several blocks a row beyond a width.

    Points of a grid of scores (`points`) are computed where they are searched if nothing passes
    through memory, over a grid whose sides are padded to powers of two
    (reference_model/kernels/memory_grid.py). A fused search compares all that survive with one
    another (reference_model/kernels/top.py).
    """
    points = keeps and part.name == GRID_SEARCH
    family, width = ("points", _padded_grid(shape.width)) if points else ("top", shape.width)
    searched = width * p[family + ".element_s"] + shape.chosen * p["top.chosen_s"]
    row_s = p[family + ".row_s"] + width / p[family + ".elements_per_s"]
    if keeps:
        row_s = row_s + shape.chosen**2 / p["top.pairs_per_s"]
    work = _together(searched, shape.rows * row_s)
    if not keeps:
        work = work + _where(multi_block(shape.rows, shape.width), p["top.several_s"], 0.0)
    return launches * p["top.launch_s"] + shape.calls * (work + p["top.begin_s"])


def _padded_grid(points: Number) -> Number:
    """Points of a square grid of so many, with each side padded to a power of two."""
    if isinstance(points, np.ndarray):
        grid: Number = 4.0 ** np.ceil(np.log2(points.astype(float)) / 2)
        return grid
    return float(4 ** ceil(log2(points) / 2))


def _attend_s(p: Parameters, part: Part, shape: Attend, launches: Number, *, keeps: bool) -> Number:
    """The core of attention: decode streams keys and values, a prompt multiplies."""
    many = shape.queries > 1
    if not isinstance(many, np.ndarray):
        if many:
            return _prompt_s(p, part, shape, launches)
        return _decode_s(p, part, shape, launches, keeps=keeps)
    decode = _decode_s(p, part, shape, launches, keeps=keeps)
    return np.where(many, _prompt_s(p, part, shape, launches), decode)


def _decode_s(p: Parameters, part: Part, shape: Attend, launches: Number, *, keeps: bool) -> Number:
    """One query, by the kernels of its width of heads."""
    head = shape.head_dim
    if not isinstance(head, np.ndarray):
        family = "wide" if head > WIDE_HEAD else "broad" if head > USUAL_HEAD else "decode"
        return _query_s(p, family, part, shape, launches, keeps=keeps)
    wide, broad, usual = (
        _query_s(p, family, part, shape, launches, keeps=keeps)
        for family in ("wide", "broad", "decode")
    )
    return np.where(head > WIDE_HEAD, wide, np.where(head > USUAL_HEAD, broad, usual))


def _query_s(
    p: Parameters, family: str, part: Part, shape: Attend, launches: Number, *, keeps: bool
) -> Number:
    """A block walks over the keys of a head in whole tiles, or several share them."""
    if family == "wide" and not keeps:
        return _wide_s(p, part, shape, launches)
    blocks = shape.batch * shape.kv_heads
    tiles = _ceil(shape.keys, COLUMNS)
    tile_s = (shape.head_dim / COLUMNS) * p[family + ".tile_s"]
    if keeps:
        slices = _slices(shape)
        at_once = p["multiprocessors"] * (2 if family == "decode" else 1)  # blocks: registers
        waves = _ceil(blocks * smaller(slices, tiles), at_once)
        alone = _ceil(tiles, slices) * tile_s * waves
        alone = shared = alone + _where(slices > 1, p[family + ".split_s"], 0.0)
    else:
        alone = tiles * tile_s * larger(1, _quantised(p, family, blocks))
        shared = p[family + ".split_s"] + tiles * tile_s * smaller(1, blocks / p["multiprocessors"])
    streamed = part.compulsory_bytes / p[family + ".hbm_bytes_per_s"]
    computed = 4.0 * blocks * (shape.heads / shape.kv_heads) * shape.keys * shape.head_dim
    work = _together(smaller(alone, shared), streamed, computed / p[family + ".flops_per_s"])
    return launches * p[family + ".launch_s"] + work


def _wide_s(p: Parameters, part: Part, shape: Attend, launches: Number) -> Number:
    """PyTorch's memory-efficient kernel: a block walks over all keys, whatever a head's width.

    A multiprocessor holds two blocks, which fill rows up to 32 with zeros.
    """
    blocks = shape.batch * shape.kv_heads * _ceil(shape.heads // shape.kv_heads, WIDE_ROWS)
    waves = _ceil(blocks, 2 * p["multiprocessors"])
    alone = _ceil(shape.keys, COLUMNS) * p["wide.tile_s"] * waves
    streamed = part.compulsory_bytes / p["wide.hbm_bytes_per_s"]
    computed = 4.0 * blocks * WIDE_ROWS * shape.keys * shape.head_dim / p["wide.flops_per_s"]
    return launches * p["wide.launch_s"] + _together(alone, streamed, computed)


def _slices(shape: Attend) -> Number:
    """Slices of a long context that blocks of a fused kernel share: a power of two.

    Source: `usual_split` of reference_model/kernels/attention_split.py. A context of fewer tiles
    has as many slices as tiles here, not the power of two below: a longer one never looks cheaper.
    """
    most = smaller(
        FILLING // (shape.batch * shape.kv_heads), JOINED * shape.kv_heads // shape.heads
    )
    if isinstance(most, np.ndarray):
        slices: Number = np.exp2(np.floor(np.log2(np.maximum(most, 1))))
        return slices
    return 1 << (int(max(most, 1)).bit_length() - 1)


def _prompt_s(p: Parameters, part: Part, shape: Attend, launches: Number) -> Number:
    """Many queries, causal: 4 d FLOPs a pair and head, in tiles of 128 queries and keys.

    A tile on the diagonal is computed whole. PyTorch has a kernel of its own where keys and values
    differ in width, and joins their halves before.
    """
    family = "joined" if np.all(launches == JOINED_PROMPT) else "prompt"
    t, s = shape.queries, shape.keys - shape.queries
    t = t.astype(float) if isinstance(t, np.ndarray) else t
    pairs = t * s + t * (t + 1) / 2 + t * COLUMNS / 2
    flops = 4.0 * shape.batch * shape.heads * shape.head_dim * pairs
    chain = shape.keys / COLUMNS * (shape.head_dim / COLUMNS) * p["prompt.tile_s"]
    moved = (part.compulsory_bytes + part.activation_bytes) / p[family + ".bytes_per_s"]
    work = _together(chain, flops / p[family + ".flops_per_s"], moved)
    return launches * p[family + ".launch_s"] + work
