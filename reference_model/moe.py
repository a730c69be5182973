"""Mixture of experts (MoE): a router selects k of E feed-forward networks for each token.

The N k pairs of a token and an expert are sorted by expert, so that two grouped matrix products run
all experts in two launches, each reading only the weights of experts that some token selected. The
borders between the groups stay on the device: the host waits for nothing, so a step can be a CUDA
graph. Shared experts, which every token runs, are an ordinary feed-forward layer beside them.

Where a table says which experts a token id has, the router's scores only weigh these.

Experts may work in a latent space, to which one projection leads and from which another leads
back. Behind the E experts there may be Z that return their input: their pairs are sorted to the
end, where no group reads them.

Shapes: N tokens, D hidden (of a latent space: l), E experts, k of them a token, I expert width.
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
    """Each row of x [R, i] times the matrix of its group: [R, o].

    Args:
        x: Rows, sorted by group.
        weight: A matrix for each group, [E, o, i].
        offsets: Where each group ends, [E] of int32; an empty group ends where it starts.
    """
    public = getattr(nn.functional, "grouped_mm", None)  # torch 2.11 has it under another name
    product = torch._grouped_mm if public is None else public  # noqa: SLF001
    out: Tensor = product(x, weight.mT, offs=offsets)
    return out


class Router(Selector):
    """Scores all experts for each token, and selects the k best."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    score_correction_bias: nn.Parameter  # both where the configuration has them
    score_correction: Tensor
    expert_ids: Tensor  # [V, k], where a table of token ids chooses

    def __init__(self, factory: Factory, config: MoeFfn) -> None:
        super().__init__("experts", population=config.choices, draws=config.num_experts_per_tok)
        self.config = config
        e = config.choices
        self.register("weight", factory.normal(e, factory.hidden_size), "router")
        if config.router_bias:
            self.register("bias", factory.filled(e, value=0.0), "router")
        else:
            self.bias = None
        if config.score_correction_bias:
            self.register("score_correction_bias", factory.filled(e, value=0.0), "router")
        if config.image_correction_bias:  # of tokens that this model does not have
            self.register("image_correction_bias", factory.filled(e, value=0.0), "router")
        if config.score_correction_buffer:
            zeros = torch.zeros(e, device=factory.device, dtype=torch.float32)
            self.register_buffer("score_correction", zeros)

        if config.hash_vocab_size is not None:
            self.register_buffer("expert_ids", self._table(factory, config.hash_vocab_size))

    def _table(self, factory: Factory, ids: int) -> Tensor:
        """The experts of each token id [V, k]: k different ones, drawn evenly."""
        e, k = self.config.choices, self.config.num_experts_per_tok
        if factory.device.type == "meta":
            return torch.empty(ids, k, device=factory.device, dtype=torch.int64)
        drawn = torch.rand(ids, e, device=factory.device, generator=factory.generator)
        return drawn.topk(k, dim=-1).indices

    def forward(self, x: Tensor, ids: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tokens [N, D] to the weights and the indices of the selected experts, [N, k] each.

        Their ids [N] say which, where a table does.
        """
        c = self.config
        scores = self._scores(nn.functional.linear(x, self.weight, self.bias).float())
        ranked = scores
        if c.score_correction_bias:
            ranked = ranked + self.score_correction_bias.float()
        if c.score_correction_buffer:
            ranked = ranked + self.score_correction
        if c.n_group > 1:
            ranked = self._limited(ranked)
        if self.synthetic_choice is not None:  # replaces groups and corrections too
            ranked = self.synthetic_choice[: ranked.shape[0]]
        if c.hash_vocab_size is not None and self.synthetic_choice is None:
            assert ids is not None, "a table of ids chooses"
            indices = self.expert_ids[ids]
        else:
            indices = ranked.topk(c.num_experts_per_tok, dim=-1).indices
        weights = scores.gather(-1, indices)
        if c.scoring == "softmax_of_chosen":
            weights = weights.softmax(-1)
        elif c.scoring == "sigmoid_of_chosen":
            weights = weights.sigmoid()
        if c.norm_topk_prob and c.scoring != "softmax_of_chosen":
            weights = weights / weights.sum(-1, keepdim=True)
        self.selected = indices
        return weights.to(x.dtype), indices

    def _scores(self, logits: Tensor) -> Tensor:
        """The scores of all experts [N, E], but where only those of the chosen ones are made."""
        scoring = self.config.scoring
        if scoring == "softmax":
            return logits.softmax(-1)
        if scoring == "sigmoid":
            return logits.sigmoid()
        if scoring == "sqrtsoftplus":
            return nn.functional.softplus(logits).sqrt()
        return logits

    def _limited(self, ranked: Tensor) -> Tensor:
        """Group-limited routing: scores [N, E] outside the best groups become minus infinity.

        A group's score is the sum of its `group_score_experts` best. Source: DeepSeek-V3, arXiv
        2412.19437, section 2.1.2.
        """
        c = self.config
        grouped: Tensor = ranked.unflatten(-1, (c.n_group, -1))
        group_scores = grouped.topk(c.group_score_experts, dim=-1).values.sum(-1)
        best = group_scores.topk(c.topk_group, dim=-1).indices
        kept = torch.zeros_like(group_scores, dtype=torch.bool).scatter_(-1, best, value=True)
        return grouped.masked_fill(~kept[..., None], float("-inf")).flatten(-2)


class Experts(Leaf):
    """Runs the selected experts: sort by expert, two grouped products, weighted sum per token."""

    gate_up: nn.Parameter
    down: nn.Parameter
    gate_up_bias: nn.Parameter  # both where experts have biases
    down_bias: nn.Parameter

    def __init__(self, factory: Factory, config: MoeFfn) -> None:
        super().__init__()
        self.config = config
        e, i = config.num_experts, config.moe_intermediate_size
        d = config.moe_latent_size or factory.hidden_size
        outer = "hidden_size" if config.moe_latent_size is None else "moe_latent_size"
        for field, width in ((outer, d), ("moe_intermediate_size", i)):
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
        # A plain attribute: no parameter and no buffer of the model.
        self.expert_numbers = torch.arange(e, device=factory.device)

    def forward(self, x: Tensor, weights: Tensor, indices: Tensor, shared: Tensor | None) -> Tensor:
        """Tokens [N, D], weights and indices [N, k] to [N, D].

        The result of the shared experts [N, D] is added, if there are any.
        """
        c = self.config
        k = c.num_experts_per_tok
        ordered, order = indices.flatten().sort(stable=True)
        if c.zero_expert_num and x.is_meta:  # without numbers: as many pairs as are expected
            rows = c.computed(len(x))
            ordered, order = ordered[:rows], order[:rows]
        ends = torch.searchsorted(ordered, self.expert_numbers, right=True).to(torch.int32)
        read = self._kept(x[order // k], ordered)
        if c.weighted_input:
            read = read * weights.flatten()[order][:, None]
        hidden = self._kept(grouped_mm(read, self.gate_up, ends), ordered)
        if c.expert_bias:
            hidden = hidden + self.gate_up_bias[self._number(ordered)]
        y = grouped_mm(activate(c.activation, c.gated, hidden), self.down, ends)
        if c.expert_bias:
            y = y + self.down_bias[self._number(ordered)]
        back = y.new_empty(indices.numel(), y.shape[1]).index_copy_(0, order, y)
        results: Tensor = back.unflatten(0, (-1, k))
        if c.zero_expert_num:
            same = x[:, None]  # what the others return: what they read
            if c.weighted_input:
                same = same * weights[..., None]
            results = torch.where((indices < c.num_experts)[..., None], results, same)
        out = (results if c.weighted_input else results * weights[..., None]).sum(1)
        return out if shared is None else out + shared

    def _kept(self, rows: Tensor, experts: Tensor) -> Tensor:
        """Rows [R, ..] of experts that compute; zeros in the others, which no product writes."""
        if not self.config.zero_expert_num:
            return rows
        return torch.where((experts < self.config.num_experts)[:, None], rows, 0.0)

    def _number(self, experts: Tensor) -> Tensor:
        """The number of each expert that computes; of the others any that is valid."""
        if not self.config.zero_expert_num:
            return experts
        return experts.clamp_max(self.config.num_experts - 1)


class LatentUp(Linear):
    """Projects the experts' result back to the hidden size, and adds that of the shared ones."""

    def forward(self, x: Tensor, shared: Tensor | None = None) -> Tensor:
        """[N, l] to [N, D]."""
        out = super().forward(x)
        return out if shared is None else out + shared


class SharedGate(Leaf):
    """Scales the shared experts' result by the sigmoid of one score a token."""

    weight: nn.Parameter

    def __init__(self, factory: Factory) -> None:
        super().__init__()
        self.register("weight", factory.normal(1, factory.hidden_size), "shared_experts")

    def forward(self, x: Tensor, shared: Tensor) -> Tensor:
        """Tokens and the shared experts' result, [N, D] each, to [N, D]."""
        return torch.sigmoid(nn.functional.linear(x, self.weight)) * shared


@runs(MoeFfn)
class MoeLayer(nn.Module):
    """Router, experts and, where the configuration has them, the projections of shared experts."""

    attribute = "moe"

    def __init__(self, factory: Factory, config: MoeFfn) -> None:
        super().__init__()
        self.router = Router(factory, config)
        self.latent = config.moe_latent_size
        d = factory.hidden_size
        if self.latent:
            self.latent_down = Linear(factory, d, self.latent, "shared_experts")
        self.experts = Experts(factory, config)
        if self.latent:
            self.latent_up = LatentUp(factory, self.latent, d, "shared_experts")
        self.shared = config.shared_intermediate_size
        if self.shared:
            bias = config.expert_bias
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
        self.shared_gate = SharedGate(factory) if config.shared_expert_gate else None
        self.by_ids = config.hash_vocab_size is not None

    def forward(self, x: Tensor, ids: Tensor | None = None) -> Tensor:
        """[B, T, D] to [B, T, D]; token ids [B, T] choose the experts where `by_ids` says so."""
        flat = x.flatten(0, -2)
        shared = self.shared_down(self.shared_gate_up(flat)) if self.shared else None
        if self.shared_gate is not None:
            shared = self.shared_gate(flat, shared)
        choice = self.router(flat, None if ids is None else ids.flatten())
        if self.latent:
            inner = self.experts(self.latent_down(flat), *choice, None)
            result: Tensor = self.latent_up(inner, shared)
        else:
            result = self.experts(flat, *choice, shared)
        return result.view_as(x)
