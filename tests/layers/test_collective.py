"""Bytes of collectives: worked out by hand, and against an exchange played through."""

from fractions import Fraction
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.errors import InputError
from costmodel.layers.collective import Collective, CollectiveName, Group

NAMES: tuple[CollectiveName, ...] = get_args(CollectiveName)
MIB = 2**20


def sent(name: CollectiveName, gpus: int, per_node: int, payload: int) -> tuple[float, float]:
    """Bytes over the node's links and over the network."""
    group = Group(gpus=gpus, per_node=per_node)
    found = Collective(name=name, group=group, payload_bytes=payload).sent
    return float(found.node_bytes), float(found.network_bytes)


@pytest.mark.parametrize(
    ("name", "group", "payload", "sends"),
    [
        ("all_reduce", (8, 8), MIB, (1_835_008, 0)),  # 2 x 7/8 of 1,048,576
        ("all_gather", (8, 8), MIB, (917_504, 0)),  # 7/8
        ("reduce_scatter", (8, 8), MIB, (917_504, 0)),
        ("all_to_all", (8, 8), MIB, (917_504, 0)),
        ("send", (2, 2), MIB, (MIB, 0)),
        ("all_reduce", (2, 2), 1000, (1000, 0)),
        # Two nodes of 8: each GPU has an eighth, 131,072 bytes, and all-reduces it with one other.
        ("all_reduce", (16, 8), MIB, (1_835_008, 131_072)),
        ("all_gather", (16, 8), MIB, (917_504, 65_536)),
        ("reduce_scatter", (16, 8), MIB, (917_504, 65_536)),
        # 64 parts of 100 bytes over 8 nodes: 7 go to GPUs of the node, 56 to others, 1 stays.
        ("all_to_all", (64, 8), 6400, (700, 5600)),
        ("all_reduce", (4, 1), 1000, (0, 1500)),  # one GPU in each node: 2 x 3/4
        ("send", (4, 1), 1000, (0, 1000)),
        ("send", (16, 8), 1000, (0, 1000)),  # its slowest neighbours stand in other nodes
    ],
)
def test_bytes_worked_out_by_hand(
    name: CollectiveName, group: tuple[int, int], payload: int, sends: tuple[int, int]
) -> None:
    """`group` is GPUs and those of a node, `sends` bytes over the node's links and the network."""
    assert sent(name, *group, payload) == sends


@pytest.mark.parametrize("name", NAMES)
def test_one_gpu_sends_nothing(name: CollectiveName) -> None:
    alone = Collective(name=name, group=Group(gpus=1, per_node=1), payload_bytes=MIB)
    assert (alone.sent.node_bytes, alone.sent.network_bytes) == (0, 0)
    assert alone.sent_to_adding_switch == 0
    assert alone.least_sent == 0


def played(gpus: int, per_node: int) -> tuple[Fraction, Fraction]:
    """A hierarchical all-reduce of one byte for each GPU, chunk by chunk: what GPU 0 sends.

    In each node a ring reduces and scatters in per_node - 1 rounds; then a ring between the GPUs of
    a rank all-reduces the chunk; then a ring gathers.
    """
    nodes = gpus // per_node
    node = network = Fraction(0)
    chunk = Fraction(gpus, per_node)
    for _ in range(2):  # reduce-scatter, and after the exchange between nodes all-gather
        for _ in range(per_node - 1):
            node += chunk
        for _ in range(nodes - 1):
            network += chunk / nodes
    return node, network


@given(st.integers(1, 16), st.integers(1, 16))
def test_an_all_reduce_played_through(nodes: int, per_node: int) -> None:
    gpus = nodes * per_node
    node, network = played(gpus, per_node)
    assert sent("all_reduce", gpus, per_node, gpus) == pytest.approx((float(node), float(network)))


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from(NAMES[:3]))
def test_both_links_together_carry_what_a_flat_ring_does(
    nodes: int, per_node: int, name: CollectiveName
) -> None:
    gpus = nodes * per_node
    times = 2 if name == "all_reduce" else 1
    both = sum(sent(name, gpus, per_node, 840))
    assert both == pytest.approx(840 * times * (gpus - 1) / gpus)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**40))
def test_a_gather_undoes_a_scatter_and_both_make_an_all_reduce(
    nodes: int, per_node: int, payload: int
) -> None:
    gpus = nodes * per_node
    scattered = sent("reduce_scatter", gpus, per_node, payload)
    assert sent("all_gather", gpus, per_node, payload) == scattered
    whole = [2 * part for part in scattered]
    assert sent("all_reduce", gpus, per_node, payload) == pytest.approx(whole)


def test_a_switch_that_adds_takes_each_byte_once_and_the_own_part_twice() -> None:
    """Of 8 GPUs with 800 bytes: 800 up to the switch, then the own 100, summed, for all."""
    group = Group(gpus=8, per_node=8)
    reduced = Collective(name="all_reduce", group=group, payload_bytes=800)
    assert reduced.sent_to_adding_switch == 900
    assert reduced.least_sent == 800
    gathered = Collective(name="all_gather", group=group, payload_bytes=800)
    assert gathered.sent_to_adding_switch == gathered.least_sent == 700


@pytest.mark.parametrize("name", NAMES)
def test_arrays_of_payloads_are_as_one_by_one(name: CollectiveName) -> None:
    group = Group(gpus=16, per_node=8)
    payloads = [0, 1, 7 * 1024, MIB]
    many = Collective(name=name, group=group, payload_bytes=np.array(payloads))
    for index, payload in enumerate(payloads):
        one = Collective(name=name, group=group, payload_bytes=payload)
        assert np.asarray(many.sent.node_bytes)[index] == one.sent.node_bytes
        assert np.asarray(many.sent.network_bytes)[index] == one.sent.network_bytes
        assert np.asarray(many.sent_to_adding_switch)[index] == one.sent_to_adding_switch
        assert np.asarray(many.least_sent)[index] == one.least_sent


@pytest.mark.parametrize(
    ("gpus", "per_node", "message"),
    [
        (0, 1, r"^gpus=0: a group of GPUs needs 1 or more"),
        (8, 0, r"^per_node=0: a group of GPUs needs 1 or more"),
        (12, 8, r"^per_node=8: does not divide gpus=12; each node has as many"),
        (4, 8, r"^per_node=8: does not divide gpus=4;"),
    ],
)
def test_a_group_that_cannot_be(gpus: int, per_node: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Group(gpus=gpus, per_node=per_node)


def test_a_collective_that_does_not_exist() -> None:
    with pytest.raises(InputError, match=r"^collective='broadcast': is not one of all_reduce, "):
        Collective(
            name="broadcast",  # type: ignore[arg-type]
            group=Group(gpus=2, per_node=2),
            payload_bytes=1,
        )
