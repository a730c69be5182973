"""The numbers that sentences take from predictions, against hand arithmetic on published sizes."""

import json
from dataclasses import dataclass, replace
from math import isqrt

import pytest

from docs.predicted_values import predicted_values
from tests.commands import output

V = 50_304
CONTEXT = 2048


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An OLMoE model and the UltraMemV2 model set against it (arXiv 2508.18756, Table 10)."""

    L: int
    D: int
    I: int  # noqa: E741 - expert width, of 64 experts of which 8 are chosen
    F: int  # FFN width of the memory model
    knum: int
    m: int
    Dk: int
    Dv: int
    Dp: int

    share: float = 0.5  # of the shared table, what each layer reaches

    @property
    def n(self) -> int:
        """Keys a side."""
        return isqrt(int(self.L * self.knum**2 * self.share))

    def dense(self, batch: int) -> float:
        """Attention, LM head and embedding rows of either model, in numbers."""
        return self.L * 4 * self.D**2 + V * self.D + distinct(V, 1, batch) * self.D

    def moe_weights(self, batch: int) -> float:
        """Bytes of the weights that a decode step touches."""
        experts = distinct(64, 8, batch) * 3 * self.D * self.I
        return 2 * (self.dense(batch) + self.L * (64 * self.D + experts))

    def memory_weights(self, batch: int) -> float:
        """Bytes: FFN, query, keys of two sides and two ranks, projections."""
        layer = 3 * self.D * self.F + 2 * self.D * self.Dk + 4 * self.n * self.Dk
        return 2 * (self.dense(batch) + self.L * (layer + self.D * (self.Dp + self.Dv)))

    def rows(self, batch: int) -> float:
        """Bytes of the table's rows."""
        return self.L * distinct(self.n**2, self.m, batch) * (self.Dp + self.Dv) * 2

    def other(self, batch: int) -> float:
        """KV cache read and written (multi-head attention), token ids and logits, in bytes."""
        return batch * ((CONTEXT + 1) * self.L * 2 * self.D * 2 + 2 * V)

    def byte_ratio(self, batch: int) -> float:
        """All compulsory bytes of the MoE over those of the memory model."""
        moe = self.moe_weights(batch) + self.other(batch)
        indices = 8 * self.L * distinct(self.n**2, self.m, batch)
        memory = self.memory_weights(batch) + self.rows(batch) + indices + self.other(batch)
        return moe / memory


SMALL = Pair(L=20, D=768, I=384, F=2496, knum=360, m=32, Dk=192, Dv=192, Dp=192)
LARGE = Pair(L=16, D=2048, I=1024, F=5632, knum=528, m=128, Dk=512, Dv=768, Dp=384)


def distinct(population: int, draws: int, trials: int) -> float:
    """Expected distinct items of independent, uniform choices."""
    return float(population * (1 - (1 - draws / population) ** trials))


@pytest.fixture(scope="module")
def values() -> dict[str, str]:
    return predicted_values()


def test_bytes_of_the_pairs(values: dict[str, str]) -> None:
    batches = range(1, 65)
    assert values["pair_small_bytes_most"] == f"{max(map(SMALL.byte_ratio, batches)):.2f}"
    assert values["pair_large_bytes_most"] == f"{max(map(LARGE.byte_ratio, batches)):.2f}"
    sparse = [LARGE.moe_weights(b) / (LARGE.memory_weights(b) + LARGE.rows(b)) for b in batches]
    assert values["pair_large_sparse_bytes_most"] == f"{max(sparse):.1f}"
    assert max(SMALL.byte_ratio(b) for b in range(64, 1024)) < max(map(SMALL.byte_ratio, batches))


def test_weights_at_large_batches(values: dict[str, str]) -> None:
    ratios = [
        pair.moe_weights(batch) / pair.memory_weights(batch)
        for pair in (SMALL, LARGE)
        for batch in (64, 256, 1024, 4096)
    ]
    assert values["weights_fewer"] == f"{min(ratios):.1f} to {max(ratios):.1f}"


