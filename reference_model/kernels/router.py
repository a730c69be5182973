"""The router: from hidden states to each token's experts, by the launches that suit the tokens."""

from torch import Tensor

from reference_model.kernels.router_tiles import route_tiles
from reference_model.kernels.router_tokens import route_tokens
from reference_model.kernels.routing import TILE, RouterRule, Routing

FEW = 32  # experts up to which a token of its own blocks pays for longer


def few(tokens: int, experts: int) -> bool:
    """Whether blocks for each token are faster on an H200; measured for 32, 64, 128 experts.

    Tiles hold 16 experts, so that another number of them is always done by tokens.
    """
    return tokens <= (16 if experts > FEW else 64) or experts % TILE != 0


def route(
    x: Tensor,
    weight: Tensor,
    routing: Routing,
    rule: RouterRule,
    *,
    bias: Tensor | None = None,
    correction: Tensor | None = None,
    declared: Tensor | None = None,
    pdl: bool = False,
) -> None:
    """Choose experts for x [T, D] by the router's weight [E, D], into a routing of zero counts.

    `bias` [E] is added to the logits, `correction` [E] to the scores that rank but not to the
    weights. `declared` [T, E] ranks in place of the scores: a routing that is given.
    """
    way = route_tokens if few(x.shape[0], weight.shape[0]) else route_tiles
    way(
        x,
        weight,
        routing,
        rule,
        bias=bias,
        correction=correction,
        declared=declared,
        pdl=pdl,
    )
