"""Scaled dot-product attention by a kernel that is chosen by name, so that runs are comparable.

Left to itself, PyTorch picks a kernel by shapes and version, and may fall back silently to one that
is 30 times slower. Here each case has one kernel, and what that kernel refuses is an error:

- CPU and meta device: two matrix products and a softmax in float32 (`_math`).
- GPU with a softcap: the same.
- GPU: cuDNN's fused kernel, which reads the keys and values of a group of heads once;
  FlashAttention where PyTorch is asked for deterministic algorithms.
- GPU with float32, attention sinks or heads too wide for cuDNN: PyTorch's memory-efficient kernel.

Shapes: q [B, H, T, d], k [B, K, L, d], v [B, K, L, dv]: B sequences, T new tokens, L tokens that
they attend to, H query heads, K key-value heads (H is a multiple of K), d and dv head sizes.
"""

from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

SCORE_CAP = 50.0  # Gemma 2, arXiv 2408.00118
Choice: TypeAlias = tuple[Tensor, Tensor]
"""Tokens that each query attends to, and an additive mask of them, both [B, T, n] or [B, T, K, n]
where each key-value head has its own."""
MAX_CUDNN_HEAD = 256  # elements of a head that cuDNN's kernel takes


def visible(
    new: int, keys: int, window: int | None, device: torch.device, *, chunk: int | None = None
) -> Tensor:
    """Which tokens may attend to which, [T, L] of bool; the new tokens are the last T of L.

    A token sees itself and those before it; with a window of W tokens, W in all; with chunks, those
    of its own. The first of the L tokens is then the first of a chunk.
    """
    rows = torch.arange(keys - new, keys, device=device)[:, None]
    cols = torch.arange(keys, device=device)[None]
    seen = cols <= rows
    if chunk is not None:
        seen &= cols // chunk == rows // chunk
    return seen if window is None else seen & (cols > rows - window)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float,
    window: int | None = None,
    chunk: int | None = None,
    mask: Tensor | None = None,
    sinks: Tensor | None = None,
    softcap: bool = False,
) -> Tensor:
    """softmax(scale q k^T) v for each head.

    Args:
        q: Queries [B, H, T, d].
        k: Keys [B, K, L, d].
        v: Values [B, K, L, dv].
        scale: Of the scores, such as 1 / sqrt(d).
        window: How many tokens a token sees, itself among them; None: all before it.
        chunk: The tokens of a chunk, outside which a token sees nothing; None: there are none.
        mask: Additive [1, 1, 1, L], of static decode, or [B, 1 or H, 1 or T, L]; it replaces
            causality, window, chunk. None: causal, the new tokens being the last T of L.
        sinks: [H]: a score for each head that takes part in the softmax and has no value, so that
            a head may attend to nothing. Source: gpt-oss, arXiv 2508.10925.
        softcap: Whether scores are kept within `SCORE_CAP`; no fused kernel of PyTorch does it.

    Returns:
        [B, H, T, dv].
    """
    new, keys = q.shape[2], k.shape[2]
    full = mask is None and new > 1
    if chunk is not None and keys <= chunk:
        chunk = None  # all are of one
    if q.device.type != "cuda" or softcap:
        seen = visible(new, keys, window, q.device, chunk=chunk) if full else None
        return _math(q, k, v, scale=scale, mask=mask, seen=seen, sinks=sinks, softcap=softcap)
    causal = full and window is None and chunk is None and new == keys
    if full and not causal:
        mask = torch.zeros(new, keys, device=q.device, dtype=q.dtype).masked_fill_(
            ~visible(new, keys, window, q.device, chunk=chunk), float("-inf")
        )
    wide = max(q.shape[3], v.shape[3]) > MAX_CUDNN_HEAD
    deterministic = torch.are_deterministic_algorithms_enabled()  # cuDNN adds in any order
    odd = deterministic and (mask is not None or q.shape[3] != v.shape[3])  # not for flash
    if wide or odd or sinks is not None or q.dtype == torch.float32:
        return _efficient(q, k, v, scale=scale, mask=mask, causal=causal, sinks=sinks)
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION if deterministic else SDPBackend.CUDNN_ATTENTION]):
        return scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            is_causal=causal,
            scale=scale,
            enable_gqa=q.shape[1] != k.shape[1],
        )


