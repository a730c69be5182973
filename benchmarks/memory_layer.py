"""A memory layer of UltraMemV2 at decode: its kernels, against float64 and against the clock.

    python -m benchmarks.memory_layer OUT.json [ways]

`ways` also times what else its launches may choose.

The reference time is that of the compulsory bytes at the copy rate of the run: dense weights, the
distinct rows that were chosen, their entries of the permutation, tokens in and out. All tokens
alike are measured beside random ones: then every block compares the same scores and reads the same
rows.
"""

import sys
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.memory_weights import Dense, Model, Shape
from benchmarks.report import Case, Report, Result, generator, tried
from benchmarks.timing import Timer, kernel_durations_us
from reference_model.kernels import memory_oracles, oracles
from reference_model.kernels.experts import described
from reference_model.kernels.key_scores import score_keys, score_tile
from reference_model.kernels.memory import MemoryBuffers, MemorySizes, parts_of_tokens
from reference_model.kernels.memory_grid import choose_rows, sums_too
from reference_model.kernels.memory_points import corner_of
from reference_model.kernels.memory_rows import sum_rows
from reference_model.kernels.memory_sides import choose_sides
from reference_model.kernels.tiles import Tile, many

MODELS = ("ultramemv2-227m-1.2b", "ultramemv2-1b-7b")
TOKENS = (1, 16, 64, 256, 1024)
ODD_TOKENS = (3, 33)
EPS = 1e-5
SCORE_TILES = tuple(
    Tile(tokens=tokens, rows=rows, depth=64, stages=stages, warps=warps)
    for tokens, rows, stages, warps in (
        (128, 64, 4, 4), (128, 128, 3, 8), (128, 128, 4, 8), (256, 64, 3, 8), (256, 128, 3, 8),
    )
)  # fmt: skip
"""Tiles of the keys' product that are tried at many tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What a launch may choose: whether one kernel chooses and sums, warps, slices of the rows.

    `score_tile` is that of the keys' product; `bounded`, whether a corner bounds a large grid;
    `parts`, whether many tokens are searched for in parts.
    """

    together: bool
    score_tile: Tile | None = None
    bounded: bool | None = None
    side_warps: int | None = None
    grid_warps: int | None = None
    row_warps: int | None = None
    slices: int | None = None
    pdl: bool = True
    parts: bool = True


class Chain:
    """Buffers and launches of a model's layers for T tokens."""

    def __init__(self, model: Model, x: Tensor, way: Way) -> None:
        self.model, self.x, self.way = model, x, way
        s, tokens = model.shape.sizes, x.shape[0]

        def room(width: int) -> Tensor:
            return torch.full((tokens, width), torch.nan, device="cuda", dtype=torch.bfloat16)

        self.projected, self.mixed = room(s.projected), room(s.sums * s.value_dim)
        self.out = room(model.shape.hidden)
        self.first = Dense(model.first, x, self.projected, pdl=way.pdl)
        self.last = Dense(model.last, self.mixed, self.out, pdl=way.pdl)
        self.tile = way.score_tile or score_tile(tokens, s.key_dim)
        self.keys = [described(weights.keys, self.tile) for weights in model.layers]
        buffers = MemoryBuffers.make(s, tokens=tokens, device="cuda")
        if way.slices is not None:
            partial_ = torch.zeros(tokens, way.slices, self.mixed.shape[1], device="cuda")
            buffers = replace(buffers, partial=partial_)
        self.buffers = buffers
        self.beside = torch.cuda.Stream()

    def run(self, layer: int) -> None:
        """One layer."""
        buffers, pdl = self.buffers, self.way.pdl
        self.first.run(layer)
        score_keys(
            self.projected, self.keys[layer], buffers.scores, self.tile, self.model.shape.sizes,
            pdl=pdl,
        )  # fmt: skip
        tokens = self.x.shape[0]
        parts = parts_of_tokens(tokens) if self.way.parts else [(0, tokens)]
        if len(parts) == 1:
            self.choose(layer, 0, tokens, pdl=pdl)
        else:
            own = torch.cuda.current_stream()
            self.beside.wait_stream(own)
            for number, part in enumerate(parts):
                with torch.cuda.stream(self.beside if number % 2 else own):
                    self.choose(layer, *part, pdl=pdl and number > 1)
            own.wait_stream(self.beside)
        self.last.run(layer)

    def choose(self, layer: int, begin: int, end: int, *, pdl: bool) -> None:
        """The rows of some tokens and their sum; the first kernel waits unless `pdl`."""
        s, weights, way = self.model.shape.sizes, self.model.layers[layer], self.way
        projected, mixed = self.projected[begin:end], self.mixed[begin:end]
        buffers = self.buffers.part(begin, end)
        choose_sides(projected, s, weights, buffers, eps=EPS, warps=way.side_warps, pdl=pdl)
        choose_rows(
            projected, s, weights, buffers, mixed if way.together else None,
            warps=way.grid_warps, bounded=way.bounded, pdl=way.pdl,
        )  # fmt: skip
        if not way.together:
            sum_rows(projected, s, weights, buffers, mixed, warps=way.row_warps, pdl=way.pdl)

    def step(self) -> None:
        """All layers."""
        for layer in range(self.model.count):
            self.run(layer)

    def layer_bytes(self) -> float:
        """Compulsory bytes of a layer: the mean over all, by the rows that it chose."""
        s, shape = self.model.shape.sizes, self.model.shape
        distinct = 0
        for layer in range(self.model.count):
            self.run(layer)
            distinct += self.buffers.rows.unique().numel()
        row_bytes = 2 * (s.value_dim + (s.pre_value_dim or 0)) + 8
        return shape.dense_bytes + distinct / self.model.count * row_bytes + 4 * self.x.numel()


