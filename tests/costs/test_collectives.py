"""Times of collectives: bounds by hand, and published measurements of others beside both."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.costs.collective_rates import NOT_MEASURED, RATES
from costmodel.costs.collectives import bound_s, check_links, time_s
from costmodel.errors import InputError
from costmodel.inputs.hardware import Hardware, hardware_names, load_hardware
from costmodel.inputs.links import LinkKind
from costmodel.layers.collective import Collective, CollectiveName, Group
from docs.collectives import points

NAMES: tuple[CollectiveName, ...] = get_args(CollectiveName)
GPUS = {name: load_hardware(name) for name in hardware_names()}
H100 = GPUS["h100-sxm"]


POINTS = points()


def test_published_times_lie_between_the_bound_and_the_high_estimate() -> None:
    """All points, those that chose no number with them."""
    outside = []
    for measured in POINTS:
        time = time_s(measured.collective, measured.hardware)
        assert bound_s(measured.collective, measured.hardware) <= measured.seconds
        if not time.low <= measured.seconds <= time.high:
            outside.append((measured, time))
    assert outside == []


def test_half_of_the_points_chose_nothing_and_span_links_and_collectives() -> None:
    held = [point for point in POINTS if point.use == "held"]
    assert {point.use for point in POINTS} == {"chosen", "held"}
    assert len(held) >= len(POINTS) / 2
    assert {point.collective.name for point in held} == set(NAMES)
    assert {point.hardware.node.kind for point in held if point.hardware.node} == set(RATES)
    chose = {point.source for point in POINTS if point.use == "chosen"}
    from_elsewhere = [point for point in held if point.source not in chose]
    assert len(from_elsewhere) >= 0.8 * len(held)


def test_the_typical_estimate_is_near_the_middle_of_points_that_chose_nothing() -> None:
    """Half of them within a fifth, nine of ten within a factor of 2.3."""
    off = sorted(
        abs(np.log(float(time_s(point.collective, point.hardware).typical) / point.seconds))
        for point in POINTS
        if point.use == "held"
    )
    assert off[len(off) // 2] < np.log(1.2)
    assert off[len(off) * 9 // 10] < np.log(2.3)


def without(*tables: str) -> Hardware:
    """An H100 whose file lacks some tables."""
    sources = {
        path: source for path, source in H100.sources.items() if path.split(".")[0] not in tables
    }
    return replace(H100, sources=sources, **dict.fromkeys(tables))  # type: ignore[arg-type]


def on(name: CollectiveName, gpus: int, per_node: int, payload: float) -> Collective:
    group = Group(gpus=gpus, per_node=per_node)
    return Collective(name=name, group=group, payload_bytes=payload)


@pytest.mark.parametrize(
    ("gpu", "collective", "seconds"),
    [
        ("h100-sxm", on("all_reduce", 8, 8, 450e6), 1e-3),  # the switch adds: each byte once
        ("a100-80gb", on("all_reduce", 8, 8, 300e6), 1.75e-3),  # it does not: 2 x 7/8
        ("h100-sxm", on("all_gather", 8, 8, 450e6), 0.875e-3),
        ("h100-sxm", on("send", 2, 2, 450e6), 1e-3),
        ("h100-sxm", on("send", 2, 1, 50e6), 1e-3),
        # 56/64 of 64 MB cross adapters of 50 GB/s; the 7/64 inside the node take less.
        ("h100-sxm", on("all_to_all", 64, 8, 64e6), 56e6 / 50e9),
        # Two nodes of A100s: 187.5 MB of a 100 MB tensor over links and adapter, 325 GB/s.
        ("a100-80gb", on("all_reduce", 16, 8, 100e6), 187.5e6 / 325e9),
        # Two H100 nodes: an eighth of the tensor crosses each adapter.
        ("h100-sxm", on("all_reduce", 16, 8, 400e6), 1e-3),
        # Two of eight MI300X have one link of 64 GB/s between them, four have three each.
        ("mi300x", on("all_reduce", 2, 2, 64e6), 1e-3),
        ("mi300x", on("all_to_all", 4, 4, 256e6), 1e-3),
        ("mi300x", on("send", 8, 8, 64e6), 1e-3),
        ("rtx-4090", on("all_gather", 4, 4, 128e6), 3e-3),
    ],
)
def test_bounds_worked_out_by_hand(gpu: str, collective: Collective, seconds: float) -> None:
    assert bound_s(collective, GPUS[gpu]) == pytest.approx(seconds)


def test_times_worked_out_by_hand() -> None:
    """8 MiB on 8 H100s: by rings 10 us + 14.68 MB / 337.5 GB/s, by the switch 9.44 MB / 270."""
    reduced = time_s(on("all_reduce", 8, 8, 2**23), H100)
    assert reduced.typical == pytest.approx(10e-6 + 2**23 * 9 / 8 / (0.6 * 450e9))
    gathered = time_s(on("all_gather", 8, 8, 2**23), H100)
    assert gathered.typical == pytest.approx(10e-6 + 2**23 * 7 / 8 / (0.75 * 450e9))
    # Four nodes: 10 us inside, 2 besides, two hops of a tree there and two back.
    across = time_s(on("all_reduce", 32, 8, 2**23), H100)
    assert across.typical == pytest.approx(32e-6 + 2**23 * 1.5 / 8 / (0.8 * 50e9))
    # An all-to-all has one hop, whatever the nodes; 24 of 32 parts leave the node.
    spread = time_s(on("all_to_all", 32, 8, 2**23), H100)
    assert spread.typical == pytest.approx(17e-6 + 2**23 * 0.75 / (0.8 * 50e9))
    # The high estimate adds up what the others overlap, inside at 0.3, outside at 0.22.
    inside, outside = 2**23 * 7 / 32 / (0.3 * 450e9), 2**23 * 0.75 / (0.22 * 50e9)
    assert spread.high == pytest.approx(30e-6 + 75e-6 + inside + outside)


@given(
    st.sampled_from(sorted(name for name, gpu in GPUS.items() if gpu.node)),
    st.sampled_from(NAMES),
    st.integers(1, 8),
    st.sampled_from((1, 2, 3, 8, 32)),
    st.floats(0, 1e12),
)
def test_estimates_keep_their_order_and_grow_with_the_payload(
    gpu: str, name: CollectiveName, per_node: int, nodes: int, payload: float
) -> None:
    hardware = GPUS[gpu]
    if hardware.network is None:
        nodes = 1
    collective = on(name, nodes * per_node, per_node, payload)
    time = time_s(collective, hardware)
    assert bound_s(collective, hardware) <= time.low <= time.typical <= time.high
    larger = on(name, nodes * per_node, per_node, 2 * payload)
    assert bound_s(larger, hardware) == pytest.approx(2 * bound_s(collective, hardware))
    more = time_s(larger, hardware)
    assert (time.low, time.typical, time.high) <= (more.low, more.typical, more.high)


@pytest.mark.parametrize("name", NAMES)
def test_arrays_of_payloads_are_as_one_by_one(name: CollectiveName) -> None:
    payloads = np.array([0.0, 100.0, 1e5, 1e7, 1e9])
    group = Group(gpus=16, per_node=8)
    many = Collective(name=name, group=group, payload_bytes=payloads)
    times, bounds = time_s(many, H100), bound_s(many, H100)
    for index, payload in enumerate(payloads.tolist()):
        one = Collective(name=name, group=group, payload_bytes=payload)
        time = time_s(one, H100)
        assert np.asarray(bounds)[index] == bound_s(one, H100)
        assert np.asarray(times.low)[index] == time.low
        assert np.asarray(times.typical)[index] == time.typical
        assert np.asarray(times.high)[index] == time.high


def test_one_gpu_takes_no_time_and_needs_no_links() -> None:
    alone = on("all_reduce", 1, 1, 1e9)
    bare = without("node", "network")
    time = time_s(alone, bare)
    assert (bound_s(alone, bare), time.low, time.typical, time.high) == (0, 0, 0, 0)


@pytest.mark.parametrize("kind", get_args(LinkKind))
def test_every_kind_of_link_has_rates_that_say_what_they_are_from(kind: LinkKind) -> None:
    gpu = next(gpu for gpu in GPUS.values() if gpu.node and gpu.node.kind == kind)
    source = time_s(on("send", 2, 2, 1), gpu).source
    assert source.startswith(NOT_MEASURED)
    assert "not measured by this project" in source
    assert "github.com/" in source


def test_a_users_file_may_have_a_switch_that_adds_on_any_kind_of_link() -> None:
    card = GPUS["l40s"]
    assert card.node is not None
    adding = replace(card, node=replace(card.node, reduces=True))
    both = [time_s(on("all_reduce", 8, 8, 1e6), gpu).typical for gpu in (card, adding)]
    assert both[0] == both[1]  # nothing is published of such a switch


@pytest.mark.parametrize(
    ("gpu", "group", "message"),
    [
        (
            without("node"),
            Group(gpus=8, per_node=8),
            r"^gpus=8: needs the GPU's \[node\], which the file of 'NVIDIA H100 SXM 80GB' lacks",
        ),
        (
            without("network"),
            Group(gpus=16, per_node=8),
            r"^gpus=16: with 8 in a node needs the GPU's \[network\] between nodes, which the file",
        ),
        (
            H100,
            Group(gpus=16, per_node=16),
            r"^per_node=16: is more than node\.gpus=8 of 'NVIDIA H100 SXM 80GB'",
        ),
    ],
)
def test_links_that_a_file_lacks(gpu: Hardware, group: Group, message: str) -> None:
    collective = Collective(name="all_reduce", group=group, payload_bytes=1)
    for refused in (
        lambda: check_links(group, gpu),
        lambda: bound_s(collective, gpu),
        lambda: time_s(collective, gpu),
    ):
        with pytest.raises(InputError, match=message):
            refused()
