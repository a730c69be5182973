"""A routed-expert layer at decode: router, both expert products, weighted sum with the next norm.

Several layers' weights take turns in one graph, so that none is found in the L2. The reference time
is that of the distinct experts' weights at the copy rate of the run; beside it stands cuBLAS over
as many weight bytes, with as many rows as an expert has tokens on average.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reference_model.kernels import oracles
from reference_model.kernels.experts import described, down, gate_up
from reference_model.kernels.experts_one import down_one, gate_up_one
from reference_model.kernels.norm import add_norm
from reference_model.kernels.router import route
from reference_model.kernels.router_tiles import splits_of
from reference_model.kernels.router_tokens import route_tokens
from reference_model.kernels.routing import RouterRule, Routing
from reference_model.kernels.tiles import Tile, expert_tiles

EPS = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of a layer, under the name of the model that has it."""

    name: str
    experts: int
    top_k: int
    hidden: int
    width: int
    layers: int  # whose weights take turns
    rule: RouterRule


SHAPES = (
    Shape(
        name="OLMoE-1B-7B", experts=64, top_k=8, hidden=2048, width=1024, layers=6,
        rule=RouterRule(top_k=8, scoring="softmax"),
    ),
    Shape(
        name="Qwen3-30B-A3B", experts=128, top_k=8, hidden=2048, width=768, layers=4,
        rule=RouterRule(top_k=8, scoring="softmax", normalised=True),
    ),
    Shape(
        name="gpt-oss-20b", experts=32, top_k=4, hidden=2880, width=2880, layers=4,
        rule=RouterRule(top_k=4, scoring="softmax_of_chosen"),
    ),
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Weights:
    """One layer's router [E, D], gates and ups [E, 2 I, D], downs [E, D, I], norm [D]."""

    router: Tensor
    gate_up: Tensor
    down: Tensor
    gamma: Tensor

    @classmethod
    def random(cls, shape: Shape, generator: torch.Generator) -> "Weights":
        """Normal with variance 1 / inputs, in bf16."""
        e, d, i = shape.experts, shape.hidden, shape.width

        def normal(*size: int) -> Tensor:
            empty = torch.empty(size, device="cuda", dtype=torch.bfloat16)
            return empty.normal_(0, size[-1] ** -0.5, generator=generator)

        return cls(
            router=normal(e, d), gate_up=normal(e, 2 * i, d), down=normal(e, d, i),
            gamma=1 + normal(d),
        )  # fmt: skip


@dataclass(slots=True, kw_only=True)
class MoeLayers:
    """Buffers and launches of a chain of layers for T tokens."""

    shape: Shape
    tokens: int
    weights: list[Weights]
    pdl: bool = True
    declared: Tensor | None = None
    tiles: list[Tile] = field(init=False)
    counts: Tensor = field(init=False)
    routings: tuple[Routing, ...] = field(init=False)
    hidden: Tensor = field(init=False)
    results: Tensor = field(init=False)
    normed: Tensor = field(init=False)
    described: list[tuple[object, object]] = field(init=False)

    def __post_init__(self) -> None:
        s, t = self.shape, self.tokens
        self.tiles = expert_tiles(t, s.experts, s.top_k, s.hidden, s.width)
        self.counts, self.routings = Routing.layers(
            len(self.weights), tokens=t, experts=s.experts, top_k=s.top_k,
            splits=splits_of(s.hidden), device="cuda",
            item_tokens=self.tiles[0].tokens,
        )  # fmt: skip

        def empty(rows: int, width: int) -> Tensor:
            return torch.full((rows, width), torch.nan, device="cuda", dtype=torch.bfloat16)

        pairs = t * s.top_k
        self.hidden, self.results = empty(pairs, s.width), empty(pairs, s.hidden)
        self.normed = empty(t, s.hidden)
        self.described = [
            (described(w.gate_up, self.tiles[0]), described(w.down, self.tiles[1]))
            for w in self.weights
        ]

    def run(self, layer: int, x: Tensor, stream: Tensor) -> None:
        """Run x [T, D] through one layer; its result is added to the stream [T, D]."""
        w, routing, pdl = self.weights[layer], self.routings[layer], self.pdl
        rule, declared = self.shape.rule, self.declared
        if self.tokens == 1:
            route_tokens(x, w.router, routing, rule, declared=declared, listed=False, pdl=pdl)
            gate_up_one(x, w.gate_up, self.hidden, routing, pdl=pdl)
            down_one(self.hidden, w.down, stream, routing, residual=stream, pdl=pdl)
            return
        route(x, w.router, routing, rule, declared=declared, pdl=pdl)
        ups, downs = self.described[layer]
        gate_up(x, ups, self.hidden, self.tiles[0], routing=routing, pdl=pdl)
        down(
            self.hidden, downs, self.results, self.tiles[1], tokens=self.tokens, routing=routing,
            pdl=pdl,
        )  # fmt: skip
        add_norm(
            stream, w.gamma, self.normed, eps=EPS, results=self.results, weights=routing.weights,
            pdl=pdl,
        )  # fmt: skip

    def chain(self, x: Tensor, stream: Tensor, turns: int) -> None:
        """All layers, several times over; counters are zeroed once a turn."""
        for _ in range(turns):
            self.counts.zero_()
            for layer in range(len(self.weights)):
                self.run(layer, x, stream)

    def distinct(self, x: Tensor) -> tuple[float, float]:
        """Experts that a layer touches and tokens of the fullest one, means over the layers."""
        self.counts.zero_()
        for layer in range(len(self.weights)):
            self.run(layer, x, torch.zeros_like(x))
        if self.tokens == 1:
            return self.shape.top_k, 1
        lengths = self.counts[:, :-1]
        touched = (lengths > 0).sum(1).double().mean()
        return touched.item(), lengths.max(1).values.double().mean().item()


def checked(layers: MoeLayers, x: Tensor) -> dict[str, object]:
    """Errors against float64, and whether the choice is torch.topk of the kernel's own logits."""
    s, routing, w = layers.shape, layers.routings[1], layers.weights[1]
    for buffer in layers.hidden, layers.results, routing.weights, routing.logits:
        buffer.fill_(torch.nan)
    routing.ids.fill_(-1)
    layers.counts.zero_()
    stream = torch.zeros_like(x)
    layers.run(1, x, stream)
    first = stream.clone()
    counted = routing.counts[:-1].clone()
    logits = x.double() @ w.router.double().T
    scores, ranked = oracles.ranked_scores(routing.logits, s.rule)
    if layers.declared is not None:
        ranked = layers.declared
    hidden, results = oracles.experts(x, w.gate_up, w.down, routing.ids)
    shares = oracles.router_weights(scores, routing.ids, s.rule)
    total = (results.view(-1, s.top_k, s.hidden) * shares[..., None]).sum(1)
    wanted = routing.logits.topk(s.top_k, -1).indices if layers.declared is None else None
    ids = routing.ids.long()
    exact = bool((ranked.topk(s.top_k, -1).indices.sort(-1).values == ids.sort(-1).values).all())
    if wanted is not None:
        exact = bool((wanted.sort(-1).values == ids.sort(-1).values).all())
    lists = ids.flatten().bincount(minlength=s.experts)
    layers.counts.zero_()
    stream.zero_()
    layers.run(1, x, stream)
    return {
        "logits": oracles.error(routing.logits, logits),
        "topk_exact": exact,
        "lists_exact": layers.tokens == 1 or bool((counted == lists).all()),
        "weights": oracles.error(routing.weights, shares),
        "hidden": oracles.error(layers.hidden, hidden),
        "out": oracles.error(first, total),
        "same_bits_twice": bool(torch.equal(first, stream)),
    }


def dense_chain(
    shape: Shape, weights: list[Weights], experts: int, rows: int
) -> Callable[[], None]:
    """A step of cuBLAS over the weight bytes of so many experts a layer, with so many rows."""
    d, i = shape.hidden, shape.width
    x = torch.randn(rows, d, device="cuda").bfloat16()
    hidden = torch.randn(rows, i, device="cuda").bfloat16()
    ups = torch.empty(rows, experts * 2 * i, device="cuda", dtype=torch.bfloat16)
    downs = torch.empty(rows, experts * d, device="cuda", dtype=torch.bfloat16)

    def step() -> None:
        for w in weights:
            torch.mm(x, w.gate_up.view(-1, d)[: experts * 2 * i].T, out=ups)
            torch.mm(hidden, w.down.view(-1, i)[: experts * d].T, out=downs)

    return step


def popular(tokens: int, shape: Shape, exponent: float, generator: torch.Generator) -> Tensor:
    """A declared routing [T, E]: expert i is drawn by weight (i + 1)^-exponent (Gumbel top-k)."""
    rank = torch.arange(1, shape.experts + 1, device="cuda", dtype=torch.float32)
    uniform = torch.rand(tokens, shape.experts, generator=generator, device="cuda")
    return -exponent * rank.log() - (-uniform.clamp_min(1e-20).log()).log()