def attend_to_chosen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    choice: Choice,
    *,
    scale: float,
    sinks: Tensor | None = None,
) -> Tensor:
    """`attend` of each query over tokens of its own, gathered first: B T queries of one sequence.

    Args:
        q: [B, H, T, d].
        k: [B, K, L, d].
        v: [B, K, L, dv].
        choice: Tokens [B, T, n] for all heads, or [B, T, K, n]; an additive mask of that shape.
        scale: Of the scores.
        sinks: As in `attend`.

    Returns:
        [B, H, T, dv].
    """
    tokens, mask = (one if one.dim() == 4 else one[:, :, None] for one in choice)  # noqa: PLR2004
    batch, new, choices, _ = tokens.shape
    sequence = torch.arange(batch, device=q.device)[:, None, None, None]
    head = torch.arange(k.shape[1], device=q.device)[:, None]
    keys, values = (x[sequence, head, tokens].flatten(0, 1) for x in (k, v))  # [B T, K, n, d]
    single = q.transpose(1, 2).reshape(batch * new, q.shape[1], 1, -1)
    hidden = mask.flatten(0, 1)[:, :, None]
    if choices > 1:
        hidden = hidden.repeat_interleave(q.shape[1] // choices, dim=1)
    out = attend(single, keys, values, scale=scale, mask=hidden, sinks=sinks)
    return out.view(batch, new, q.shape[1], -1).transpose(1, 2)


def _efficient(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float,
    mask: Tensor | None,
    causal: bool,
    sinks: Tensor | None,
) -> Tensor:
    """The memory-efficient kernel: takes any head size and float32, but a K for each query head.

    A sink adds exp(sink) to the sum under the softmax, exp(lse). The result without it is therefore
    scaled by exp(lse) / (exp(lse) + exp(sink)) = sigmoid(lse - sink).
    """
    batch, heads, new, _ = q.shape
    keys = k.shape[2]
    if k.shape[1] == 1:
        k, v = k.expand(-1, heads, -1, -1), v.expand(-1, heads, -1, -1)
    elif k.shape[1] != heads:
        k, v = (x.repeat_interleave(heads // x.shape[1], dim=1) for x in (k, v))
    bias = None
    if mask is not None:  # the kernel wants rows that begin at multiples of 16 elements
        padded = nn.functional.pad(mask, (0, -keys % 16))
        bias = padded.expand(batch, heads, new, -1)[..., :keys]
    out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(  # noqa: SLF001
        q, k, v, bias, sinks is not None, 0.0, causal, scale=scale
    )
    result: Tensor = out
    if sinks is not None:
        share = torch.sigmoid(lse[:, :, :new] - sinks.float()[:, None])
        result = result * share[..., None].to(result.dtype)
    return result


def _math(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float,
    mask: Tensor | None,
    seen: Tensor | None,
    sinks: Tensor | None,
    softcap: bool,
) -> Tensor:
    """Two matrix products and a softmax in float32; `seen` [T, L] hides all other keys."""
    batch, heads, new, _ = q.shape
    groups = k.shape[1]
    grouped = q.reshape(batch, groups, heads // groups * new, -1)  # K and V are read once a group
    scores = (grouped @ k.mT).view(batch, heads, new, -1).float() * scale
    if softcap:
        scores = SCORE_CAP * torch.tanh(scores / SCORE_CAP)
    if mask is not None:
        scores = scores + mask
    if seen is not None:
        scores = scores.masked_fill(~seen, float("-inf"))
    if sinks is not None:
        extra = sinks.float()[None, :, None, None].expand(batch, heads, new, 1)
        weights = torch.cat([scores, extra], dim=-1).softmax(-1)[..., :-1]
    else:
        weights = scores.softmax(-1)
    out = weights.to(v.dtype).reshape(batch, groups, heads // groups * new, -1) @ v
    return out.view(batch, heads, new, -1)
