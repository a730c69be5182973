"""Where experts and copies of them stand, by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.errors import InputError
from costmodel.routing.placement import Order, Placement, slots_of


def stand(popularity: list[float], at: Placement) -> list[list[int]]:
    return [[int(rank) for rank in gpu] for gpu in slots_of(np.array(popularity), at).experts]


def test_consecutive_experts_keep_their_order_and_copies_follow() -> None:
    assert stand([0.9, 0.6, 0.4, 0.1], Placement(gpus=2)) == [[0, 1], [2, 3]]
    slots = slots_of(np.array([0.9, 0.6, 0.5]), Placement(gpus=2, redundant=1))
    assert slots.experts.tolist() == [[0, 1], [2, 0]]
    assert slots.copies.tolist() == [[2, 1], [1, 2]]


def test_spread_gives_the_next_expert_to_the_gpu_with_the_fewest_tokens() -> None:
    at = Placement(gpus=2, order="spread")
    assert stand([0.4, 0.3, 0.2, 0.1], at) == [[0, 3], [1, 2]]
    assert stand([0.7, 0.1, 0.1, 0.1], at) == [[0, 3], [1, 2]]  # two are all that a GPU holds
    with_copies = Placement(gpus=2, redundant=2, order="spread")
    # copies: 0.8 -> 0.4 + 0.4, then 0.5 -> 0.25 + 0.25; dealt out as 0.4 0.4 0.25 0.25 0.2 0.1
    assert stand([0.8, 0.5, 0.2, 0.1], with_copies) == [[0, 1, 2], [0, 1, 3]]


@pytest.mark.parametrize(
    ("popularity", "gpus", "copies"),
    [
        ([0.9, 0.5, 0.4, 0.2], 3, [2, 2, 1, 1]),  # 0.9 -> 0.45; then 0.5 is the most
        ([0.9, 0.4, 0.4, 0.3], 3, [3, 1, 1, 1]),  # 0.9 -> 0.45 -> 0.3
        ([0.9, 0.4, 0.4, 0.3], 2, [2, 2, 1, 1]),  # no more copies than GPUs
        ([0.5, 0.5, 0.5, 0.5], 2, [2, 2, 1, 1]),
    ],
)
def test_a_copy_goes_to_the_expert_with_the_most_tokens_a_copy(
    popularity: list[float], gpus: int, copies: list[int]
) -> None:
    slots = slots_of(np.array(popularity), Placement(gpus=gpus, redundant=2))
    assert np.bincount(slots.experts.ravel()).tolist() == copies


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (Placement(gpus=0), "gpus=0: must be at least 1"),
        (Placement(gpus=3), "redundant=0: 8 experts and 0 copies do not divide among 3 GPUs"),
        (
            Placement(gpus=4, redundant=2),
            "redundant=2: 8 experts and 2 copies do not divide among 4 GPUs",
        ),
        (
            Placement(gpus=2, redundant=10),
            "redundant=10: must lie between 0 and 8, a copy of each of 8 experts on every GPU",
        ),
        (Placement(gpus=2, redundant=-2), "redundant=-2: must lie between 0 and 8"),
    ],
)
def test_what_does_not_divide_is_refused(at: Placement, message: str) -> None:
    with pytest.raises(InputError, match=message):
        slots_of(np.full(8, 0.25), at)


@given(
    popularity=st.lists(st.floats(0, 1), min_size=1, max_size=12),
    gpus=st.integers(1, 6),
    extra=st.integers(0, 3),
    order=st.sampled_from(["consecutive", "spread"]),
)
def test_every_expert_has_a_slot_and_every_slot_an_expert(
    popularity: list[float], gpus: int, extra: int, order: Order
) -> None:
    experts = len(popularity)
    redundant = min(-experts % gpus + extra * gpus, experts * (gpus - 1))
    at = Placement(gpus=gpus, redundant=redundant, order=order)
    slots = slots_of(np.array(sorted(popularity, reverse=True)), at)
    assert slots.experts.shape == slots.copies.shape == (gpus, (experts + redundant) // gpus)
    copies = np.bincount(slots.experts.ravel(), minlength=experts)
    assert copies.min() >= 1
    assert copies.max() <= gpus
    assert (copies[slots.experts] == slots.copies).all()
