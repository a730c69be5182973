"""Experts of a prefill: every tile of the two grouped products, and what else the layer launches.

Routing is an even draw. Beside the kernels stand PyTorch's grouped product of the same rows, and
cuBLAS over as many rows with one weight, which says what the GPU gives a product of that shape.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.moe_layer import EPS, SHAPES, Shape, Weights, popular
from benchmarks.timing import Timer
from reference_model.kernels import oracles
from reference_model.kernels.grouped import (
    Groups,
    GroupTile,
    group_pairs,
    grouped_down,
    grouped_gate_up,
)
from reference_model.kernels.norm import add_norm
from reference_model.kernels.router_tiles import route_tiles, splits_of
from reference_model.kernels.routing import Routing
from reference_model.moe import grouped_mm

TOKENS = 8192
MANY = 2**20  # blocks of a launch in which each does one tile
Result = dict[str, Any]


def _tile(*sizes: int, flat: bool = False, blocks: int = 132) -> GroupTile:
    tokens, rows, depth, stages, warps = sizes
    return GroupTile(
        tokens=tokens, rows=rows, depth=depth, stages=stages, warps=warps, blocks=blocks, flat=flat
    )


UP = (
    _tile(128, 128, 64, 3, 8),
    _tile(128, 128, 64, 3, 8, flat=True),
    _tile(128, 128, 64, 3, 8, blocks=MANY),
    _tile(128, 128, 64, 4, 8),
    _tile(128, 128, 64, 4, 8, flat=True),
    _tile(128, 128, 128, 2, 8),
    _tile(128, 64, 64, 3, 4, blocks=264),
    _tile(128, 64, 64, 3, 4, blocks=MANY),
    _tile(128, 64, 64, 3, 8, blocks=264),
    _tile(256, 64, 64, 3, 8),
)
"""Tiles of gate_up; each is tried with copied rows and with rows that blocks gather."""
DOWN = (
    _tile(128, 256, 64, 3, 8),
    _tile(128, 256, 64, 3, 8, flat=True),
    _tile(128, 256, 64, 3, 8, blocks=MANY),
    _tile(128, 128, 64, 3, 8),
    _tile(128, 128, 64, 4, 8, flat=True),
    _tile(128, 128, 64, 2, 4, blocks=264),
    _tile(128, 128, 64, 2, 8, blocks=264),
    _tile(128, 128, 64, 2, 8, blocks=MANY),
    _tile(256, 128, 64, 3, 8),
)


def name_of(tile: GroupTile, *, gather: bool = False) -> str:
    """The tile in words."""
    sizes = asdict(tile)
    flat, blocks = sizes.pop("flat"), sizes.pop("blocks")
    words = ", ".join(f"{value} {name}" for name, value in sizes.items())
    words += ", one block a tile" if blocks == MANY else f", {blocks} blocks"
    return words + (", flat" if flat else "") + (", gathered" if gather else "")


class Experts:
    """One layer's experts with T tokens, routed and in the order of experts."""

    def __init__(self, shape: Shape, tokens: int, exponent: float = 0.0) -> None:
        draws = torch.Generator(device="cuda").manual_seed(11)
        self.shape, self.tokens = shape, tokens
        self.weights = Weights.random(shape, draws)
        self.x = torch.randn(tokens, shape.hidden, device="cuda", generator=draws).bfloat16()
        self.stream, self.normed = self.x.clone(), torch.empty_like(self.x)
        self.declared = popular(tokens, shape, exponent, draws)
        self.counts, (self.routing,) = Routing.layers(
            1, tokens=tokens, experts=shape.experts, top_k=shape.top_k,
            splits=splits_of(shape.hidden), device="cuda",
        )  # fmt: skip
        self.groups = Groups.make(
            tokens=tokens, experts=shape.experts, top_k=shape.top_k, hidden=shape.hidden, tile=128,
            like=self.x,
        )  # fmt: skip
        rows = self.groups.rows.shape[0]
        self.hidden = torch.full((rows, shape.width), torch.nan, device="cuda").bfloat16()
        self.route()
        self.group()

    def of_tile(self, tokens: int) -> Groups:
        """The order of experts for tiles of another number of tokens."""
        if tokens == self.groups.tokens:
            return self.groups
        groups = Groups.make(
            tokens=self.tokens, experts=self.shape.experts, top_k=self.shape.top_k,
            hidden=self.shape.hidden, tile=tokens, like=self.x,
        )  # fmt: skip
        group_pairs(self.x, self.routing, groups)
        return groups

    def route(self) -> None:
        """The router, with its counters set back."""
        self.counts.zero_()
        route_tiles(
            self.x, self.weights.router, self.routing, self.shape.rule, declared=self.declared
        )

    def group(self, *, copy: bool = True) -> None:
        """Pairs in the order of experts, with or without their rows."""
        group_pairs(self.x, self.routing, self.groups, copy=copy)

    def gate_up(self, tile: GroupTile, groups: Groups, hidden: Tensor, *, gather: bool) -> None:
        """The first product."""
        x = self.x if gather else None
        grouped_gate_up(self.weights.gate_up, hidden, groups, tile, x=x)

    def down(self, tile: GroupTile, groups: Groups, hidden: Tensor) -> None:
        """The second product; its results replace the rows."""
        grouped_down(self.weights.down, hidden, groups, tile)

    def combine(self) -> None:
        """The weighted sum in the next norm."""
        add_norm(
            self.stream, self.weights.gamma, self.normed, eps=EPS, results=self.groups.rows,
            weights=self.routing.weights, places=self.groups.places,
        )  # fmt: skip

    def layer(self, up: GroupTile, low: GroupTile, *, gather: bool) -> None:
        """All launches of the layer."""
        self.route()
        self.group(copy=not gather)
        self.gate_up(up, self.groups, self.hidden, gather=gather)
        self.down(low, self.groups, self.hidden)
        self.combine()


