"""Latent attention's kernels against float64: norms, queries and cache, core, values."""

import pytest
import torch
from torch import Tensor

from reference_model.kernels import oracles
from reference_model.kernels.latent_attention import LatentResults, LatentTiles, attend_latents
from reference_model.kernels.latent_norm import latent_norms
from reference_model.kernels.latent_query import latent_query
from reference_model.kernels.latent_split import LatentSplit, latent_split
from reference_model.kernels.latent_values import latent_values
from tests.reference_model.kernels.making import EXACT, normal, poisoned

CAPACITY = 40
C, R = 32, 16  # widths of the latent and of the rotary part
SCALE = 0.3


@pytest.mark.parametrize(("q", "c"), [(24, 16), (7, 32)])
def test_both_norms_of_parts_of_a_row(generator: torch.Generator, q: int, c: int) -> None:
    row = normal(generator, 3, q + c + R)
    gammas = normal(generator, q), normal(generator, c)
    parts = row[:, :q], row[:, q : q + c]
    outs = poisoned(3, q), poisoned(3, c)
    latent_norms(*parts, *outs, query_gamma=gammas[0], latent_gamma=gammas[1], eps=1e-5)
    for part, gamma, out in zip(parts, gammas, outs, strict=True):
        assert oracles.error(out, oracles.rms_norm(part, gamma, 1e-5)) < EXACT


