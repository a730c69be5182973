"""Dense products of decode steps, every way in which `reference_model.fused` can do them.

What is measured is what its table needs: for each size of the models and each number of tokens the
microseconds of each way, several weights in turn so that none is found in the L2. A gate_up product
includes its activation.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from benchmarks.timing import Timer
from costmodel.inputs.catalog import load_model
from costmodel.layers.attention import Attention
from costmodel.layers.base import MemoryKind, MixerKind
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.mla import LatentAttention
from costmodel.layers.moe import MoeFfn
from costmodel.layers.peer import Peer
from costmodel.layers.product_key import ProductKey
from costmodel.layers.ultramem import UltraMem
from reference_model.fused.products import Choice
from reference_model.kernels import oracles
from reference_model.kernels.experts import described, down, gate_up
from reference_model.kernels.experts_one import gate_up_one
from reference_model.kernels.linear import linear
from reference_model.kernels.linear_split import MOST, SplitBuffers, SplitTile, linear_split
from reference_model.kernels.tiles import dense_tile

TOKENS = (1, 4, 16, 64, 256)
WEIGHTS_BYTES = 500e6  # of all weights that take turns
ROWS = {
    1: ((1, 1), (1, 2), (1, 4), (1, 8), (2, 2), (2, 4), (2, 8), (4, 4), (4, 8)),
    4: ((1, 2), (1, 4), (2, 4), (2, 8), (4, 8)),
}
"""By tokens: rows a block and warps of the way `rows`."""
STEPS = ((64, 4, 4), (64, 6, 4), (128, 3, 4), (128, 4, 4))
"""Inputs a step, stages and warps of the way `split`, with 64 rows a block."""
BLOCKS = (60, 800)  # so many blocks it takes at least and at most
LARGEST = 40_000  # outputs up to which it is tried: more have blocks enough
Result = dict[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Size:
    """A weight [outputs, inputs]; `gated`: two halves with an activation between them."""

    outputs: int
    inputs: int
    gated: bool = False


def sizes(models: tuple[str, ...]) -> list[Size]:
    """The dense products of these models, each once."""
    several: set[Size] = set()
    for name in models:
        config = load_model(name)
        d = config.hidden_size
        for attention, _ in config.attention_groups:
            several |= attention_sizes(attention, d)
        for ffn, layers in config.ffn_groups:
            width = 0
            if layers and isinstance(ffn, DenseFfn):
                width = ffn.intermediate_size
            elif layers and isinstance(ffn, MoeFfn):
                width = ffn.shared_intermediate_size
            if width:
                several |= {Size(2 * width, d, gated=True), Size(d, width)}
        for memory in config.memory:
            several |= memory_sizes(memory, d)
        several.add(Size(config.vocab_size, d))
    return sorted(several)


def memory_sizes(memory: MemoryKind, d: int) -> set[Size]:
    """The first product of a memory layer, and its output."""
    if isinstance(memory, UltraMem):
        queries = 2 * memory.num_queries * memory.key_dim
        first = Size(queries + (memory.pre_value_dim or 0), d)
        return {first, Size(d, memory.output_groups * memory.value_dim)}
    assert isinstance(memory, ProductKey | Peer)
    queries = 2 * memory.num_heads * memory.key_dim
    if isinstance(memory, Peer):
        return {Size(queries, d)}
    several = {Size(queries + memory.gate * memory.value_dim, d)}
    return several | ({Size(d, memory.value_dim)} if memory.output_projection else set())


def attention_sizes(attention: MixerKind, d: int) -> set[Size]:
    """The dense products of a layer, grouped-query or latent, of a model with hidden size D."""
    if isinstance(attention, LatentAttention):
        heads, rotary = attention.num_attention_heads, attention.qk_rope_head_dim
        queries = heads * (attention.qk_nope_head_dim + rotary)
        compressed = attention.q_lora_rank
        down = (compressed or queries) + attention.kv_lora_rank + rotary
        several = {Size(down, d), Size(d, heads * attention.v_head_dim)}
        return several | ({Size(queries, compressed)} if compressed else set())
    assert isinstance(attention, Attention)
    wide = attention.num_attention_heads * attention.head_dim
    kv = attention.num_key_value_heads * attention.head_dim
    return {Size(wide + 2 * kv, d), Size(d, wide)}


def ways(size: Size, tokens: int) -> Iterator[Choice]:
    """Every choice that can do the product."""
    if tokens > 1 or not size.gated:
        yield Choice("cublas")
    for rows, warps in ROWS.get(tokens, ()):
        held = rows * size.inputs * (2 if size.gated else 1) // (32 * warps)
        if 8 <= held <= 256 and (tokens == 1 or not size.gated):  # noqa: PLR2004 - registers
            yield Choice("rows", rows, warps)
    if 1 < tokens <= MOST and not size.gated and size.outputs <= LARGEST:
        for depth, stages, warps in STEPS:
            steps, odd = divmod(size.inputs, depth)
            for splits in (2, 3, 4, 5, 6, 8, 9, 12) if not odd else ():
                fits = BLOCKS[0] <= splits * size.outputs / 64 <= BLOCKS[1]
                if fits and steps % splits == 0 and steps // splits >= 3:  # noqa: PLR2004
                    yield Choice("split", 64, warps, depth, stages, splits)
    if tokens > 1 and size.outputs % 128 == 0 and size.inputs % 64 == 0:
        yield Choice("tiles")


class Product:
    """One size and number of tokens, with enough weights."""

    def __init__(self, size: Size, tokens: int, count: int) -> None:
        generator = torch.Generator(device="cuda").manual_seed(5)
        self.size, self.tokens = size, tokens
        self.buffers: dict[Choice, tuple[list[TensorDescriptor], SplitTile, SplitBuffers]] = {}

        def normal(*shape: int) -> Tensor:
            empty = torch.empty(shape, device="cuda", dtype=torch.bfloat16)
            return empty.normal_(0, shape[-1] ** -0.5, generator=generator)

        self.weights = [normal(size.outputs, size.inputs) for _ in range(count)]
        self.x = normal(tokens, size.inputs) * size.inputs**0.5
        self.both = torch.full((tokens, size.outputs), torch.nan, device="cuda").bfloat16()
        half = size.outputs // 2 if size.gated else size.outputs
        self.out = torch.full((tokens, half), torch.nan, device="cuda").bfloat16()
        self.tiles: list[TensorDescriptor] = []

    def run(self, choice: Choice) -> None:
        """Every weight once."""
        for number, weight in enumerate(self.weights):
            self.launch(choice, number, weight)

    def split(self, choice: Choice) -> tuple[list[TensorDescriptor], SplitTile, SplitBuffers]:
        """The described weights, the tile and the buffers of a choice."""
        if choice not in self.buffers:
            tile = choice.split_tile
            buffers = SplitBuffers.make(self.size.outputs, tile, self.tokens, "cuda")
            self.buffers[choice] = [described(w, tile) for w in self.weights], tile, buffers
        return self.buffers[choice]

    def launch(self, choice: Choice, number: int, weight: Tensor) -> None:
        """One product."""
        x, out, gated = self.x, self.out, self.size.gated
        rows, warps = choice.rows, choice.warps
        if choice.way == "split":
            described_weights, split, buffers = self.split(choice)
            linear_split(x, described_weights[number], out, split, buffers, pdl=True)
        elif choice.way == "rows" and gated:
            gate_up_one(x, weight, out, None, rows=rows, warps=warps, pdl=True)
        elif choice.way == "rows":
            linear(x, weight, out, rows=rows, warps=warps, pdl=True)
        elif choice.way == "tiles":
            self.launch_tiles(number)
        elif gated:
            gate, up = torch.mm(x, weight.T, out=self.both).chunk(2, dim=-1)
            torch.mul(torch.nn.functional.silu(gate), up, out=out)
        else:
            torch.mm(x, weight.T, out=out)

    def launch_tiles(self, number: int) -> None:
        """One product by the expert kernels."""
        tile = dense_tile(self.tokens, self.size.inputs)
        if not self.tiles:
            self.tiles = [described(w, tile) for w in self.weights]
        weight = self.tiles[number]
        if self.size.gated:
            gate_up(self.x, weight, self.out, tile, pdl=True)
        else:
            down(self.x, weight, self.out, tile, tokens=self.tokens, pdl=True)


def check(size: Size, tokens: int) -> Result:
    """Every way against float64."""
    product = Product(size, tokens, 1)
    wanted = product.x.double() @ product.weights[0].double().T
    if size.gated:
        gates, ups = wanted.chunk(2, -1)
        wanted = gates * gates.sigmoid() * ups
    result: Result = {}
    for choice in ways(size, tokens):
        product.out.fill_(torch.nan)
        product.run(choice)
        result[name_of(choice)] = oracles.error(product.out, wanted)
    return result


def checks(models: tuple[str, ...]) -> Iterator[tuple[str, Callable[[], Result]]]:
    """The checks under their names."""
    for size in sizes(models):
        for tokens in TOKENS:
            yield f"product, {_label(size)}, {tokens} tokens", partial(check, size, tokens)


def measured(timer: Timer, models: tuple[str, ...]) -> list[Result]:
    """An entry of the table for each size and number of tokens."""
    entries = []
    for size in sizes(models):
        bytes_ = 2 * size.outputs * size.inputs
        count = max(2, min(64, round(WEIGHTS_BYTES / bytes_)))
        for tokens in TOKENS:
            product = Product(size, tokens, count)
            times = {
                choice: timer.step_us(partial(product.run, choice), per=count, replays=7)
                for choice in ways(size, tokens)
            }
            best = min(times, key=lambda choice: times[choice]["median"])
            entries.append({
                "outputs": size.outputs, "inputs": size.inputs, "gated": size.gated,
                "tokens": tokens, "bytes": bytes_, "choice": asdict(best),
                "us": {name_of(choice): spread["median"] for choice, spread in times.items()},
            })  # fmt: skip
            del product
        torch.cuda.empty_cache()
    return entries


def name_of(choice: Choice) -> str:
    """The choice in words."""
    sizes = asdict(choice)
    way = str(sizes.pop("way"))
    if way in ("cublas", "tiles"):
        return way
    return ", ".join([way, *(f"{value} {name}" for name, value in sizes.items() if value)])


def _label(size: Size) -> str:
    return f"{size.outputs} x {size.inputs}{', gated' if size.gated else ''}"
