"""A whole decode step of OLMoE-1B-7B as one graph, from token ids to logits, with random weights.

One token takes seven kernels a layer, more tokens nine: the residual stream then waits for the
experts' weighted sum until the next norm. Positions are equal for all sequences, the cache is
contiguous, and choosing the token from its logits is not included. The reference time is that of
the compulsory bytes: the distinct experts of this very step, attention, routers, LM head, embedding
rows and the cache.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.moe_layer import EPS, SHAPES, Weights
from reference_model.kernels import oracles
from reference_model.kernels.attention import attend
from reference_model.kernels.attention_slices import AttentionBuffers, described_cache
from reference_model.kernels.attention_split import usual_split
from reference_model.kernels.experts import described, down, gate_up
from reference_model.kernels.experts_one import down_one, gate_up_one
from reference_model.kernels.linear import linear
from reference_model.kernels.norm import add_norm
from reference_model.kernels.rope import rope_and_store
from reference_model.kernels.router import few
from reference_model.kernels.router_tiles import LateNorm, route_tiles, splits_of
from reference_model.kernels.router_tokens import route_tokens
from reference_model.kernels.routing import Routing
from reference_model.kernels.tiles import expert_tiles

OLMOE = SHAPES[0]
LAYERS, HEADS, HEAD_DIM, VOCABULARY, CONTEXT = 16, 16, 128, 50304, 2048
WIDE = HEADS * HEAD_DIM
OWN = {1: ("qkv", "output", "head"), 4: ("output",)}  # dense products not by cuBLAS, by tokens


@dataclass(slots=True, kw_only=True)
class Layer:
    """One layer's parameters."""

    qkv: Tensor
    output: Tensor
    attention_gamma: Tensor
    q_gamma: Tensor
    k_gamma: Tensor
    moe: Weights


class Model:
    """Parameters of all layers, embedding and LM head, random."""

    def __init__(self, generator: torch.Generator, layers: int = LAYERS) -> None:
        d = OLMOE.hidden

        def normal(*shape: int, std: float = d**-0.5) -> Tensor:
            empty = torch.empty(shape, device="cuda", dtype=torch.bfloat16)
            return empty.normal_(0, std, generator=generator)

        self.layers = [
            Layer(
                qkv=normal(3 * WIDE, d), output=normal(d, WIDE),
                attention_gamma=1 + normal(d, std=0.1), q_gamma=1 + normal(WIDE, std=0.1),
                k_gamma=1 + normal(WIDE, std=0.1), moe=Weights.random(OLMOE, generator),
            )
            for _ in range(layers)
        ]  # fmt: skip
        self.embedding = normal(VOCABULARY, d, std=1.0)
        self.head = normal(VOCABULARY, d)
        self.gamma = 1 + normal(d, std=0.1)