def angles(positions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tables of eight positions, base 10,000, and their rows for these tokens."""
    turns = torch.arange(8.0)[:, None] / 10_000 ** (torch.arange(R // 2) / (R // 2))
    cos, sin = turns.cos(), turns.sin()
    return cos, sin, cos[positions.long()], sin[positions.long()]


@pytest.mark.parametrize("tokens", [1, 3, 17, 70])
@pytest.mark.parametrize(("heads", "p", "c"), [(1, 9, 16), (3, 24, 128), (16, 8, 32)])
@pytest.mark.parametrize("normed", [False, True])
def test_queries_are_absorbed_and_turned_and_the_cache_gets_latent_and_key(
    generator: torch.Generator, tokens: int, heads: int, p: int, c: int, *, normed: bool
) -> None:
    width = heads * (p + R)
    row = normal(generator, tokens, width + c + R)
    query, latent, key = row.split([width, c, R], -1)
    weight, gamma = normal(generator, heads, p, c), normal(generator, c)
    positions = torch.arange(tokens, dtype=torch.int32) % 8
    slots = torch.arange(tokens, dtype=torch.int32) * 3 % 5
    cos, sin, *own = angles(positions)
    out, cache = poisoned(tokens, heads, c + R), poisoned(tokens, 1, 5, c + R)
    latent_query(
        query, latent, key, weight, out, cache, cos=cos, sin=sin, positions=positions,
        slots=slots, gamma=gamma if normed else None, eps=1e-5,
    )  # fmt: skip
    queries, turned = oracles.latent_query(query, key, weight, *own)
    entry = cache[torch.arange(tokens), 0, slots.long()]
    assert oracles.error(out, queries) < EXACT
    assert oracles.error(entry[:, c:], turned) < EXACT
    wanted = oracles.rms_norm(latent, gamma, 1e-5) if normed else latent
    assert oracles.error(entry[:, :c], wanted) < EXACT
    assert cache.isnan().sum() == cache.numel() - entry.numel()  # no other slot was written


@pytest.mark.parametrize("slot", [-1, 5])
def test_a_slot_outside_of_the_cache_writes_no_entry(generator: torch.Generator, slot: int) -> None:
    query, latent, key = (normal(generator, 3, width) for width in (2 * (8 + R), C, R))
    cos, sin, *_ = angles(torch.zeros(3))
    cache, out = poisoned(3, 1, 5, C + R), poisoned(3, 2, C + R)
    latent_query(
        query, latent, key, normal(generator, 2, 8, C), out, cache, cos=cos, sin=sin,
        positions=torch.zeros(3, dtype=torch.int32),
        slots=torch.tensor([0, slot, 0], dtype=torch.int32),
    )  # fmt: skip
    assert out.isfinite().all()
    assert cache[1].isnan().all()
    assert cache[[0, 2], :, 1:].isnan().all()
    assert cache[[0, 2], :, 0].isfinite().all()


def filled(generator: torch.Generator, lengths: Tensor) -> Tensor:
    """A cache in which all that lies beyond a sequence's length is NaN."""
    cache = normal(generator, len(lengths), 1, CAPACITY, C + R)
    for token, length in enumerate(lengths.tolist()):
        cache[token, :, length:] = float("nan")
    return cache


def attended(q: Tensor, cache: Tensor, lengths: Tensor, slices: int) -> LatentResults:
    """Results of slices of tiles of 8 keys, 16 heads a block."""
    split = LatentSplit(slices=slices, block=8, heads=16)
    tokens, heads, _ = q.shape
    results = LatentResults.make(split, tokens=tokens, heads=heads, c=C, like=q)
    tiles = LatentTiles.of(cache, C, split)
    attend_latents(q, cache, tiles, results, lengths, split, scale=SCALE)
    return results


def joined(results: LatentResults) -> Tensor:
    """The slices' results by their shares, in float64."""
    weight = torch.exp2(results.shares.double())
    weight = weight / weight.sum(-1, keepdim=True)
    return (results.mixed.double() * weight[..., None]).sum(2)


@pytest.mark.parametrize("heads", [1, 5, 16, 17, 40])
@pytest.mark.parametrize("slices", [1, 3, 8])
def test_slices_together_are_attention(generator: torch.Generator, heads: int, slices: int) -> None:
    lengths = torch.tensor([1, 8, 23, CAPACITY], dtype=torch.int32)
    cache, q = filled(generator, lengths), normal(generator, 4, heads, C + R)
    results = attended(q, cache, lengths, slices)
    assert results.mixed.isfinite().all()  # of slices without keys too: they are zero
    assert (
        oracles.error(joined(results), oracles.attend_latents(q, cache, lengths, C, SCALE)) < EXACT
    )


def test_large_scores_do_not_overflow(generator: torch.Generator) -> None:
    lengths = torch.tensor([CAPACITY], dtype=torch.int32)
    cache, q = filled(generator, lengths), 1e3 * normal(generator, 1, 3, C + R)
    results = attended(q, cache, lengths, 3)
    v_up = normal(generator, 3, 12, C)
    out = poisoned(1, 36)
    latent_values(results, v_up, out)
    mixed = oracles.attend_latents(q, cache, lengths, C, SCALE)
    expected = torch.einsum("thc,hvc->thv", mixed, v_up.double()).flatten(1)
    assert oracles.error(out, expected) < 2 * EXACT


def test_one_sequences_nan_stays_with_it(generator: torch.Generator) -> None:
    lengths = torch.tensor([CAPACITY] * 3, dtype=torch.int32)
    cache = filled(generator, lengths)
    cache[1, 0, 3] = float("nan")
    results = attended(normal(generator, 3, 4, C + R), cache, lengths, 3)
    out = poisoned(3, 4 * 6)
    latent_values(results, normal(generator, 4, 6, C), out)
    assert out[1].isnan().all()
    assert out[[0, 2]].isfinite().all()


def test_a_length_beyond_the_cache_reads_no_other_sequence(generator: torch.Generator) -> None:
    full = torch.tensor([CAPACITY, CAPACITY], dtype=torch.int32)
    cache, q = filled(generator, full), normal(generator, 2, 2, C + R)
    longer = torch.tensor([CAPACITY + 7, CAPACITY], dtype=torch.int32)
    beyond, whole = attended(q, cache, longer, 3), attended(q, cache, full, 3)
    assert torch.equal(beyond.mixed, whole.mixed)
    assert torch.equal(beyond.shares, whole.shares)


# Tiles of tokens join up to eight slices; more slices, or one token, are joined token by token
JOINED = [(1, slices) for slices in (1, 3, 8, 11, 20)] + [(3, 11), (3, 20)]
JOINED += [(tokens, slices) for tokens in (3, 17, 70) for slices in (1, 3, 8)]


@pytest.mark.parametrize(("tokens", "slices"), JOINED)
@pytest.mark.parametrize(("heads", "v", "c"), [(2, 5, 16), (3, 70, 128)])
def test_values_join_slices_and_leave_the_latent_space(  # noqa: PLR0917 - parameters of a test
    generator: torch.Generator, tokens: int, slices: int, heads: int, v: int, c: int
) -> None:
    mixed = normal(generator, tokens, heads, slices, c)
    shares = normal(generator, tokens, heads, slices, std=5.0)
    if slices > 1:  # a slice without keys, which is not always the last
        mixed[:, :, 1], shares[:, :, 1] = 0.0, float("-inf")
    weight, out = normal(generator, heads, v, c), poisoned(tokens, heads * v)
    latent_values(LatentResults(mixed=mixed, shares=shares), weight, out)
    assert oracles.error(out, oracles.latent_values(mixed, shares, weight)) < EXACT


@pytest.mark.parametrize(
    ("tokens", "heads", "expected"),
    [
        (1, 16, LatentSplit(slices=48, block=64, heads=16, warps=8)),
        (6, 16, LatentSplit(slices=22, block=32, heads=16, stages=3)),
        (24, 16, LatentSplit(slices=5, block=64, heads=16, stages=3, warps=8)),
        (96, 16, LatentSplit(slices=4, block=64, heads=16, stages=3, warps=8)),
        (1, 128, LatentSplit(slices=48, block=64, heads=64, warps=8)),
        (6, 128, LatentSplit(slices=5, block=64, heads=64, warps=8)),
        (24, 128, LatentSplit(slices=5, block=64, heads=64, warps=8)),
        (96, 128, LatentSplit(slices=2, block=64, heads=64, warps=8)),
    ],
)
def test_the_split_of_3072_tokens_is_the_one_that_was_best(
    tokens: int, heads: int, expected: LatentSplit
) -> None:
    assert latent_split(tokens, heads, 3072) == expected


@pytest.mark.parametrize("tokens", [1, 7, 100, 256, 3000])
@pytest.mark.parametrize("seen", [1, 63, 64, 700, 100_000])
def test_a_split_has_no_slice_without_a_tile(tokens: int, seen: int) -> None:
    for heads in (1, 16, 20, 128):
        split = latent_split(tokens, heads, seen)
        assert 1 <= split.slices <= max(1, seen // split.block)
        assert split.heads * -(-heads // split.heads) >= heads