def checked(chain: Chain) -> Result:
    """One layer's errors against float64, and whether both choices are those of its scores."""
    s, weights, buffers = chain.model.shape.sizes, chain.model.layers[0], chain.buffers
    for buffer in buffers.scores, buffers.sides, buffers.weights, buffers.partial, chain.mixed:
        buffer.fill_(torch.nan)
    for buffer in buffers.places, buffers.rows:
        buffer.fill_(-1)
    chain.run(0)
    first = chain.out.clone()
    projected, error = chain.projected, oracles.error
    assert weights.merge is not None
    assert weights.cores is not None
    assert weights.permutation is not None
    factors = memory_oracles.norm_factors(projected, s, EPS)
    merged = memory_oracles.merged(buffers.scores, weights.merge, factors)
    sides = memory_oracles.chosen_sides(buffers.scores, buffers.places.clamp_min(0), factors)
    grid = memory_oracles.grid(buffers.sides, weights.cores)
    points = memory_oracles.best(grid, s.reads)
    rows = memory_oracles.rows_at(points, buffers.places, s, weights.permutation)
    by_core = memory_oracles.by_core(buffers.sides, weights.cores)
    total = memory_oracles.summed_rows(
        projected, s, weights, buffers.rows.clamp_min(0), buffers.weights
    )
    lines = memory_oracles.best(merged, s.kept)
    result = {
        "projected": error(projected, chain.x.double() @ chain.model.first[0].double().T),
        "scores": error(buffers.scores, memory_oracles.key_scores(projected, s, weights.keys)),
        "sides_exact": bool(torch.equal(buffers.places.long(), lines)),
        "sides": error(buffers.sides, sides),
        "rows_exact": bool(torch.equal(buffers.rows.long(), rows)),
        "weights": error(buffers.weights, memory_oracles.weights_at(points, by_core)),
        "mixed": error(chain.mixed, total),
        "out": error(chain.out, chain.mixed.double() @ chain.model.last[0].double().T),
    }
    chain.run(0)
    return result | {"same_bits_twice": bool(torch.equal(first, chain.out))}


def ways(sizes: MemorySizes, tokens: int) -> list[Way]:
    """What is tried: the usual way first, then one change at a time."""
    usual = Way(together=sums_too(sizes))
    tried_ways = [usual, replace(usual, pdl=False)]
    if sizes.heads == 1:
        tried_ways.append(replace(usual, together=not usual.together))
    tried_ways += [replace(usual, side_warps=warps) for warps in (1, 2, 8)]
    tried_ways += [replace(usual, grid_warps=warps) for warps in (2, 4, 8, 16)]
    if corner_of(sizes.reads, sizes.kept):
        tried_ways.append(replace(usual, bounded=False))
        tried_ways += [replace(usual, bounded=True, grid_warps=warps) for warps in (2, 4, 8)]
    if len(parts_of_tokens(tokens)) > 1:
        tried_ways.append(replace(usual, parts=False))
    if many(tokens):
        tried_ways += [replace(usual, score_tile=tile) for tile in SCORE_TILES]
    apart = replace(usual, together=False)
    tried_ways += [replace(apart, row_warps=warps) for warps in (2, 4)]
    most = -(-sizes.heads * sizes.reads // 2)
    for slices in (1, 2, 4, 8, 16, 32, 64):
        if slices <= most and slices * tokens <= 2**15:
            tried_ways.append(replace(apart, slices=slices))
    return tried_ways


def measured(timer: Timer, model: Model, tokens: int, *, alike: bool, others: bool) -> Result:
    """One layer: the time of the usual way, bytes, checks, kernels apart, other ways."""
    x = torch.randn(tokens, model.shape.hidden, device="cuda", generator=generator()).bfloat16()
    if alike:
        x = x[:1].expand_as(x).contiguous()

    def time(way: Way) -> Result:
        return timer.step_us(Chain(model, x, way).step, per=model.count)

    several = ways(model.shape.sizes, tokens)
    usual = Chain(model, x, several[0])
    plain = Chain(model, x, replace(several[0], pdl=False))
    return {
        "check": tried(partial(checked, usual)),
        "bytes": usual.layer_bytes(),
        "us": time(several[0]),
        "ways": [asdict(way) | tried(partial(time, way)) for way in several[1:] if others],
        "layers": model.count,
        "kernels_without_pdl": kernel_durations_us(plain.step),
    }


def measure(timer: Timer, others: bool, case: Case) -> None:  # noqa: FBT001 - bound by name
    """All models and numbers of tokens."""
    for preset in MODELS:
        shape = Shape.of(preset)
        model = Model(shape, generator())
        for tokens in ODD_TOKENS:
            x = torch.randn(tokens, shape.hidden, device="cuda").bfloat16()
            chain = Chain(model, x, Way(together=sums_too(shape.sizes)))
            case(f"check, {shape.name}, {tokens} tokens", partial(checked, chain))
        for tokens in TOKENS:
            for alike in (False, True):
                note = ", all alike" if alike else ""
                tries = others and not alike
                one = partial(measured, timer, model, tokens, alike=alike, others=tries)
                case(f"{shape.name}, {tokens} tokens{note}", one)
        del model
        torch.cuda.empty_cache()


def main() -> None:
    """Check, measure, write."""
    report = Report([sys.argv[1]])
    report.read_ceilings(3)
    report.phase("cases", partial(measure, Timer(), "ways" in sys.argv))
    report.end()


if __name__ == "__main__":
    main()
