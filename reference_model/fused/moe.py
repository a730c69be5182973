"""Experts of a step: a router of one or two launches, gate_up, and down.

Of one token the norm is part of the router, and `down` sums the experts and adds to the residual
stream. Of more, the weighted sum waits for the next norm. Where the router works in tiles, the norm
before it is part of it: its factor comes late (`kernels/router_tiles.py`). Many tokens are put in
the order of experts first (`kernels/grouped.py`), by a launch of its own.
"""

from dataclasses import dataclass

from torch import Tensor

from reference_model.fused.ffn import launch_gate_up
from reference_model.fused.plan import Plan, region
from reference_model.fused.products import launch_product
from reference_model.kernels.experts import described, down, gate_up
from reference_model.kernels.experts_one import down_one, gate_up_one
from reference_model.kernels.grouped import (
    Groups,
    group_pairs,
    group_tiles,
    grouped_down,
    grouped_gate_up,
)
from reference_model.kernels.router import few
from reference_model.kernels.router_tiles import LateNorm, route_tiles
from reference_model.kernels.router_tokens import route_tokens
from reference_model.kernels.routing import RouterRule, Routing
from reference_model.kernels.tiles import expert_tiles, many
from reference_model.layers import Norm
from reference_model.leaf import NORM_EPS
from reference_model.moe import MoeLayer, Router


def rule_of(router: Router) -> RouterRule:
    """The router's rule as its kernels take it."""
    config = router.config
    assert config.scoring != "sigmoid_of_chosen", "refused"
    assert config.scoring != "sqrtsoftplus", "refused"
    return RouterRule(
        top_k=config.num_experts_per_tok,
        scoring=config.scoring,
        normalised=config.norm_topk_prob,
        groups=config.n_group,
        kept_groups=config.topk_group,
        group_score_experts=config.group_score_experts,
    )


def takes_norm(plan: Plan, router: Router) -> bool:
    """Whether the router works in tiles: it takes the norm along, and what waits before it."""
    tokens = plan.tokens
    return not (plan.single or few(tokens, router.config.num_experts) or many(tokens))


