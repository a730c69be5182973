"""The small kernels: norms, rope with the cache write, routers, dense products of few tokens.

Norms, rope and routers run in a chain over warm activations, as in a model, where the kernel before
has just written them; dense products turn over weights that the L2 does not hold, beside cuBLAS.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.attention_core import Core
from benchmarks.moe_layer import EPS, SHAPES, Weights
from benchmarks.timing import Timer
from reference_model.kernels import oracles
from reference_model.kernels.experts_one import down_one, gate_up_one
from reference_model.kernels.linear import linear
from reference_model.kernels.norm import add_norm
from reference_model.kernels.rope import rope_and_store
from reference_model.kernels.router_tiles import route_tiles, splits_of
from reference_model.kernels.router_tokens import route_tokens
from reference_model.kernels.routing import Routing

HIDDEN, TOP_K, HEAD_DIM, CAPACITY, CHAIN = 2048, 8, 128, 512, 64
ROPES = {"OLMoE-1B-7B": (16, 16, "full"), "Qwen3-30B-A3B": (32, 4, "head")}
PRODUCTS = {"qkv 6144 x 2048": 6144, "output 2048 x 2048": 2048, "head 50304 x 2048": 50304}
FEW = (1, 2, 4, 8)  # tokens of the dense products
ROWS = ((2, 2), (2, 4), (4, 4))  # rows a block, warps
WEIGHTS_BYTES = 600e6
Generator = Callable[[], torch.Generator]
Result = dict[str, object]


class Norms:
    """Inputs of the norm kernel."""

    def __init__(self, tokens: int, generator: torch.Generator) -> None:
        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(shape, device="cuda", generator=generator)

        self.stream = normal(tokens, HIDDEN).bfloat16()
        self.add = 0.01 * normal(tokens, HIDDEN).bfloat16()
        self.results = 0.01 * normal(tokens * TOP_K, HIDDEN).bfloat16()
        self.weights = normal(tokens, TOP_K).softmax(-1)
        self.gamma = (1 + 0.1 * normal(HIDDEN)).bfloat16()
        self.out = torch.full_like(self.stream, torch.nan)

    def run(self, *, experts: bool, pdl: bool) -> None:
        """Residual and norm, or the experts' sum, residual and norm."""
        add_norm(
            self.stream, self.gamma, self.out, eps=EPS, add=None if experts else self.add,
            results=self.results if experts else None,
            weights=self.weights if experts else None, pdl=pdl,
        )  # fmt: skip

    def chain(self, *, experts: bool, pdl: bool) -> None:
        """As often as is timed."""
        for _ in range(CHAIN):
            self.run(experts=experts, pdl=pdl)

    def check(self) -> Result:
        """Against float64."""
        errors: Result = {}
        for experts in (False, True):
            total, normed = oracles.add_norm(
                self.stream, self.gamma, EPS, None if experts else self.add,
                self.results if experts else None, self.weights if experts else None,
            )  # fmt: skip
            self.out.fill_(torch.nan)
            self.run(experts=experts, pdl=True)
            name = "experts" if experts else "residual"
            errors[name] = oracles.error(self.stream, total), oracles.error(self.out, normed)
        return errors


