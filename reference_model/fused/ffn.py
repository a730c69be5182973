"""A dense gated feed-forward layer of a step: gate_up with its activation, then down.

The gate_up product runs on the expert kernel as one expert that all tokens use. cuBLAS with a
launch for the activation was 0.5 % of a step faster at 256 tokens, and slower at fewer; steps of
many tokens take it.
"""

from torch import Tensor

from reference_model.ffn import FeedForward
from reference_model.fused.plan import Plan, region
from reference_model.fused.products import chosen, launch_cublas, launch_product
from reference_model.kernels.activation import activate
from reference_model.kernels.experts import described, gate_up
from reference_model.kernels.experts_one import gate_up_one
from reference_model.kernels.tiles import dense_tile, many
from reference_model.layers import Linear, Norm
from reference_model.leaf import NORM_EPS


def add_feed_forward(
    plan: Plan, prefix: str, norm: Norm, layer: FeedForward, *, normed: bool = False
) -> None:
    """The launches of one layer; `prefix` is "layers.3.".

    `normed`: of several tokens, the norm has been taken already.
    """
    gates = layer.gate_up
    hidden = plan.shared_room("ffn_hidden", plan.tokens, gates.weight.shape[0] // 2)
    if plan.single:
        path = region(prefix, "ffn_norm", "ffn.gate_up")
        launch_gate_up(plan, path, plan.stream, gates, hidden, gamma=norm.weight)
    else:
        if not normed:
            plan.launch_norm(prefix + "ffn_norm", norm)
        launch_gate_up(plan, prefix + "ffn.gate_up", plan.normed, gates, hidden)
    launch_product(plan, prefix + "ffn.down", hidden, layer.down, None)


def launch_gate_up(
    plan: Plan,
    path: str,
    x: Tensor,
    leaf: Linear,
    hidden: Tensor,
    *,
    gamma: Tensor | None = None,
    scale: Tensor | None = None,
) -> None:
    """Compute hidden [T, F]: the activation of norm(x [T, D]) by gate and up.

    `gamma` is the norm's weight, for one token; `scale` [T] multiplies what a token's products
    give, where the norm's factor comes late.
    """
    weight, bias = leaf.weight, leaf.bias
    outputs, inputs = weight.shape
    if plan.single:
        choice = chosen(outputs, inputs, 1)
        plan.launch(
            path, gate_up_one, x, weight, hidden, None, bias=bias,
            activation=leaf.activation, gamma=gamma, eps=NORM_EPS, rows=choice.rows,
            warps=choice.warps, pdl=plan.pdl,
        )  # fmt: skip
        return
    assert gamma is None
    if many(plan.tokens):
        assert scale is None
        both = plan.shared_room("gate_up", plan.tokens, outputs)
        launch_cublas(plan, path, x, leaf, both)
        plan.launch(
            path, activate, both, hidden, activation=leaf.activation, pdl=plan.pdl
        )  # fmt: skip
        return
    tile = dense_tile(plan.tokens, inputs)
    plan.launch(
        path, gate_up, x, described(weight, tile), hidden, tile, bias=bias, scale=scale,
        activation=leaf.activation, pdl=plan.pdl,
    )  # fmt: skip
