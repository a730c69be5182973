"""Mixture of experts: router, experts as grouped matrix products, shared experts.

Shapes: N tokens, D hidden, E experts, k of them a token, I expert width. No weight is copied and
the host is never asked: tokens are sorted by expert, and the group borders stay on the device.
"""

import torch
from torch import Tensor, nn

from costmodel.errors import InputError
from costmodel.layers.moe import MoeFfn
from reference_model.layers import Linear, activate
from reference_model.leaf import Factory, Leaf, Selector
from reference_model.registry import runs

ROW_BYTES = 16  # a row of a grouped matrix product takes a multiple of these: torch refuses others


def grouped_mm(x: Tensor, weight: Tensor, offsets: Tensor) -> Tensor:
    """Rows of x [R, i] in groups that end at `offsets` [E], times weight [E, o, i]: [R, o]."""
    public = getattr(nn.functional, "grouped_mm", None)  # torch 2.11 has it under another name
    product = torch._grouped_mm if public is None else public  # noqa: SLF001
    out: Tensor = product(x, weight.mT, offs=offsets)
    return out


class Router(Selector):
    """Scores of all experts, and the weights and indices [N, k] of the chosen."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    score_correction_bias: nn.Parameter  # where the configuration has it

    def __init__(self, factory: Factory, config: MoeFfn) -> None:
        super().__init__("experts", population=config.num_experts, draws=config.num_experts_per_tok)
        self.config = config
        e = config.num_experts
        self.register("weight", factory.normal(e, factory.hidden_size), "router")
        if config.router_bias:
            self.register("bias", factory.filled(e, value=0.0), "router")
        else:
            self.bias = None
        if config.score_correction_bias:
            self.register("score_correction_bias", factory.filled(e, value=0.0), "router")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, D] to weights and indices, both [N, k]."""
        c = self.config
        logits = nn.functional.linear(x, self.weight, self.bias).float()
        if c.scoring == "softmax":
            scores = logits.softmax(-1)
        elif c.scoring == "sigmoid":
            scores = logits.sigmoid()
        else:
            scores = logits
        ranked = scores
        if c.score_correction_bias:
            ranked = ranked + self.score_correction_bias.float()
        if c.n_group > 1:
            ranked = self._limited(ranked)
        if self.synthetic_choice is not None:  # in place of groups and corrections too
            ranked = self.synthetic_choice[: ranked.shape[0]]
        indices = ranked.topk(c.num_experts_per_tok, dim=-1).indices
        weights = scores.gather(-1, indices)
        if c.scoring == "softmax_of_chosen":
            weights = weights.softmax(-1)
        elif c.norm_topk_prob:
            weights = weights / weights.sum(-1, keepdim=True)
        self.selected = indices
        return weights.to(x.dtype), indices

    def _limited(self, ranked: Tensor) -> Tensor:
        """Scores with those outside the best groups at minus infinity."""
        c = self.config
        grouped: Tensor = ranked.unflatten(-1, (c.n_group, -1))
        group_scores = grouped.topk(c.group_score_experts, dim=-1).values.sum(-1)
        best = group_scores.topk(c.topk_group, dim=-1).indices
        kept = torch.zeros_like(group_scores, dtype=torch.bool).scatter_(-1, best, value=True)
        return grouped.masked_fill(~kept[..., None], float("-inf")).flatten(-2)


class Experts(Leaf):
    """Sort by expert, two grouped products, weighted sum of the k results of each token."""

    gate_up: nn.Parameter
    down: nn.Parameter
    gate_up_bias: nn.Parameter  # both where experts have biases
    down_bias: nn.Parameter

    def __init__(self, factory: Factory, config: MoeFfn) -> None:
        super().__init__()
        self.config = config
        e, i, d = config.num_experts, config.moe_intermediate_size, factory.hidden_size
        for field, width in (("hidden_size", d), ("moe_intermediate_size", i)):
            if width * factory.dtype.itemsize % ROW_BYTES:
                multiple = ROW_BYTES // factory.dtype.itemsize
                raise InputError(
                    f"{field}={width}: must be a multiple of {multiple} to run experts"
                )
        wide = 2 * i if config.gated else i
        self.register("gate_up", factory.normal(e, wide, d), "experts")
        self.register("down", factory.normal(e, d, i), "experts")
        if config.expert_bias:
            self.register("gate_up_bias", factory.filled(e, wide, value=0.0), "experts")
            self.register("down_bias", factory.filled(e, d, value=0.0), "experts")
        experts = torch.arange(e, device=factory.device)
        self.numbers = experts  # a plain attribute: no parameter, no buffer of the model

    def forward(self, x: Tensor, weights: Tensor, indices: Tensor, shared: Tensor | None) -> Tensor:
        """[N, D], weights and indices [N, k] to [N, D]; the shared experts' result is added."""
        c = self.config
        k = c.num_experts_per_tok
        ordered, order = indices.flatten().sort(stable=True)
        ends = torch.searchsorted(ordered, self.numbers, right=True).to(torch.int32)
        hidden = grouped_mm(x[order // k], self.gate_up, ends)
        if c.expert_bias:
            hidden = hidden + self.gate_up_bias[ordered]
        y = grouped_mm(activate(c.activation, c.gated, hidden), self.down, ends)
        if c.expert_bias:
            y = y + self.down_bias[ordered]
        back = torch.empty_like(y).index_copy_(0, order, y)
        results: Tensor = back.unflatten(0, (-1, k))
        out = (results * weights[..., None]).sum(1)
        return out if shared is None else out + shared


@runs(MoeFfn)
class MoeLayer(nn.Module):
    """router, experts, and two projections of shared experts."""

    attribute = "moe"

    def __init__(self, factory: Factory, config: MoeFfn) -> None:
        super().__init__()
        self.router = Router(factory, config)
        self.experts = Experts(factory, config)
        self.shared = config.shared_intermediate_size
        if self.shared:
            d, bias = factory.hidden_size, config.expert_bias
            self.shared_gate_up = Linear(
                factory,
                d,
                2 * self.shared if config.gated else self.shared,
                "shared_experts",
                bias=bias,
                activation=config.activation,
                gated=config.gated,
            )
            self.shared_down = Linear(factory, self.shared, d, "shared_experts", bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        flat = x.flatten(0, -2)
        shared = self.shared_down(self.shared_gate_up(flat)) if self.shared else None
        result: Tensor = self.experts(flat, *self.router(flat), shared).view_as(x)
        return result
