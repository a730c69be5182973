"""The project's own kernels (`reference_model/fused`), chained into a step.

A layer takes seven kernels at one token of a step and nine beyond: one fewer with a dense FFN, two
more with shared experts, one more with latent attention (MLA) and three more where that compresses
its queries. From more than 512 tokens on, of a prefill or of a large batch, experts take two more:
a dense FFN and shared experts one each. Neighbours share them so:

- At one token, a norm is taken inside the product after it, and a product that ends a sublayer adds
  to the residual stream itself.
- Beyond, a norm's kernel adds what waits before it: a product's result, or the weighted sum of the
  experts' results. Where a step has more than 16 or 64 tokens, the norm before a router is part of
  the router's product, and a second kernel chooses; of more than 512 it stands alone again.
- Latent attention runs absorbed. The rotation of queries and key, the cache write and the product
  of queries and `k_up` are one kernel. It takes the latent's norm along, unless queries are
  compressed: then a kernel before it takes both norms.
- A memory layer takes six kernels: its queries and what else the token is multiplied by are one
  product; scores; the best lines and columns; the best points and their rows; the rows of all its
  tables; the output. One head with few rows chooses and reads them in one kernel. A layer without
  an output product adds the rows' sum itself. Of each 2,048 of many tokens all kernels but those of
  products run by themselves.
  Up to 512 tokens its search, from the scores to the rows, runs beside the dense FFN of its block.
- Experts take two kernels. The hidden values between them pass through memory, as do the experts'
  results at more than one token; sorting and permuting tokens cost no kernel. Of many tokens, a
  kernel puts them in the order of experts.
- A dense product of many tokens is cuBLAS's, and the activation behind it has a kernel of its own.

A kernel that spans operators is counted at the part that it begins with or, where a norm is taken
inside a product, at the product. Left out: the second kernel that cuBLAS needs for some products.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from costmodel.backends.base import Backend, Branch
from costmodel.backends.fused_memory import (
    MEMORY_SPANS,
    memory_branches,
    memory_joins,
    memory_launches,
)
from costmodel.backends.fused_support import refusal
from costmodel.layers.base import MemoryKind
from costmodel.layers.mla import LatentAttention
from costmodel.layers.moe import MoeFfn
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part, Step

ROUTER, EXPERTS = "moe.router", "moe.experts"
LATENT_NORM, ROPE, K_UP = "attention.latent_norm", "attention.rope", "attention.k_up"
LATENT_JOINED = (LATENT_NORM, ROPE)  # mostly part of the product with k_up
NORMS = ("attention_norm", "ffn_norm", "final_norm")
FEW_TOKENS = {True: 64, False: 16}  # by whether experts are few
FEW_EXPERTS = 32
TILE = 16  # experts that a block of the router's product takes
MANY_TOKENS = 512
OF_MANY = {EXPERTS: "sort", "ffn.gate_up": "activation", "moe.shared_gate_up": "activation"}
"""Parts that begin a kernel at many tokens alone, by leaf."""


def few(tokens: Number, experts: int) -> Any:  # noqa: ANN401 - a truth value or an array of them
    """Whether a router of E experts takes one kernel at N tokens, apart from the norm before it.

    Source: reference_model/kernels/router.py, measured on an H200.
    """
    most = FEW_TOKENS[experts <= FEW_EXPERTS]
    return tokens <= most if experts % TILE == 0 else tokens >= 1


def many(tokens: Number) -> Any:  # noqa: ANN401 - a truth value or an array of them
    """Whether weights are no longer most of a step's work.

    Source: reference_model/kernels/tiles.py.
    """
    return tokens > MANY_TOKENS


class Fused(Backend):
    """Fused kernels of a step, chained without a pause on the host."""

    name = "fused"
    saves_intermediates = True
    spans = (
        ("attention_norm", "attention.qkv"),
        ("attention_norm", "attention.qkv_down"),
        (LATENT_NORM, ROPE, K_UP),
        (ROPE, K_UP),
        ("ffn_norm", ROUTER),
        ("ffn_norm", "ffn.gate_up"),
        *MEMORY_SPANS,
        ("final_norm", "lm_head"),
    )
    unpriced = "no calibration holds times of the kernels of the backend fused"

    def refusal(self, operators: Sequence[Operator], step: Step) -> str | None:
        """The first thing without kernels: the phase, a format, a layer or a size of the model."""
        reason = refusal(operators, step)
        return None if reason is None else f"the backend {self.name} {reason}"

    def joins(self, members: Sequence[Operator], tokens: Number) -> bool:
        """At one token all norms join what follows; beyond, only that of a router of many tokens.

        Rotation and absorption of latent attention always do, with the latent's norm or without it.
        """
        assert isinstance(tokens, int), "regions are those of one number of tokens"
        last = members[-1]
        if isinstance(last.layer_kind, MemoryKind):
            return memory_joins(members, last.layer_kind, tokens)
        if last.leaf == K_UP:
            return _compresses_queries(last) is (members[0].leaf == ROPE)
        if tokens == 1:
            return True
        return last.leaf == ROUTER and not (few(tokens, _experts(last)) or many(tokens))

    def may_join(self, members: Sequence[Operator]) -> bool:
        """At one token, or at the most below `many`: no region is of others alone."""
        return any(self.joins(members, tokens) for tokens in (1, MANY_TOKENS))

    def outside_launches(self, operators: Sequence[Operator]) -> int:
        """A fill that zeroes the lengths of experts' lists, for all alike layers at once."""
        return sum(operator.leaf == ROUTER for operator in operators)

    def branches(self, operators: Sequence[Operator], tokens: Number) -> Sequence[Branch]:
        """A memory layer's search beside the dense FFN of its block, unless tokens are many."""
        return memory_branches(operators, 1 - _count(many(tokens)))

    def launches(self, operator: Operator, part: Part, tokens: Number) -> Number:
        """1 for a part that begins a kernel, else 0."""
        if part.name == OF_MANY.get(operator.leaf):
            return _count(many(tokens))
        if operator.leaf in NORMS:
            return _count(tokens != 1) if part.name == "norm" else 0
        if operator.leaf == ROUTER:
            return _router_launches(operator, part, tokens)
        if isinstance(operator.layer_kind, LatentAttention) and operator.leaf in LATENT_JOINED:
            return int(operator.leaf == LATENT_NORM and _compresses_queries(operator))
        if isinstance(operator.layer_kind, MemoryKind):
            return memory_launches(operator, operator.layer_kind, part, tokens)
        products = operator.leaf == EXPERTS
        return int(part.name in {"gate_up", "down"} if products else part is operator.parts[0])


def _router_launches(router: Operator, part: Part, tokens: Number) -> Number:
    """1 for the product, unless the norm before it begins that kernel; 1 for the choice apart."""
    one_kernel = _count(few(tokens, _experts(router)))  # which is so at one token too
    if part is router.parts[0]:
        return _count((one_kernel == 1) | many(tokens))
    chooses = next(each for each in router.parts if each.kind == "selection")
    return 1 - one_kernel if part is chooses else 0


def _experts(router: Operator) -> int:
    """E of the layer that a router belongs to."""
    assert isinstance(router.layer_kind, MoeFfn)
    return router.layer_kind.num_experts


def _compresses_queries(operator: Operator) -> bool:
    """Whether an operator of latent attention belongs to a layer that compresses its queries."""
    assert isinstance(operator.layer_kind, LatentAttention)
    return operator.layer_kind.q_lora_rank is not None


def _count(condition: Any) -> Number:  # noqa: ANN401 - a truth value or an array of them
    """1 where the condition holds, else 0."""
    return np.where(condition, 1, 0) if isinstance(condition, np.ndarray) else int(condition)