def ways(shape: Shape) -> Iterator[tuple[str, GroupTile, bool]]:
    """Every tile of either product that the shape allows, under its name; whether it gathers."""
    for gather in (False, True):
        for tile in UP:
            if shape.hidden % tile.depth == 0:
                yield "gate_up: " + name_of(tile, gather=gather), tile, gather
    for tile in DOWN:
        yield "down: " + name_of(tile), tile, False


def room_for(experts: Experts, tile: GroupTile) -> tuple[Groups, Tensor]:
    """Groups and hidden values for a tile's tokens."""
    groups = experts.of_tile(tile.tokens)
    if groups is experts.groups:
        return groups, experts.hidden
    return groups, experts.hidden.new_full((groups.rows.shape[0], experts.shape.width), torch.nan)


def check(shape: Shape, tokens: int, exponent: float, rank: int, processes: int) -> Result:
    """Every tile against float64, in shares for several processes."""
    experts = Experts(shape, tokens, exponent)
    ids, w = experts.routing.ids, experts.weights
    wanted, results = oracles.experts(experts.x, w.gate_up, w.down, ids)
    chosen = experts.declared.topk(shape.top_k, -1).indices.sort(-1).values
    found: Result = {"choice_exact": bool(torch.equal(chosen, ids.long().sort(-1).values))}
    token = torch.arange(tokens, device="cuda").repeat_interleave(shape.top_k)
    places = experts.groups.places.flatten().long()
    found["rows_exact"] = bool(torch.equal(experts.groups.rows[places], experts.x[token]))
    for name, tile, gather in list(ways(shape))[rank::processes]:
        try:
            found[name] = _error(experts, name, tile, wanted, results, gather=gather)
        except Exception as error:  # noqa: BLE001 - that tile's result
            found[name] = f"{type(error).__name__}: {error}"[:300]
    return found


def _error(
    experts: Experts, name: str, tile: GroupTile, wanted: Tensor, results: Tensor, *, gather: bool
) -> Result:
    groups, hidden = room_for(experts, tile)
    places = groups.places.flatten().long()
    answers = []
    for _ in range(2):
        hidden.fill_(torch.nan)
        if name.startswith("gate_up"):
            experts.gate_up(tile, groups, hidden, gather=gather)
            answers.append(hidden[places].clone())
        else:
            hidden[places] = wanted.bfloat16()
            groups.rows.fill_(torch.nan)
            experts.down(tile, groups, hidden)
            answers.append(groups.rows[places].clone())
    if not name.startswith("gate_up"):  # of what it was given, not of exact hidden values
        low = experts.weights.down
        expert = experts.routing.ids.flatten().long()
        results = torch.empty_like(results)
        for number in range(experts.shape.experts):
            pairs = (expert == number).nonzero()[:, 0]
            results[pairs] = wanted[pairs].bfloat16().double() @ low[number].double().T
        wanted = results
    return {
        "error": oracles.error(answers[0], wanted),
        "same_bits_twice": bool(torch.equal(*answers)),
    }


