"""QK-norm, rotary embedding and the cache write, against float64."""

import pytest
import torch
from torch import Tensor

from reference_model.kernels import oracles
from reference_model.kernels.rope import rope_and_store
from tests.reference_model.kernels.making import EXACT, normal, poisoned

CAPACITY = 5


def tables(half: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of eight positions, base 10,000."""
    turns = torch.arange(8.0)[:, None] / 10_000 ** (torch.arange(half) / half)
    return turns.cos(), turns.sin()


@pytest.mark.parametrize(("heads", "kv_heads", "d"), [(4, 4, 16), (6, 2, 8), (3, 1, 32)])
@pytest.mark.parametrize("norm", ["none", "head", "full"])
@pytest.mark.parametrize("rotary", ["whole", "half", "six"])
def test_queries_keys_and_values(  # noqa: PLR0917 - parameters of a test
    generator: torch.Generator, heads: int, kv_heads: int, d: int, norm: str, rotary: str
) -> None:
    tokens = 3
    half = {"whole": d // 2, "half": d // 4, "six": 3}[rotary]
    cos, sin = tables(half)
    qkv = normal(generator, tokens, (heads + 2 * kv_heads) * d)
    gammas: list[Tensor | None] = [None, None]
    if norm != "none":
        wide = norm == "full"
        gammas = [normal(generator, (h if wide else 1) * d) for h in (heads, kv_heads)]
    positions = torch.tensor([0, 7, 4], dtype=torch.int32)
    slots = torch.tensor([0, 2, 4], dtype=torch.int32)
    queries = poisoned(tokens, heads, d)
    keys, values = (poisoned(tokens, kv_heads, CAPACITY, d) for _ in range(2))
    rope_and_store(
        qkv, queries, keys, values, cos=cos, sin=sin, positions=positions, slots=slots,
        q_gamma=gammas[0], k_gamma=gammas[1], eps=1e-5,
    )  # fmt: skip
    q, k, v = qkv.split([heads * d, kv_heads * d, kv_heads * d], -1)
    angles = cos[positions.long()], sin[positions.long()]
    q = oracles.turned(q.view(tokens, heads, d), *angles, gammas[0], 1e-5)
    k = oracles.turned(k.view(tokens, kv_heads, d), *angles, gammas[1], 1e-5)
    written = torch.arange(tokens), slice(None), slots.long()
    assert oracles.error(queries, q) < EXACT
    assert oracles.error(keys[written], k) < EXACT
    assert torch.equal(values[written], v.reshape(tokens, kv_heads, d))
    for cache in keys, values:  # nothing but the slots was written
        assert cache.isnan().sum() == cache.numel() - tokens * kv_heads * d


@pytest.mark.parametrize("slot", [-1, CAPACITY])
def test_a_slot_outside_of_the_cache_writes_nothing(generator: torch.Generator, slot: int) -> None:
    cos, sin = tables(4)
    keys, values = (poisoned(3, 2, CAPACITY, 8) for _ in range(2))
    slots = torch.tensor([0, slot, 0], dtype=torch.int32)
    rope_and_store(
        normal(generator, 3, 6 * 8), poisoned(3, 2, 8), keys, values, cos=cos, sin=sin,
        positions=torch.zeros(3, dtype=torch.int32), slots=slots,
    )  # fmt: skip
    for cache in keys, values:
        assert cache[1].isnan().all()
        assert cache[[0, 2], :, 1:].isnan().all()
        assert cache[[0, 2], :, 0].isfinite().all()
