"""The project's own Triton kernels (`reference_model/kernels`), chained into a decode step.

They exist for models of grouped-query attention with dense or MoE feed-forward layers, in bf16, at
one new token a sequence. A layer takes seven kernels at one token of a step and nine beyond (six
and eight with a dense FFN), and neighbours share them so:

- At one token, a norm is taken inside the product after it, and a product that ends a sublayer adds
  to the residual stream itself.
- Beyond, a norm's kernel adds what waits before it: a product's result, or the weighted sum of the
  experts' results. Where a step has many tokens, the norm before a router is part of the router's
  product, and a second kernel chooses.
- Experts take two kernels. The hidden values between them pass through memory, as do the experts'
  results at more than one token; sorting and permuting tokens cost no kernel.

A kernel that spans operators is counted at the part that it begins with or, where a norm is taken
inside a product, at the product. Once a step a fill zeroes all counters of the experts' lists.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from costmodel.backends.base import Backend
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part, Step

DTYPE = "bf16"
ROUTER, EXPERTS = "moe.router", "moe.experts"
NORMS = ("attention_norm", "ffn_norm", "final_norm")
POST_NORMS = ("post_attention_norm", "post_ffn_norm")
ACTIVATIONS = {"dense": ("silu",), "moe": ("silu", "clamped_silu")}
FEW_TOKENS = {True: 64, False: 16}
"""By whether there are few experts: up to so many tokens of a step, one kernel is the router."""
FEW_EXPERTS = 32


def few(tokens: Number, experts: int) -> Any:  # noqa: ANN401 - a truth value or an array of them
    """Whether a router of E experts takes one kernel at N tokens, apart from the norm before it.

    Source: reference_model/kernels/router.py, measured on an H200.
    """
    return tokens <= FEW_TOKENS[experts <= FEW_EXPERTS]


def _lacking_dense(layer: Any) -> str | None:  # noqa: ANN401 - the configuration of a layer kind
    if not layer.gated:
        return "feed-forward layers without a gate"
    if layer.bias:
        return "dense feed-forward layers with a bias"
    return _lacking_activation(layer)


def _lacking_moe(layer: Any) -> str | None:  # noqa: ANN401
    if not layer.gated:
        return "experts without a gate"
    if layer.shared_intermediate_size:
        return "shared experts"
    return _lacking_activation(layer)


def _lacking_activation(layer: Any) -> str | None:  # noqa: ANN401
    if layer.activation in ACTIVATIONS[layer.kind]:
        return None
    return f"{layer.kind} layers with activation={layer.activation}"


LACKING: dict[str, Callable[[Any], str | None]] = {
    "gqa": lambda _: None,
    "dense": _lacking_dense,
    "moe": _lacking_moe,
}
"""By kind of the layers that have kernels: what of such a layer has none; None: all of it has."""


class Fused(Backend):
    """Fused kernels of decode steps, chained without a pause on the host."""

    name = "fused"
    saves_intermediates = True
    spans = (
        ("attention_norm", "attention.qkv"),
        ("ffn_norm", ROUTER),
        ("ffn_norm", "ffn.gate_up"),
        ("final_norm", "lm_head"),
    )
    outside_launches = 1  # the fill that zeroes counters
    unpriced = "no calibration holds times of the kernels of the backend fused"

    def refusal(self, operators: Sequence[Operator], step: Step) -> str | None:
        """The first thing without kernels: the phase, a format, or a layer of the model."""
        lacking = _lacking_step(step) or next(filter(None, map(_lacking_operator, operators)), None)
        return None if lacking is None else f"the backend {self.name} has no kernels for {lacking}"

    def joins(self, members: Sequence[Operator], tokens: Number) -> bool:
        """At one token all spans are regions; beyond, only a norm and a router of many tokens."""
        assert isinstance(tokens, int), "regions are those of one number of tokens"
        last = members[-1]
        return tokens == 1 or (last.leaf == ROUTER and not few(tokens, _experts(last)))

    def launches(self, operator: Operator, part: Part, tokens: Number) -> Number:
        """1 for a part that begins a kernel, else 0."""
        if operator.leaf in NORMS:
            return _count(tokens != 1) if part.name == "norm" else 0
        if operator.leaf == ROUTER:
            one_kernel = few(tokens, _experts(operator))  # which is so at one token too
            if part is operator.parts[0]:
                return _count(one_kernel)
            chooses = next(each for each in operator.parts if each.kind == "selection")
            return 1 - _count(one_kernel) if part is chooses else 0
        if operator.leaf == EXPERTS:
            return int(part.name in {"gate_up", "down"})
        return int(part is operator.parts[0])


def _lacking_step(step: Step) -> str | None:
    """What of a step has no kernels, whatever the model."""
    if step.new_tokens != 1:
        return "prefill: they take one new token a sequence"
    formats = step.dtype.label, step.kv_dtype.label
    if formats != (DTYPE, DTYPE):
        return f"dtype={formats[0]} with kv_dtype={formats[1]}: they take {DTYPE}"
    return None


def _lacking_operator(operator: Operator) -> str | None:
    """What of an operator has no kernels."""
    if operator.leaf in POST_NORMS:
        return "norms of what sublayers put out"
    layer = operator.layer_kind
    if layer is None:
        return None
    if layer.kind not in LACKING:
        return f"layers of kind {layer.kind}"
    return LACKING[layer.kind](layer)


def _experts(router: Operator) -> int:
    """E of the layer that a router belongs to."""
    layer: Any = router.layer_kind
    experts: int = layer.num_experts
    return experts


def _count(condition: Any) -> Number:  # noqa: ANN401 - a truth value or an array of them
    """1 where the condition holds, else 0."""
    return np.where(condition, 1, 0) if isinstance(condition, np.ndarray) else int(condition)