class Ropes:
    """Inputs of the rope kernel, with the caches of several layers."""

    def __init__(self, name: str, tokens: int, generator: torch.Generator) -> None:
        self.heads, self.kv_heads, norm = ROPES[name]
        self.tokens = tokens

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(shape, device="cuda", generator=generator).bfloat16()

        self.qkv = normal(tokens, (self.heads + 2 * self.kv_heads) * HEAD_DIM)
        wide = (self.heads, self.kv_heads) if norm == "full" else (1, 1)
        self.gammas = [1 + 0.1 * normal(heads * HEAD_DIM) for heads in wide]
        self.q = torch.empty(tokens, self.heads, HEAD_DIM, device="cuda", dtype=torch.bfloat16)
        shape = 2, tokens, self.kv_heads, CAPACITY, HEAD_DIM
        self.caches = [
            torch.full(shape, torch.nan, device="cuda", dtype=torch.bfloat16) for _ in range(4)
        ]
        self.positions = torch.randint(
            0, CAPACITY, (tokens,), device="cuda", generator=generator, dtype=torch.int32
        )
        turn = torch.arange(CAPACITY, device="cuda")[:, None] * 10_000.0 ** -(
            torch.arange(0, HEAD_DIM, 2, device="cuda") / HEAD_DIM
        )
        self.cos, self.sin = turn.cos(), turn.sin()

    def run(self, number: int, *, pdl: bool) -> None:
        """One layer."""
        keys, values = self.caches[number % len(self.caches)]
        rope_and_store(
            self.qkv, self.q, keys, values, cos=self.cos, sin=self.sin,
            positions=self.positions, slots=self.positions, q_gamma=self.gammas[0],
            k_gamma=self.gammas[1], eps=EPS, pdl=pdl,
        )  # fmt: skip

    def chain(self, *, pdl: bool) -> None:
        """As often as is timed, layer after layer."""
        for number in range(CHAIN):
            self.run(number, pdl=pdl)

    def check(self) -> Result:
        """Against float64."""
        self.run(0, pdl=True)
        parts = [heads * HEAD_DIM for heads in (self.heads, self.kv_heads, self.kv_heads)]
        q, k, v = (
            part.view(self.tokens, -1, HEAD_DIM) for part in torch.split(self.qkv, parts, dim=-1)
        )
        angles = self.cos[self.positions.long()], self.sin[self.positions.long()]
        written = torch.arange(self.tokens, device="cuda"), slice(None), self.positions.long()
        keys, values = self.caches[0]
        return {
            "queries": oracles.error(self.q, oracles.turned(q, *angles, self.gammas[0], EPS)),
            "keys": oracles.error(keys[written], oracles.turned(k, *angles, self.gammas[1], EPS)),
            "values": oracles.error(values[written], v),
        }


def _check_rope(name: str, tokens: int, make: Generator) -> Result:
    return Ropes(name, tokens, make()).check()


def check_linear(tokens: int, make: Generator) -> Result:
    """Every launch of the dense product of few tokens, against float64."""
    generator = make()
    x = torch.randn(tokens, HIDDEN, device="cuda", generator=generator).bfloat16()
    weight = torch.randn(2048, HIDDEN, device="cuda", generator=generator).bfloat16()
    out = torch.empty(tokens, 2048, device="cuda", dtype=torch.bfloat16)
    errors: Result = {}
    for rows, warps in ROWS:
        out.fill_(torch.nan)
        linear(x, weight, out, rows=rows, warps=warps, pdl=True)
        errors[f"{rows} rows, {warps} warps"] = oracles.error(out, x.double() @ weight.double().T)
    return errors


def checks(tokens: int, generator: Generator) -> Iterator[tuple[str, Callable[[], Result]]]:
    """The small kernels' checks under their names."""
    yield "norm", lambda: Norms(tokens, generator()).check()
    for name in ROPES:
        yield f"rope, {name}", partial(_check_rope, name, tokens, generator)
    if tokens == 1:
        for few in FEW:
            yield f"linear of {few}, with", partial(check_linear, few, generator)


def _router(timer: Timer, tokens: int, shape_number: int, generator: torch.Generator) -> Result:
    shape = SHAPES[shape_number]
    weights = [Weights.random(shape, generator).router for _ in range(2)]
    x = torch.randn(tokens, shape.hidden, device="cuda", generator=generator).bfloat16()
    counts, routings = Routing.layers(
        CHAIN, tokens=tokens, experts=shape.experts, top_k=shape.top_k,
        splits=splits_of(shape.hidden), device="cuda",
    )  # fmt: skip
    results: Result = {}
    for name in ("by token, 4 experts a block", "by token, 8 experts a block", "by tiles"):

        def chain(name: str = name) -> None:
            counts.zero_()
            for layer, routing in enumerate(routings):
                weight, rule = weights[layer % 2], shape.rule
                if name == "by tiles":
                    route_tiles(x, weight, routing, rule, pdl=True)
                else:
                    rows = 4 if " 4 " in name else 8
                    route_tokens(x, weight, routing, rule, rows=rows, pdl=True)

        results[name] = timer.step_us(chain, per=CHAIN, replays=9)
    return results


def _products(timer: Timer, outputs: int, generator: torch.Generator) -> Result:
    count = max(2, round(WEIGHTS_BYTES / (2 * HIDDEN * outputs)))
    weights = [
        torch.empty(outputs, HIDDEN, device="cuda", dtype=torch.bfloat16).normal_(
            0, HIDDEN**-0.5, generator=generator
        )
        for _ in range(count)
    ]
    results: Result = {"bytes": 2 * HIDDEN * outputs}
    for tokens in FEW:
        x = torch.randn(tokens, HIDDEN, device="cuda", generator=generator).bfloat16()
        out = torch.empty(tokens, outputs, device="cuda", dtype=torch.bfloat16)

        def cublas(x: torch.Tensor = x, out: torch.Tensor = out) -> None:
            for weight in weights:
                torch.mm(x, weight.T, out=out)

        results[f"{tokens} tokens, cuBLAS"] = timer.step_us(cublas, per=count, replays=9)
        for rows, warps in ROWS:

            def own(
                x: torch.Tensor = x, out: torch.Tensor = out, rows: int = rows, warps: int = warps
            ) -> None:
                for weight in weights:
                    linear(x, weight, out, rows=rows, warps=warps, pdl=True)

            name = f"{tokens} tokens, {rows} rows, {warps} warps"
            results[name] = timer.step_us(own, per=count, replays=9)
    return results