@dataclass(frozen=True, slots=True)
class MoePlan:
    """Puts the launches of one layer's experts into a plan.

    Attributes:
        routing: That layer's.
        groups: Where many tokens are put in order; None: they are few.
        alone: No other layer needs the normed input, so that the norm's factor may come late.
    """

    plan: Plan
    prefix: str
    layer: MoeLayer
    routing: Routing
    groups: Groups | None = None
    alone: bool = True

    def add(self, norm: Norm) -> None:
        """Router, experts, and shared experts where there are some."""
        scale = self._route(norm)
        if self.plan.single:
            self._experts_of_one()
        elif self.groups is not None:
            self._grouped(self.groups)
        else:
            self._experts(scale)
        if self.layer.shared:
            self._shared(scale)

    def _route(self, norm: Norm) -> Tensor | None:
        """The router, and the norm before it; what comes late of the norm, or None."""
        plan, prefix, router = self.plan, self.prefix, self.layer.router
        config = router.config
        declared = None
        if router.synthetic_choice is not None:
            declared = router.synthetic_choice[: plan.tokens].contiguous()
        given = {
            "bias": router.bias,
            "correction": router.score_correction_bias if config.score_correction_bias else None,
            "declared": declared,
            "pdl": plan.pdl,
        }
        weight, rule = router.weight, rule_of(router)
        both = region(prefix, "ffn_norm", "moe.router")
        if plan.single:
            plan.launch(
                both, route_tokens, plan.stream, weight, self.routing, rule, gamma=norm.weight,
                normed=plan.normed, eps=NORM_EPS, listed=False, **given,
            )  # fmt: skip
        elif not (self.alone and takes_norm(plan, router)):
            # One launch chooses; beyond few tokens it is the slower one, but two would be one more
            apart = not takes_norm(plan, router)
            plan.launch_norm(prefix + "ffn_norm" if apart else both, norm)
            path = prefix + "moe.router" if apart else both
            tiled = apart and not few(plan.tokens, config.num_experts)
            way = route_tiles if tiled else route_tokens
            plan.launch(path, way, plan.normed, weight, self.routing, rule, **given)
        else:
            assert plan.waiting == 1, "attention's output alone waits here"
            assert plan.add is not None
            late = LateNorm(
                add=plan.add[0], gamma=norm.weight, eps=NORM_EPS, summed=plan.spare,
                scaled=plan.normed,
            )  # fmt: skip
            plan.launch(
                both, route_tiles, plan.stream, weight, self.routing, rule, norm=late, **given
            )
            plan.swap()
            return self.routing.scale
        return None

    def _experts_of_one(self) -> None:
        plan, experts, path = self.plan, self.layer.experts, self.prefix + "moe.experts"
        hidden, _ = self._room()
        plan.launch(
            path, gate_up_one, plan.normed, experts.gate_up, hidden, self.routing,
            bias=self._bias("gate_up_bias"), activation=experts.config.activation, pdl=plan.pdl,
        )  # fmt: skip
        plan.launch(
            path, down_one, hidden, experts.down, plan.stream, self.routing,
            bias=self._bias("down_bias"), residual=plan.stream, pdl=plan.pdl,
        )  # fmt: skip

    def _experts(self, scale: Tensor | None) -> None:
        plan, experts, path = self.plan, self.layer.experts, self.prefix + "moe.experts"
        config = experts.config
        up, low = expert_tiles(
            plan.tokens, config.num_experts, config.num_experts_per_tok, plan.hidden,
            config.moe_intermediate_size,
        )  # fmt: skip
        hidden, results = self._room()
        plan.launch(
            path, gate_up, plan.normed, described(experts.gate_up, up), hidden, up,
            routing=self.routing, bias=self._bias("gate_up_bias"), scale=scale,
            activation=config.activation, pdl=plan.pdl,
        )  # fmt: skip
        plan.launch(
            path, down, hidden, described(experts.down, low), results, low, tokens=plan.tokens,
            routing=self.routing, bias=self._bias("down_bias"), pdl=plan.pdl,
        )  # fmt: skip
        plan.results, plan.weights = results, self.routing.weights

    def _grouped(self, groups: Groups) -> None:
        plan, experts, path = self.plan, self.layer.experts, self.prefix + "moe.experts"
        config = experts.config
        up, low = group_tiles()
        width = config.moe_intermediate_size
        hidden = plan.shared_room("grouped_hidden", groups.rows.shape[0], width)
        plan.launch(path, group_pairs, plan.normed, self.routing, groups, pdl=plan.pdl)
        plan.launch(
            path, grouped_gate_up, experts.gate_up, hidden, groups, up,
            bias=self._bias("gate_up_bias"), activation=config.activation, pdl=plan.pdl,
        )  # fmt: skip
        plan.launch(
            path, grouped_down, experts.down, hidden, groups, low, bias=self._bias("down_bias"),
            pdl=plan.pdl,
        )  # fmt: skip
        plan.results, plan.weights = groups.rows, self.routing.weights
        plan.places = groups.places

    def _shared(self, scale: Tensor | None) -> None:
        """Shared experts: one feed-forward layer that every token uses."""
        plan, layer, prefix = self.plan, self.layer, self.prefix
        hidden = plan.shared_room("shared_hidden", plan.tokens, layer.shared)
        path = prefix + "moe.shared_gate_up"
        launch_gate_up(plan, path, plan.normed, layer.shared_gate_up, hidden, scale=scale)
        launch_product(plan, prefix + "moe.shared_down", hidden, layer.shared_down, None)

    def _room(self) -> tuple[Tensor, Tensor]:
        plan, config = self.plan, self.layer.router.config
        pairs = plan.tokens * config.num_experts_per_tok
        hidden = plan.shared_room("expert_hidden", pairs, config.moe_intermediate_size)
        return hidden, plan.shared_room("expert_results", pairs, plan.hidden)

    def _bias(self, name: str) -> Tensor | None:
        bias: Tensor | None = getattr(self.layer.experts, name, None)
        return bias
