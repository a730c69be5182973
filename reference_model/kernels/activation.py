"""The activations of feed-forward layers and of single neurons, inside the kernels before them."""

import triton
import triton.language as tl

CLAMP: tl.constexpr = tl.constexpr(7.0)  # of gpt-oss's activation; arXiv 2508.10925
ALPHA: tl.constexpr = tl.constexpr(1.702)
SLOPE: tl.constexpr = tl.constexpr(1.5957691216057308)  # 2 sqrt(2 / pi)


@triton.jit
def gelu(x):
    """GELU by its approximation with tanh, which is a sigmoid of twice the argument, in float32."""
    return x * tl.sigmoid((x + 0.044715 * x * x * x) * SLOPE)


@triton.jit
def gated(gate, up, ACTIVATION: tl.constexpr):
    """silu(gate) up, or gpt-oss's clamped form of it, in float32."""
    if ACTIVATION == "clamped_silu":
        gate = tl.minimum(gate, CLAMP)
        up = tl.minimum(tl.maximum(up, -CLAMP), CLAMP)
        return gate * tl.sigmoid(gate * ALPHA) * (up + 1)
    else:  # noqa: RET505 - Triton wants one return a branch
        tl.static_assert(ACTIVATION == "silu")
        return gate * tl.sigmoid(gate) * up