def routing_flops(pair: Pair) -> tuple[float, float]:
    """Of a token and layer. MoE: router, softmax, combine. Memory: query to permutation."""
    moe = 2 * pair.D * 64 + 4 * 64 + 2 * 8 * pair.D
    grid = 2 * (2 * pair.m * 2**2 + 2 * pair.m**2 * 2 + pair.m**2)
    query = 2 * pair.D * 2 * pair.Dk + 4 * 2 * pair.Dk
    return moe, query + 2 * 2 * 2 * pair.n * pair.Dk + 4 * 2 * pair.n + grid + 2 * pair.m


def test_routing_flops(values: dict[str, str]) -> None:
    ratios = [memory / moe for moe, memory in map(routing_flops, (SMALL, LARGE))]
    assert values["routing_flops_more"] == f"{min(ratios):.0f} to {max(ratios):.0f}"


def test_routing_flops_of_a_shared_and_of_an_own_table(values: dict[str, str]) -> None:
    for name, share in (("shared", 0.5), ("unshared", 1 / 16)):
        _, flops = routing_flops(replace(LARGE, share=share))
        assert values[f"routing_{name}"] == f"{16 * flops / 1e6:.1f}"


def test_routing_bytes_at_batch_one(values: dict[str, str]) -> None:
    """The router, against query and keys (and 8 bytes a row, which is nothing)."""
    ratios = [
        (2 * pair.D * pair.Dk + 4 * pair.n * pair.Dk) / (64 * pair.D) for pair in (SMALL, LARGE)
    ]
    assert values["routing_bytes_more"] == f"{min(ratios):.0f} to {max(ratios):.0f}"


def test_sizes_of_the_large_pair(values: dict[str, str]) -> None:
    """Without embeddings and norms: all experts or rows, and those of one token."""
    layers = LARGE.L * 4 * LARGE.D**2
    dense = (LARGE.memory_weights(1) / 2) - V * LARGE.D - LARGE.D
    moe = [layers + LARGE.L * (64 * LARGE.D + k * 3 * LARGE.D * LARGE.I) for k in (64, 8)]
    table = LARGE.L * LARGE.knum**2 * (LARGE.Dv + LARGE.Dp)
    memory = [dense + table, dense + LARGE.L * LARGE.m * (LARGE.Dv + LARGE.Dp)]
    fewer = [f"{100 * (1 - b / a):.0f} %" for a, b in zip(moe, memory, strict=True)]
    assert [values["pair_large_total_fewer"], values["pair_large_active_fewer"]] == fewer


def test_the_span_of_the_predicted_advantage(values: dict[str, str]) -> None:
    """At its ends and beyond them."""
    first, last = (int(word) for word in values["pair_large_predicted_wins"].split(" to "))
    batches = ",".join(map(str, (first - 1, first, last, last + 1)))
    text = output(
        *("compare", "olmoe-1b-7b", "ultramemv2-1b-7b", "--context", "2048"),
        *("--batch", batches, "--json"),
    )
    times = [row["predicted_s"] for row in json.loads(text)["rows"]]
    less = [memory < moe for moe, memory in zip(times[::2], times[1::2], strict=True)]
    assert less == [False, True, True, False]


def test_figure_1c_and_the_count_of_published_numbers(values: dict[str, str]) -> None:
    """The ratios are those that the paper's figure and a hand calculation give."""
    assert values["figure_printed"] == "18.11, 18.81, 17.27 and 12.99"
    assert values["figure_with_kv"] == "4.44, 2.08, 1.28 and 1.07"
    lines = output("reproduce", "--markdown").splitlines()
    agree = sum(line.endswith("| yes |") for line in lines)
    assert values["published_agree"] == f"{agree}"
    assert (
        values["published_compared"] == f"{agree + sum(line.endswith('| NO |') for line in lines)}"
    )
