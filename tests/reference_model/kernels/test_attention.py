"""Decode attention over caches: groups, slices, windows and sinks, against float64."""

import pytest
import torch
from torch import Tensor

from reference_model.kernels import oracles
from reference_model.kernels.attention import attend
from reference_model.kernels.attention_slices import AttentionBuffers, described_cache
from reference_model.kernels.attention_split import Split, usual_split
from tests.reference_model.kernels.making import EXACT, normal, poisoned

CAPACITY = 40
D = 16


def run(  # noqa: PLR0917 - the arguments of the kernel
    q: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, slices: int,
    window: int | None = None, sinks: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The kernel's result, with and without keys that are asked for early: the same bits."""
    results = [attended(q, keys, values, lengths, slices, window, sinks, e) for e in (False, True)]
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0, equal_nan=True)
    return results[0]


def attended(  # noqa: PLR0917 - likewise
    q: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, slices: int,
    window: int | None, sinks: Tensor | None, early: bool,  # noqa: FBT001
) -> Tensor:  # fmt: skip
    split = Split(slices=slices, block=8, stages=2, early=early)
    tokens, heads, d = q.shape
    buffers = AttentionBuffers.make(
        split, tokens=tokens, heads=heads, kv_heads=keys.shape[1], d=d, device="cpu"
    )
    buffers.partial.fill_(float("nan"))
    buffers.stats.fill_(float("nan"))
    out = poisoned(tokens, heads, d)
    attend(
        q, keys, values, out, lengths, split, buffers, key_tiles=described_cache(keys, split),
        value_tiles=described_cache(values, split), window=window,
        sinks=sinks, appended=True,
    )  # fmt: skip
    assert not buffers.arrived.any()
    return out


def filled(generator: torch.Generator, lengths: Tensor, kv_heads: int) -> tuple[Tensor, Tensor]:
    """Caches in which all that lies beyond a sequence's length is NaN."""
    caches = []
    for _ in range(2):
        cache = normal(generator, len(lengths), kv_heads, CAPACITY, D)
        for token, length in enumerate(lengths.tolist()):
            cache[token, :, length:] = float("nan")
        caches.append(cache)
    return caches[0], caches[1]


@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (6, 2), (5, 1), (17, 1)])
@pytest.mark.parametrize("slices", [1, 3, 8])
@pytest.mark.parametrize("window", [None, 9])
@pytest.mark.parametrize("sunk", [False, True])
def test_attention(
    generator: torch.Generator, heads: int, kv_heads: int, slices: int, window: int | None,
    *, sunk: bool,
) -> None:  # fmt: skip
    lengths = torch.tensor([1, 23, CAPACITY], dtype=torch.int32)
    keys, values = filled(generator, lengths, kv_heads)
    q = normal(generator, 3, heads, D)
    sinks = normal(generator, heads) if sunk else None
    out = run(q, keys, values, lengths, slices, window, sinks)
    assert oracles.error(out, oracles.attend(q, keys, values, lengths, window, sinks)) < EXACT


def test_large_scores_do_not_overflow(generator: torch.Generator) -> None:
    lengths = torch.tensor([CAPACITY], dtype=torch.int32)
    keys, values = filled(generator, lengths, 1)
    q = 1e4 * normal(generator, 1, 1, D)
    out = run(q, keys, values, lengths, 3)
    assert oracles.error(out, oracles.attend(q, keys, values, lengths)) < EXACT


def test_one_sequences_nan_stays_with_it(generator: torch.Generator) -> None:
    lengths = torch.tensor([CAPACITY] * 3, dtype=torch.int32)
    keys, values = filled(generator, lengths, 2)
    keys[1, 0, 3] = float("nan")
    out = run(normal(generator, 3, 4, D), keys, values, lengths, 3)
    assert out[1, :2].isnan().all()
    assert out[1, 2:].isfinite().all()
    assert out[[0, 2]].isfinite().all()


def test_a_length_beyond_the_cache_reads_no_other_sequence(generator: torch.Generator) -> None:
    full = torch.tensor([CAPACITY, CAPACITY], dtype=torch.int32)
    keys, values = filled(generator, full, 1)
    q = normal(generator, 2, 2, D)
    longer = torch.tensor([CAPACITY + 7, CAPACITY], dtype=torch.int32)
    assert torch.equal(run(q, keys, values, longer, 3), run(q, keys, values, full, 3))


@pytest.mark.parametrize(
    ("tokens", "heads", "kv_heads", "seen", "slices"),
    [
        (1, 16, 16, 2048, 16),
        (4, 16, 16, 2048, 4),
        (16, 16, 16, 2048, 1),
        (256, 16, 16, 2048, 1),
        (1, 32, 4, 2048, 8),
        (16, 32, 4, 2048, 4),
        (1, 32, 8, 2048, 16),
        (16, 32, 8, 2048, 2),
        (1, 64, 8, 128, 1),
        (1, 16, 16, 100, 1),
        (1, 128, 1, 2048, 1),
    ],
)
def test_the_usual_split_is_the_one_that_was_measured(
    tokens: int, heads: int, kv_heads: int, seen: int, slices: int
) -> None:
    assert usual_split(tokens, heads, kv_heads, seen) == Split(
        slices=slices, block=128, early=slices > 1
    )