class Step:
    """Buffers of one batch size and the launches of a step."""

    def __init__(
        self, model: Model, caches: list[tuple[Tensor, Tensor]], *,
        own: tuple[str, ...] | None = None,
        pdl: bool = True,
    ) -> None:  # fmt: skip
        self.model, self.caches, self.pdl = model, caches, pdl
        self.tokens = tokens = caches[0][0].shape[0]
        self.own = OWN.get(tokens, ()) if own is None else own
        self.split = split = usual_split(tokens, HEADS, HEADS, CONTEXT)
        self.tiles = expert_tiles(tokens, OLMOE.experts, OLMOE.top_k, OLMOE.hidden, OLMOE.width)
        self.counts, self.routings = Routing.layers(
            len(model.layers), tokens=tokens, experts=OLMOE.experts, top_k=OLMOE.top_k,
            splits=splits_of(OLMOE.hidden), device="cuda",
            item_tokens=self.tiles[0].tokens,
        )  # fmt: skip
        self.attention = AttentionBuffers.make(
            split, tokens=tokens, heads=HEADS, kv_heads=HEADS, d=HEAD_DIM, device="cuda"
        )

        def empty(rows: int, *width: int) -> Tensor:
            return torch.full((rows, *width), torch.nan, device="cuda", dtype=torch.bfloat16)

        pairs = tokens * OLMOE.top_k
        self.stream, self.summed = (empty(tokens, OLMOE.hidden) for _ in range(2))
        self.normed, self.added = (empty(tokens, OLMOE.hidden) for _ in range(2))
        self.qkv, self.q = empty(tokens, 3 * WIDE), empty(tokens, HEADS, HEAD_DIM)
        self.attended = empty(tokens, HEADS, HEAD_DIM)
        self.hidden, self.results = empty(pairs, OLMOE.width), empty(pairs, OLMOE.hidden)
        self.logits = empty(tokens, VOCABULARY)
        self.positions = torch.full((tokens,), CONTEXT - 1, device="cuda", dtype=torch.int32)
        self.lengths = self.positions + 1
        self.ids = torch.randint(0, VOCABULARY, (tokens,), device="cuda")
        turn = torch.arange(CONTEXT, device="cuda")[:, None] * 10_000.0 ** -(
            torch.arange(0, HEAD_DIM, 2, device="cuda") / HEAD_DIM
        )
        self.cos, self.sin = turn.cos(), turn.sin()
        self.described = [
            (
                described_cache(keys, split),
                described_cache(values, split),
                described(layer.moe.gate_up, self.tiles[0]),
                described(layer.moe.down, self.tiles[1]),
            )
            for (keys, values), layer in zip(caches, model.layers, strict=True)
        ]

    def run(self) -> None:
        """One step."""
        one, m = self.tokens == 1, self.model
        self.counts.zero_()
        torch.index_select(m.embedding, 0, self.ids, out=self.stream)
        for number, layer in enumerate(m.layers):
            if one:
                self._dense("qkv", self.stream, layer.qkv, self.qkv, layer.attention_gamma)
            else:
                self._norm(layer.attention_gamma, number - 1)
                self._dense("qkv", self.normed, layer.qkv, self.qkv)
            self._attend(number, layer)
            attended = self.attended.view(self.tokens, WIDE)
            add = None
            if "output" in self.own:
                linear(attended, layer.output, self.stream, residual=self.stream, pdl=self.pdl)
            else:
                add = self.added
                self._dense("output", attended, layer.output, add)
            if one:
                self._one(number, layer)
            else:
                self._many(number, layer, add)
        if one:
            self._dense("head", self.stream, m.head, self.logits, m.gamma)
        else:
            self._norm(m.gamma, len(m.layers) - 1)
            self._dense("head", self.normed, m.head, self.logits)

    def _norm(self, gamma: Tensor, before: int) -> None:
        """The norm in front of a layer, with the experts' results of the layer before."""
        first = before < 0
        add_norm(
            self.stream, gamma, self.normed, eps=EPS, results=None if first else self.results,
            weights=None if first else self.routings[before].weights, pdl=self.pdl,
        )  # fmt: skip

    def _dense(
        self, name: str, x: Tensor, weight: Tensor, out: Tensor, gamma: Tensor | None = None
    ) -> None:
        if name in self.own:
            linear(x, weight, out, gamma=gamma, eps=EPS, pdl=self.pdl)
        else:
            assert gamma is None
            torch.mm(x, weight.T, out=out)

    def _attend(self, number: int, layer: Layer) -> None:
        keys, values = self.caches[number]
        rope_and_store(
            self.qkv, self.q, keys, values, cos=self.cos, sin=self.sin,
            positions=self.positions, slots=self.positions, q_gamma=layer.q_gamma,
            k_gamma=layer.k_gamma, eps=EPS, pdl=self.pdl,
        )  # fmt: skip
        attend(
            self.q, keys, values, self.attended, self.lengths, self.split, self.attention,
            key_tiles=self.described[number][0], value_tiles=self.described[number][1],
            longest=CONTEXT, pdl=self.pdl,
        )  # fmt: skip

    def _one(self, number: int, layer: Layer) -> None:
        w, routing, pdl = layer.moe, self.routings[number], self.pdl
        route_tokens(
            self.stream, w.router, routing, OLMOE.rule, gamma=w.gamma, normed=self.normed,
            eps=EPS, listed=False, pdl=pdl,
        )  # fmt: skip
        gate_up_one(self.normed, w.gate_up, self.hidden, routing, pdl=pdl)
        down_one(self.hidden, w.down, self.stream, routing, residual=self.stream, pdl=pdl)

    def _many(self, number: int, layer: Layer, add: Tensor | None) -> None:
        w, routing, pdl = layer.moe, self.routings[number], self.pdl
        ups, downs = self.described[number][2:]
        scale = None
        if few(self.tokens, OLMOE.experts):
            add_norm(self.stream, w.gamma, self.normed, eps=EPS, add=add, pdl=pdl)
            route_tokens(self.normed, w.router, routing, OLMOE.rule, pdl=pdl)
        else:
            assert add is not None
            norm = LateNorm(add=add, gamma=w.gamma, eps=EPS, summed=self.summed, scaled=self.normed)
            route_tiles(self.stream, w.router, routing, OLMOE.rule, norm=norm, pdl=pdl)
            self.stream, self.summed = self.summed, self.stream
            scale = routing.scale
        gate_up(self.normed, ups, self.hidden, self.tiles[0], routing=routing, scale=scale, pdl=pdl)
        down(
            self.hidden, downs, self.results, self.tiles[1], tokens=self.tokens, routing=routing,
            pdl=pdl,
        )  # fmt: skip

    @property
    def bytes_read(self) -> int:
        """Compulsory bytes of the step that was last run."""
        d, layers = OLMOE.hidden, len(self.model.layers)
        experts = int((self.counts[:, :-1] > 0).sum())
        if self.tokens == 1:  # which needs no lists
            experts = OLMOE.top_k * len(self.model.layers)
        by_layer = 2 * (4 * d * WIDE + OLMOE.experts * d) + 4 * self.tokens * WIDE * CONTEXT
        return (
            experts * 6 * d * OLMOE.width + layers * by_layer + 2 * d * (VOCABULARY + self.tokens)
        )