def measured(timer: Timer, shape: Shape, tokens: int, exponent: float = 0.0) -> Result:
    """Microseconds of every tile, of the other launches, and of the whole layer by the best."""
    experts = Experts(shape, tokens, exponent)
    flops = {
        "gate_up": 4 * tokens * shape.top_k * shape.hidden * shape.width,
        "down": 2 * tokens * shape.top_k * shape.hidden * shape.width,
    }
    times: Result = {}
    best: dict[str, tuple[float, GroupTile, bool]] = {}
    for name, tile, gather in ways(shape):
        kind = name.partition(":")[0]
        groups, hidden = room_for(experts, tile)
        call: Callable[[], None] = partial(experts.gate_up, tile, groups, hidden, gather=gather)
        if kind == "down":
            experts.gate_up(
                replace(UP[0], tokens=tile.tokens, rows=64), groups, hidden, gather=True
            )
            call = partial(experts.down, tile, groups, hidden)
        try:
            us = timer.step_us(call, replays=9)
        except Exception as error:  # noqa: BLE001 - that tile's result
            times[name] = f"{type(error).__name__}: {error}"[:300]
            continue
        times[name] = {"us": us, "flops_per_s": flops[kind] / us["median"] * 1e6}
        if tile.tokens == experts.groups.tokens and us["median"] < best.get(kind, (1e9,))[0]:
            best[kind] = us["median"], tile, gather
    (_, up, gather), (_, low, _) = best["gate_up"], best["down"]
    experts.route()
    experts.group()
    layer = partial(experts.layer, up, low, gather=gather)
    return {
        "products": times,
        "best": {"gate_up": name_of(up, gather=gather), "down": name_of(low)},
        "other_us": _others(timer, experts),
        "flops": flops["gate_up"] + flops["down"],
        "bytes": 6 * shape.experts * shape.hidden * shape.width,
        "us": timer.step_us(layer, replays=9),
    }


def _others(timer: Timer, experts: Experts) -> Result:
    """The layer's other launches; PyTorch's grouped products; cuBLAS with one expert's weights."""
    shape, w = experts.shape, experts.weights
    pairs = experts.tokens * shape.top_k
    ends = experts.counts[0, :-1].cumsum(0).to(torch.int32)
    x, hidden = (
        torch.randn(pairs, n, device="cuda").bfloat16() for n in (shape.hidden, shape.width)
    )
    ups = torch.empty(pairs, 2 * shape.width, device="cuda").bfloat16()
    downs = torch.empty_like(x)
    calls: dict[str, Callable[[], object]] = {
        "router": experts.route,
        "order": partial(experts.group, copy=False),
        "order and rows": experts.group,
        "combine": experts.combine,
        "torch grouped gate_up": partial(grouped_mm, x, w.gate_up, ends),
        "torch grouped down": partial(grouped_mm, hidden, w.down, ends),
        "cublas gate_up": partial(torch.mm, x, w.gate_up[0].T, out=ups),
        "cublas down": partial(torch.mm, hidden, w.down[0].T, out=downs),
    }
    times: Result = {}
    for name, call in calls.items():
        try:
            times[name] = timer.step_us(call, replays=9)
        except Exception as error:  # noqa: BLE001 - that launch's result
            times[name] = f"{type(error).__name__}: {error}"[:300]
    experts.route()
    experts.group()
    return times


def summary(layer: Result) -> str:
    """The times as lines for a reader."""
    lines = [
        f"{value['us']['median']:9.1f} us {value['flops_per_s'] / 1e12:6.0f} TFLOP/s  {name}"
        if isinstance(value, dict)
        else f"   {value}  {name}"
        for name, value in layer["products"].items()
    ]
    lines += [
        f"{value['median']:9.1f} us  {name}" if isinstance(value, dict) else f"   {value}  {name}"
        for name, value in layer["other_us"].items()
    ]
    return "\n".join([*lines, f"{layer['us']['median']:9.1f} us  the layer, by {layer['best']}"])


CASES: tuple[tuple[Shape, float], ...] = ((SHAPES[0], 0.0), (SHAPES[0], 1.0), (SHAPES[1], 0.0))
"""Layers that are measured: the shape, and how uneven the routing is."""
