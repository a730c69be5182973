"""QK-norm, rotation, cache write and attention in one launch, against float64."""

import pytest
import torch
from torch import Tensor

from reference_model.kernels import oracles
from reference_model.kernels.attention_slices import AttentionBuffers, described_cache
from reference_model.kernels.attention_split import Split
from reference_model.kernels.attention_step import attend_new
from tests.reference_model.kernels.making import EXACT, normal, poisoned

CAPACITY = 40
D = 16


class Case:
    """A step of three sequences with different lengths; what is not filled is NaN."""

    def __init__(
        self, generator: torch.Generator, heads: int, kv_heads: int, norm: str, half: int
    ) -> None:
        self.heads, self.kv_heads = heads, kv_heads
        self.lengths = torch.tensor([0, 23, CAPACITY - 1], dtype=torch.int32)
        self.slots = self.lengths.clone()
        self.positions = self.lengths.clone()
        self.keys, self.values = (normal(generator, 3, kv_heads, CAPACITY, D) for _ in range(2))
        self.forget()
        self.qkv = normal(generator, 3, (heads + 2 * kv_heads) * D)
        turns = torch.arange(float(2 * CAPACITY))[:, None] / 100 ** (torch.arange(half) / half)
        self.cos, self.sin = turns.cos(), turns.sin()
        self.gammas: list[Tensor | None] = [None, None]
        if norm != "none":
            wide = norm == "full"
            self.gammas = [normal(generator, (h if wide else 1) * D) for h in (heads, kv_heads)]

    def forget(self) -> None:
        for cache in self.keys, self.values:
            for token, length in enumerate(self.lengths.tolist()):
                cache[token, :, length:] = float("nan")

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """The turned query and key and the value, by the oracle."""
        sizes = [heads * D for heads in (self.heads, self.kv_heads, self.kv_heads)]
        q, k, v = (part.view(3, -1, D) for part in self.qkv.split(sizes, -1))
        angles = self.cos[self.positions.long()], self.sin[self.positions.long()]
        q = oracles.turned(q, *angles, self.gammas[0], 1e-5)
        return q, oracles.turned(k, *angles, self.gammas[1], 1e-5), v

    def run(
        self, slices: int, block: int, window: int | None = None, sinks: Tensor | None = None
    ) -> Tensor:
        split = Split(slices=slices, block=block)
        buffers = AttentionBuffers.make(
            split, tokens=3, heads=self.heads, kv_heads=self.kv_heads, d=D, device="cpu"
        )
        buffers.partial.fill_(float("nan"))
        buffers.stats.fill_(float("nan"))
        out = poisoned(3, self.heads, D)
        attend_new(
            self.qkv, self.keys, self.values, out, split, buffers,
            key_tiles=described_cache(self.keys, split),
            value_tiles=described_cache(self.values, split), cos=self.cos, sin=self.sin,
            positions=self.positions, slots=self.slots, lengths=self.lengths, longest=CAPACITY,
            q_gamma=self.gammas[0], k_gamma=self.gammas[1], eps=1e-5, window=window, sinks=sinks,
        )  # fmt: skip
        assert not buffers.arrived.any()
        return out


@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (6, 2), (17, 1)])
@pytest.mark.parametrize(("slices", "block"), [(1, 8), (3, 8), (5, 8), (1, 64)])
@pytest.mark.parametrize(
    ("norm", "half", "window", "sunk"),
    [
        ("none", 8, None, False),
        ("head", 4, 9, False),
        ("full", 8, None, True),
        ("head", 8, 9, True),
    ],
)
def test_step(
    generator: torch.Generator, heads: int, kv_heads: int, slices: int, block: int, norm: str,
    half: int, window: int | None, *, sunk: bool,
) -> None:  # fmt: skip
    case = Case(generator, heads, kv_heads, norm, half)
    q, k, v = case.parts()
    keys, values = case.keys.double(), case.values.double()
    for token, slot in enumerate(case.slots.tolist()):
        keys[token, :, slot], values[token, :, slot] = k[token], v[token].double()
    sinks = normal(generator, heads) if sunk else None
    expected = oracles.attend(q, keys, values, case.lengths + 1, window, sinks)
    out = case.run(slices, block, window, sinks)
    assert oracles.error(out, expected) < EXACT
    for token, slot in enumerate(case.slots.tolist()):
        assert oracles.error(case.keys[token, :, slot], k[token]) < EXACT
        assert torch.equal(case.values[token, :, slot], v[token])


@pytest.mark.parametrize(("slices", "block"), [(3, 8), (1, 64)])
def test_in_a_ring_the_token_that_goes_is_not_seen(
    generator: torch.Generator, slices: int, block: int
) -> None:
    case = Case(generator, 4, 2, "none", 8)
    case.keys, case.values = (normal(generator, 3, 2, CAPACITY, D) for _ in range(2))
    case.lengths = torch.full((3,), CAPACITY, dtype=torch.int32)
    case.positions = torch.tensor([40, 47, 79], dtype=torch.int32)
    case.slots = case.positions % CAPACITY
    q, k, v = case.parts()
    keys, values = case.keys.double(), case.values.double()
    for token, slot in enumerate(case.slots.tolist()):
        keys[token, :, slot], values[token, :, slot] = k[token], v[token].double()
    expected = oracles.attend(q, keys, values, case.lengths)
    assert oracles.error(case.run(slices, block), expected) < EXACT


def test_a_slot_outside_of_the_cache_is_seen_and_not_written(generator: torch.Generator) -> None:
    case = Case(generator, 4, 2, "none", 8)
    before = case.run(3, 8)
    keys = case.keys.clone()
    case.forget()
    case.slots = torch.tensor([-1, CAPACITY, -7], dtype=torch.int32)
    assert torch.equal(case.run(3, 8), before)
    assert case.keys.isnan().sum() == keys.isnan().sum() + 3 * 2 * D