def _one_token(timer: Timer, shape_number: int, generator: torch.Generator) -> Result:
    """gate_up and down of one token, in several launches."""
    shape = SHAPES[shape_number]
    weights = [Weights.random(shape, generator) for _ in range(shape.layers)]
    x = torch.randn(1, shape.hidden, device="cuda", generator=generator).bfloat16()
    _, routings = Routing.layers(
        len(weights), tokens=1, experts=shape.experts, top_k=shape.top_k, splits=1, device="cuda"
    )
    hidden = torch.zeros(shape.top_k, shape.width, device="cuda", dtype=torch.bfloat16)
    out = torch.zeros_like(x)
    for w, routing in zip(weights, routings, strict=True):
        route_tokens(x, w.router, routing, shape.rule)
    results: Result = {"bytes": 6 * shape.top_k * shape.hidden * shape.width}
    for up, down in (
        ((2, 2), (1, 2)), ((2, 4), (1, 4)), ((1, 2), (2, 2)), ((4, 4), (2, 4)), ((1, 1), (2, 8)),
        ((4, 8), (4, 8)), ((2, 8), (1, 1)),
    ):  # fmt: skip

        def ups(up: tuple[int, int] = up) -> None:
            for w, routing in zip(weights, routings, strict=True):
                gate_up_one(x, w.gate_up, hidden, routing, rows=up[0], warps=up[1], pdl=True)

        def downs(down: tuple[int, int] = down) -> None:
            for w, routing in zip(weights, routings, strict=True):
                down_one(hidden, w.down, out, routing, rows=down[0], warps=down[1], pdl=True)

        for name, chain, (rows, warps) in (("gate_up", ups, up), ("down", downs, down)):
            results[f"{name}, {rows} rows, {warps} warps"] = timer.step_us(
                chain, per=len(weights), replays=9
            )
    return results


def measured(timer: Timer, generator: Generator, token_counts: tuple[int, ...]) -> Result:
    """Microseconds of every small kernel."""
    results: Result = {}
    for tokens in token_counts:
        norms = Norms(tokens, generator())
        for experts in (False, True):
            for pdl in (False, True):
                name = "experts' sum and norm" if experts else "residual and norm"
                results[f"{name}, {tokens} tokens, pdl {pdl}"] = timer.step_us(
                    partial(norms.chain, experts=experts, pdl=pdl),
                    per=CHAIN, replays=9,
                )  # fmt: skip
        for model in ROPES:
            ropes = Ropes(model, tokens, generator())
            for pdl in (False, True):
                results[f"rope, {model}, {tokens} tokens, pdl {pdl}"] = timer.step_us(
                    partial(ropes.chain, pdl=pdl),
                    per=CHAIN, replays=9,
                )  # fmt: skip
        for number, shape in enumerate(SHAPES):
            results[f"router, {shape.name}, {tokens} tokens"] = _router(
                timer, tokens, number, generator()
            )
    for number, shape in enumerate(SHAPES):
        results[f"one token, {shape.name}"] = _one_token(timer, number, generator())
        torch.cuda.empty_cache()
    for name, outputs in PRODUCTS.items():
        results[f"product, {name}"] = _products(timer, outputs, generator())
        torch.cuda.empty_cache()
    return results


def sdpa(timer: Timer, core: Core) -> Result:
    """PyTorch's attention on the same caches; it knows neither windows nor sinks."""
    model = core.model
    if model.window is not None or model.sinks:
        return {}
    q = core.q[:, :, None]
    results: Result = {}
    for backend in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION):
        with sdpa_kernel([backend]):
            results[backend.name] = timer.step_us(
                lambda: [
                    scaled_dot_product_attention(
                        q, keys, values, enable_gqa=model.heads != model.kv_heads
                    )
                    for keys, values in core.caches
                ],
                per=len(core.caches), replays=9,
            )  # fmt: skip
    return results
