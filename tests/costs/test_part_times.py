"""Times of parts by a few parameters, worked out by hand."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from costmodel.costs.part_times import part_s
from costmodel.layers.kernel_shape import Attend, Gemm, Grouped, Rows, TopK
from costmodel.layers.operator import Part
from profiler.calibrate.leaves.fit import FIXED, START

FAST = 1e30  # of a rate that takes no time
P = {name: FAST if name.endswith("_per_s") else 0.0 for name in START} | {
    "multiprocessors": 100.0,
    "l2_bytes": 1000.0,
}


def seconds(part: Part, launches: int = 1, tokens: int = 1, **given: Any) -> float:  # noqa: ANN401 - numbers by name
    """With all rates infinite and all other times zero but those given."""
    p = P | {name.replace("__", "."): value for name, value in given.items()}
    return float(part_s(p, part, launches=launches, tokens=tokens, keeps=False))


MOVED = Part(
    name="add", kind="elementwise", weight_bytes=300, input_bytes=400, inner_output_bytes=1600
)


def test_elementwise_work_is_launches_and_bytes_beyond_l2() -> None:
    """2,000 activation bytes of two launches, of which L2 holds 1,000 each."""
    assert seconds(MOVED, 2, elementwise__launch_s=3.0) == 6.0
    assert seconds(MOVED, 2, elementwise__l2_bytes_per_s=10.0) == pytest.approx(200.0)
    assert seconds(MOVED, 2, elementwise__hbm_bytes_per_s=10.0) == pytest.approx(30.0)
    assert seconds(MOVED, 1, elementwise__hbm_bytes_per_s=10.0) == pytest.approx(30.0 + 100.0)


def gemm(m: int, n: int, k: int, **quantities: Any) -> Part:  # noqa: ANN401 - numbers by name
    return Part(name="gemm", kind="matmul", shape=Gemm(m=m, n=n, k=k), **quantities)


def test_a_product_is_a_chain_a_stream_and_tiles_in_waves() -> None:
    """64 x 128 tiles: 65 x 129 takes 4, a wave of 100 multiprocessors."""
    assert seconds(gemm(2, 128, 640), gemm__step_s=1.0, gemm__split_s=100.0) == pytest.approx(10.0)
    assert seconds(gemm(2, 128, 640), gemm__step_s=1.0, gemm__split_s=2.0) == pytest.approx(3.25)
    streamed = gemm(2, 128, 64, weight_bytes=500)
    assert seconds(streamed, gemm__hbm_bytes_per_s=10.0) == pytest.approx(50.0)
    tile = 2.0 * 64 * 128 * 64
    waves: dict[str, Any] = {"gemm__flops_per_s": 100 * tile}
    assert seconds(gemm(65, 129, 64), **waves, gemm__whole=1.0) == pytest.approx(1.0)
    assert seconds(gemm(65, 129, 64), **waves) == pytest.approx(0.04)
    assert seconds(gemm(65, 129, 64), **waves, gemm__whole=0.5) == pytest.approx(0.52)


def test_an_unaligned_product_of_many_rows_takes_longer() -> None:
    """k of 8 x 125, which is no multiple of 16, on more than 64 rows."""
    chain: dict[str, Any] = {"gemm__step_s": 64.0, "gemm__split_s": 1e6, "gemm__unaligned": 0.5}
    assert seconds(gemm(65, 128, 1000), **chain) == pytest.approx(1500.0)
    assert seconds(gemm(65, 128, 1008), **chain) == pytest.approx(1008.0)
    assert seconds(gemm(64, 128, 1000), **chain) == pytest.approx(1000.0)


def test_a_fused_product_of_one_row_pads_its_rows() -> None:
    """1,000 elements fill 1,024 in registers, of dense products and of experts' at one token."""
    held = P | {"row.row_s": 1.0, "row.element_s": 0.5, "row.padded_s": 2.0, "row.launch_s": 3.0}
    fused = partial(part_s, held, launches=1, tokens=1, keeps=True)
    begun = 3.0 + 2048.0
    assert fused(gemm(1, 10, 1000)) == pytest.approx(begun + 10 * (1 + 512))
    assert fused(gemm(1, 10, 1024)) == pytest.approx(begun + 10 * (1 + 512))
    experts = Part(name="down", kind="matmul", shape=Grouped(groups=8, rows=8, n=10, k=1000))
    assert fused(experts) == pytest.approx(2048.0 + 80 * (1 + 512))
    assert part_s(held, gemm(1, 10, 1000), launches=1, tokens=1, keeps=False) == pytest.approx(0.0)


def test_an_activation_is_a_kernel_of_its_own_kind() -> None:
    acts = replace(MOVED, name="activation")
    assert seconds(acts, 2, activation__launch_s=3.0, elementwise__launch_s=50.0) == 6.0


def test_what_overlaps_counts_as_the_third_norm() -> None:
    both = gemm(2, 128, 64, weight_bytes=30)
    chain: dict[str, Any] = {"gemm__step_s": 4.0, "gemm__split_s": 100.0}
    assert seconds(both, gemm__hbm_bytes_per_s=10.0, **chain) == pytest.approx(91 ** (1 / 3))


