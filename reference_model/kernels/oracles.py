"""What each kernel must compute, in float64 and plain PyTorch, a formula at a time.

Inputs are taken as they are stored (bf16 values are exact in float64), so that an oracle differs
from a kernel by the kernel's own rounding alone. A router is judged by the logits that it made:
from given logits its choice is exact, not approximate.
"""

import math

import torch
from torch import Tensor

from reference_model.kernels.routing import RouterRule


def rms_norm(x: Tensor, gamma: Tensor, eps: float) -> Tensor:
    """RMSNorm: x / sqrt(mean(x^2) + eps) gamma over the last axis."""
    x = x.double()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * gamma.double()


def add_norm(
    stream: Tensor,
    gamma: Tensor,
    eps: float,
    add: Tensor | None = None,
    results: Tensor | None = None,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The stream with what is added, and the norm of it: both [T, D]."""
    total = stream.double()
    if add is not None:
        total = total + add.double()
    if results is not None and weights is not None:
        by_pair = results.double().view(*weights.shape, -1)
        total = total + (by_pair * weights.double()[..., None]).sum(1)
    return total, rms_norm(total, gamma, eps)


def turned(
    x: Tensor, cos: Tensor, sin: Tensor, gamma: Tensor | None = None, eps: float = 0.0
) -> Tensor:
    """QK-norm and rotation of x [T, H, d] by the angles of its tokens, cos and sin [T, half]."""
    x = x.double()
    if gamma is not None:
        full = gamma.numel() != x.shape[-1]
        x = rms_norm(x.flatten(1), gamma, eps).view_as(x) if full else rms_norm(x, gamma, eps)
    half = cos.shape[-1]
    c, s = cos.double()[:, None], sin.double()[:, None]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat([a * c - b * s, b * c + a * s, rest], -1)


def ranked_scores(
    logits: Tensor, rule: RouterRule, correction: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scores that weigh and scores that rank, both [T, E], of a kernel's own logits in float32."""
    if rule.scoring == "softmax":
        scores = logits.softmax(-1)
    elif rule.scoring == "sigmoid":
        scores = logits.sigmoid()
    else:
        scores = logits
    ranked = scores if correction is None else scores + correction.float()
    if rule.groups > 1:
        grouped = ranked.unflatten(-1, (rule.groups, -1))
        by_group = grouped.topk(rule.group_score_experts, -1).values.sum(-1)
        best = by_group.topk(rule.kept_groups, -1).indices
        kept = torch.zeros_like(by_group, dtype=torch.bool).scatter_(-1, best, value=True)
        ranked = grouped.masked_fill(~kept[..., None], float("-inf")).flatten(-2)
    return scores, ranked


def router_weights(scores: Tensor, ids: Tensor, rule: RouterRule) -> Tensor:
    """Weights [T, k] of the chosen, by the scores [T, E] that weigh."""
    chosen = scores.double().gather(-1, ids.long())
    if rule.scoring == "softmax_of_chosen":
        return chosen.softmax(-1)
    return chosen / chosen.sum(-1, keepdim=True) if rule.normalised else chosen


def gated(gate: Tensor, up: Tensor, activation: str) -> Tensor:
    """silu(gate) up, or gpt-oss's clamped form."""
    if activation == "clamped_silu":
        gate, up = gate.clamp(max=7.0), up.clamp(-7.0, 7.0)
        return gate * torch.sigmoid(1.702 * gate) * (up + 1)
    return gate * gate.sigmoid() * up


def experts(
    x: Tensor,
    gate_up: Tensor,
    down: Tensor,
    ids: Tensor,
    *,
    gate_up_bias: Tensor | None = None,
    down_bias: Tensor | None = None,
    activation: str = "silu",
) -> tuple[Tensor, Tensor]:
    """Hidden [T k, I] and results [T k, D] of every pair, expert by expert."""
    top_k = ids.shape[1]
    width = down.shape[2]
    hidden = torch.zeros(ids.numel(), width, dtype=torch.float64, device=x.device)
    results = torch.zeros(ids.numel(), x.shape[1], dtype=torch.float64, device=x.device)
    flat = ids.flatten().long()
    for expert in flat.unique().tolist():
        pairs = (flat == expert).nonzero()[:, 0]
        both = x[pairs // top_k].double() @ gate_up[expert].double().T
        if gate_up_bias is not None:
            both = both + gate_up_bias[expert].double()
        hidden[pairs] = gated(both[:, :width], both[:, width:], activation)
        results[pairs] = hidden[pairs] @ down[expert].double().T
        if down_bias is not None:
            results[pairs] += down_bias[expert].double()
    return hidden, results


def attend(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor,
    window: int | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """softmax(q keys / sqrt(d)) values of q [T, H, d] over the filled slots: [T, H, d]."""
    tokens, heads, d = q.shape
    shared = heads // keys.shape[1]
    out = torch.empty(tokens, heads, d, dtype=torch.float64, device=q.device)
    for token, length in enumerate(lengths.tolist()):
        first = 0 if window is None else max(0, length - window)
        k = keys[token, :, first:length].double().repeat_interleave(shared, 0)
        v = values[token, :, first:length].double().repeat_interleave(shared, 0)
        score = torch.einsum("hd,hsd->hs", q[token].double(), k) * d**-0.5
        if sinks is not None:
            score = torch.cat([score, sinks.double()[:, None]], -1)
        weight = score.softmax(-1)[:, : k.shape[1]]
        out[token] = torch.einsum("hs,hsd->hd", weight, v)
    return out


def latent_query(
    query: Tensor, key: Tensor, k_up: Tensor, cos: Tensor, sin: Tensor
) -> tuple[Tensor, Tensor]:
    """Queries [T, H, c + r] in the latent space and turned keys [T, r].

    From query [T, H (p + r)], key [T, r] and `k_up` [H, p, c], by angles of the tokens [T, half].
    """
    heads, p, _ = k_up.shape
    by_head = query.double().unflatten(-1, (heads, -1))
    absorbed = torch.einsum("thp,hpc->thc", by_head[..., :p], k_up.double())
    queries = torch.cat([absorbed, turned(by_head[..., p:], cos, sin)], -1)
    return queries, turned(key[:, None], cos, sin)[:, 0]


def attend_latents(q: Tensor, cache: Tensor, lengths: Tensor, c: int, scale: float) -> Tensor:
    """softmax(scale q keys) latents of q [T, H, c + r] over the filled slots: [T, H, c].

    The keys are the entries of the cache [T, 1, C, c + r], the latents their first c elements.
    """
    out = torch.empty(*q.shape[:2], c, dtype=torch.float64, device=q.device)
    for token, length in enumerate(lengths.tolist()):
        entries = cache[token, 0, :length].double()
        weight = (q[token].double() @ entries.T * scale).softmax(-1)
        out[token] = weight @ entries[:, :c]
    return out


def latent_values(mixed: Tensor, shares: Tensor, v_up: Tensor) -> Tensor:
    """Slices [T, H, slices, c] joined by exp2 of their shares and mapped by `v_up` [H, v, c].

    Returns [T, H v].
    """
    weight = (shares.double() * math.log(2)).softmax(-1)
    joined = (mixed.double() * weight[..., None]).sum(2)
    return torch.einsum("thc,hvc->thv", joined, v_up.double()).flatten(1)


def error(measured: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected; NaN stays NaN."""
    difference = (measured.double() - expected.double()).norm()
    relative: float = (difference / expected.double().norm()).item()
    return relative
