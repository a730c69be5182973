"""The delta rule with decay in PyTorch: one token by the recurrence, a prompt in chunks.

    S = diag(exp g) S;  S = S + k (beta (v - S^T k))^T;  o = S^T q

Within a chunk the corrections u of all tokens solve a triangular system, as the tokens before each
have changed the state that it corrects: (I + M) u = beta (v - S^T k exp G), where M holds the
products of keys, decayed, below the diagonal. Sources: arXiv 2412.06464, section 3.3; 2510.26692.
Shapes: B sequences, T new tokens, H heads, dk and dv sizes of a key and a value, c tokens of a
chunk. All of it is done in float32, or in float64 where the model is.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from costmodel.layers.delta_rule import DeltaRule
from reference_model.cache import Room
from reference_model.leaf import NORM_EPS, Factory, Leaf
from reference_model.recurrent import add_outer, before, chunks, keep, state_zeros, to_float


class Tokens(NamedTuple):
    """What the new tokens bring to each head; c of them, with q and k of length 1."""

    q: Tensor  # [B, H, c, dk], scaled
    k: Tensor  # [B, H, c, dk]
    v: Tensor  # [B, H, c, dv]
    beta: Tensor  # [B, H, c, 1], from 0 to 1
    g: Tensor  # [B, H, c, 1], or [B, H, c, dk] with a decay for each channel; a logarithm


class DeltaRecurrence(Leaf):
    """Gates, norms of queries and keys, and the recurrence over the state of each head."""

    A_log: nn.Parameter
    dt_bias: nn.Parameter

    def __init__(self, factory: Factory, rule: DeltaRule) -> None:
        super().__init__()
        self.rule = rule
        self.register("A_log", factory.filled(rule.heads, value=0.0), "attention")
        self.register("dt_bias", factory.filled(rule.decays, value=0.0), "attention")

    def new_state(self, room: Room) -> Tensor:
        """Zeros [B, H, dk, dv]."""
        return state_zeros(room, self.rule.heads, self.rule.key_dim, self.rule.value_dim)

    def forward(self, qkv: Tensor, beta: Tensor, decay: Tensor, state: Tensor) -> Tensor:
        """Queries, keys and values [B, T, C] to [B, T, H dv]; the state is overwritten.

        Args:
            qkv: Queries and keys of the key heads, values of all heads.
            beta: How far each head corrects, before the sigmoid: [B, T, H].
            decay: [B, T, H], or [B, T, H dk] with a decay for each channel; before the softplus.
            state: [B, H, dk, dv].
        """
        rule = self.rule
        keys = rule.key_heads * rule.key_dim
        q, k, v = qkv.split([keys, keys, rule.heads * rule.value_dim], dim=-1)
        q = self._by_head(_unit(q.unflatten(-1, (-1, rule.key_dim))) * rule.key_dim**-0.5)
        k = self._by_head(_unit(k.unflatten(-1, (-1, rule.key_dim))))
        v = self._by_head(to_float(v).unflatten(-1, (-1, rule.value_dim)))
        strength = to_float(beta).sigmoid().transpose(1, 2)[..., None]
        rate = -to_float(self.A_log).exp()[:, None]
        softened = nn.functional.softplus(to_float(decay + self.dt_bias))
        g = (softened.unflatten(-1, (rule.heads, -1)) * rate).transpose(1, 2)
        tokens = Tokens(q, k, v, strength, g)
        single = qkv.shape[1] == 1
        if single and not torch.is_grad_enabled():
            return self._joined(one_token_in_place(tokens, state), qkv)
        s = before(state)
        if single:
            out, s = one_token(tokens, s)
        else:
            outs = []
            for part in chunks(qkv.shape[1], rule.chunk):
                out, s = one_chunk(Tokens(*(x[:, :, part] for x in tokens)), s)
                outs.append(out)
            out = torch.cat(outs, dim=2)
        keep(state, s)
        return self._joined(out, qkv)

    def _joined(self, out: Tensor, qkv: Tensor) -> Tensor:
        """[B, H, T, dv] to [B, T, H dv] in the model's format."""
        joined: Tensor = out.transpose(1, 2).flatten(2).to(qkv.dtype)
        return joined

    def _by_head(self, x: Tensor) -> Tensor:
        """[B, T, heads, d] to [B, H, T, d]; a key head serves its heads of values."""
        x = x.transpose(1, 2)
        return x.repeat_interleave(self.rule.heads // x.shape[1], dim=1)


def _unit(x: Tensor) -> Tensor:
    """Vectors [..., d] of length 1."""
    x = to_float(x)
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + NORM_EPS)


def one_token(tokens: Tokens, s: Tensor) -> tuple[Tensor, Tensor]:
    """Output [B, H, 1, dv] and new state of one token; s is [B, H, dk, dv]."""
    q, k, v, beta, g = tokens
    s = s * g.exp().transpose(2, 3)
    correction = (v - k @ s) * beta
    s = s + k.transpose(2, 3) @ correction
    return q @ s, s


def one_token_in_place(tokens: Tokens, s: Tensor) -> Tensor:
    """The output of `one_token`; the state s itself becomes the new one."""
    q, k, v, beta, g = tokens
    s.mul_(g.exp().transpose(2, 3))
    add_outer(s, k, (v - k @ s) * beta)
    return q @ s


def one_chunk(tokens: Tokens, s: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs [B, H, c, dv] and new state of c tokens; s is [B, H, dk, dv]."""
    q, k, v, beta, g = tokens
    total = g.cumsum(dim=2)
    decayed_k = k * total.exp()
    eye = torch.eye(q.shape[2], device=q.device, dtype=q.dtype)
    triangle = (_products(k, k, total) * beta).tril(-1) + eye
    inverse = torch.linalg.solve_triangular(triangle, eye.expand_as(triangle), upper=False)
    inverse = inverse * beta.transpose(2, 3)
    u = inverse @ v - (inverse @ decayed_k) @ s
    out = (q * total.exp()) @ s + _products(q, k, total).tril() @ u
    last = total[:, :, -1:]
    s = s * last.exp().transpose(2, 3) + (k * (last - total).exp()).transpose(2, 3) @ u
    return out, s


def _products(a: Tensor, k: Tensor, total: Tensor) -> Tensor:
    """Products of a_i and k_j, decayed from j to i: [B, H, c, c], right for j <= i.

    A decay of each channel goes into the factors, one of which grows as the other shrinks. They
    are counted from the middle of the chunk, in float64, whose range holds them: float32 would
    overflow where the decays of a chunk sum to less than -170.
    """
    if total.shape[-1] == 1:
        return (a @ k.transpose(2, 3)) * (total - total.transpose(2, 3)).tril().exp()
    relative = total.double() - total[:, :, total.shape[2] // 2, None].double()
    product = (a * relative.exp()) @ (k * (-relative).exp()).transpose(2, 3)
    return product.to(a.dtype)