def test_a_bag_is_read_row_by_row_and_dots_are_not() -> None:
    bag = Part(name="weighted_sum", kind="gather", shape=Rows(reads=60, row_bytes=8))
    assert seconds(bag, tokens=4, rows__row_s=2.0) == pytest.approx(30.0)
    assert seconds(bag, tokens=4, rows__bytes_per_s=10.0) == pytest.approx(48.0)
    assert seconds(replace(bag, name="dots"), tokens=4, rows__row_s=2.0) == pytest.approx(0.0)


def test_experts_have_whole_tiles_each() -> None:
    """8 experts of 2 rows: a tile of 64 each; of 640 rows: 10.5 each."""
    few = Part(name="down", kind="matmul", shape=Grouped(groups=8, rows=16, n=10, k=20))
    tile = 2.0 * 64 * 10 * 20
    assert seconds(few, grouped__flops_per_s=tile) == pytest.approx(8.0)
    many = replace(few, shape=Grouped(groups=8, rows=5120, n=10, k=20))
    assert seconds(many, grouped__flops_per_s=tile) == pytest.approx(84.0)


@pytest.mark.parametrize(
    ("rows", "width", "several"),
    [
        (20, 20_000, True),
        (20, 19_999, False),
        (100, 5_000, True),
        (200, 3_000, True),
        (199, 3_000, False),
        (4_000, 800, True),
        (4_001, 400, True),
        (4_000, 799, False),
    ],
)
def test_torch_searches_with_several_blocks_by_its_rule(
    rows: int,
    width: int,
    several: bool,  # noqa: FBT001 - a parameter of a test
) -> None:
    part = Part(name="top", kind="selection", shape=TopK(rows=rows, width=width, chosen=2, calls=2))
    assert seconds(part, top__several_s=5.0) == pytest.approx(10.0 if several else 0.0)


def attend(batch: int, keys: int, queries: int = 1) -> Part:
    shape = Attend(batch=batch, heads=4, kv_heads=4, head_dim=128, queries=queries, keys=keys)
    return Part(name="scores", kind="attention", shape=shape)


def test_attention_walks_over_whole_tiles_of_keys() -> None:
    """C cached tokens are C + 1 keys: 128 of them and the new one take two tiles."""
    alone: dict[str, Any] = {"decode__tile_s": 1.0, "decode__split_s": 1000.0, "decode__whole": 1.0}
    assert seconds(attend(1, 128), **alone) == pytest.approx(1.0)
    assert seconds(attend(1, 129), **alone) == pytest.approx(2.0)
    assert seconds(attend(26, 129), **alone) == pytest.approx(4.0)  # 104 blocks: two waves


@pytest.mark.parametrize(("head_dim", "waves"), [(128, 2), (256, 3)])
def test_fused_attention_works_in_whole_waves(head_dim: int, waves: int) -> None:
    """204 blocks on 100 multiprocessors, which hold two of usual heads and one of broad ones."""
    family = "decode" if head_dim == 128 else "broad"
    p = P | {family + ".tile_s": 128 / head_dim}
    shape = Attend(batch=51, heads=4, kv_heads=4, head_dim=head_dim, queries=1, keys=129)
    part = Part(name="scores", kind="attention", shape=shape)
    taken = part_s(p, part, launches=1, tokens=51, keeps=True)
    assert taken == pytest.approx(2 * waves)  # two tiles each


def test_a_prompt_multiplies_half_the_square_and_half_a_tile() -> None:
    """256 queries: 256 x 257 / 2 pairs, and 256 x 64 of the diagonal's tiles."""
    flops = 4.0 * 4 * 128 * (256 * 257 / 2 + 256 * 64)
    assert seconds(attend(1, 256, 256), prompt__flops_per_s=flops) == pytest.approx(1.0)


@pytest.mark.parametrize("keeps", [False, True])
def test_arrays_are_single_numbers_and_time_grows_with_batch_and_context(*, keeps: bool) -> None:
    p = START | FIXED
    batches, contexts = (
        np.array([2, 3, 17, 64, 65, 300, 2000]),
        np.array([1, 129, 400, 5000, 70_000]),
    )
    grid = np.broadcast_arrays(batches[:, None], contexts[None, :])

    def of(batch: object, keys: object) -> Part:
        shape = Attend(batch=batch, heads=8, kv_heads=2, head_dim=128, queries=1, keys=keys)  # type: ignore[arg-type]
        return Part(name="scores", kind="attention", shape=shape)

    found = part_s(p, of(*grid), launches=1, tokens=grid[0], keeps=keeps)
    one = [
        [part_s(p, of(int(b), int(c)), launches=1, tokens=int(b), keeps=keeps) for c in contexts]
        for b in batches
    ]
    assert found == pytest.approx(np.array(one), rel=1e-12)
    assert np.all(np.diff(found, axis=1) >= 0)
    products = [
        part_s(
            p, gemm(int(b), 1000, 900, weight_bytes=1.8e6), launches=1, tokens=int(b), keeps=keeps
        )
        for b in batches
    ]
    assert sorted(products) == pytest.approx(products)