def caches_for(
    tokens: int, generator: torch.Generator, layers: int = LAYERS
) -> list[tuple[Tensor, Tensor]]:
    """Random keys and values of every layer, all slots filled."""
    shape = tokens, HEADS, CONTEXT, HEAD_DIM

    def cache() -> Tensor:
        empty = torch.empty(shape, device="cuda", dtype=torch.bfloat16)
        return empty.normal_(generator=generator)

    return [(cache(), cache()) for _ in range(layers)]


def errors(step: Step) -> dict[str, float]:
    """Of a step's logits against float64, token by token; and how many chose the same experts.

    A token whose bf16 router chose another expert than float64's differs more: it is counted apart.
    """
    m, tokens = step.model, step.tokens
    step.run()
    x = m.embedding[step.ids].double()
    same = torch.ones(tokens, dtype=torch.bool, device="cuda")
    for number, layer in enumerate(m.layers):
        qkv = oracles.rms_norm(x, layer.attention_gamma, EPS) @ layer.qkv.double().T
        q, k, v = qkv.view(tokens, 3, HEADS, HEAD_DIM).unbind(1)
        angles = step.cos[step.positions.long()], step.sin[step.positions.long()]
        q = oracles.turned(q, *angles, layer.q_gamma, EPS)
        k = oracles.turned(k, *angles, layer.k_gamma, EPS)
        keys, values = (cache.clone() for cache in step.caches[number])
        keys[:, :, -1], values[:, :, -1] = k.to(keys.dtype), v.to(values.dtype)
        x = x + oracles.attend(q, keys, values, step.lengths).flatten(1) @ layer.output.double().T
        normed = oracles.rms_norm(x, layer.moe.gamma, EPS)
        logits = normed @ layer.moe.router.double().T
        ids = logits.topk(OLMOE.top_k, -1).indices
        _, results = oracles.experts(normed, layer.moe.gate_up, layer.moe.down, ids)
        shares = logits.softmax(-1).gather(-1, ids)
        x = x + (results.view(tokens, OLMOE.top_k, -1) * shares[..., None]).sum(1)
    if number == len(m.layers) - 1:
        chosen = step.routings[number].ids.long()
        same = (chosen.sort(-1).values == ids.sort(-1).values).all(-1)
    logits = oracles.rms_norm(x, m.gamma, EPS) @ m.head.double().T
    by_token = (step.logits.double() - logits).norm(dim=-1) / logits.norm(dim=-1)
    return {
        "median": by_token.median().item(),
        "worst_with_equal_experts": by_token[same].max().item() if same.any() else None,
        "equal_experts_in_last_layer": same.double().mean().item(),
    }
