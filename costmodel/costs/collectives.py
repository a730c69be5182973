"""Times of collectives: a bound by the datasheet's links, and an estimate with its interval.

Nothing here was measured by this project: `collective_rates` says what the numbers are from. The
interval spans kernels and libraries, from the fastest that was published to NCCL or RCCL out of the
box; it is no statistical one, and a machine with a fault is slower still.
"""

from dataclasses import dataclass
from math import ceil, log2

from costmodel.costs.collective_rates import NOT_MEASURED, RATES, Estimate, Way
from costmodel.errors import InputError, shown
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.links import Network, Node
from costmodel.layers.collective import Collective, Group
from costmodel.layers.numbers import Number, larger, smaller

__all__ = ["NOT_MEASURED", "CollectiveTime", "bound_s", "check_links", "time_s"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CollectiveTime:
    """Estimated seconds of a collective, from published measurements of others.

    Attributes:
        low: With the fastest kernels that were published.
        typical: With what engines use.
        high: With NCCL or RCCL out of the box, on a healthy machine.
        source: What these are from.
    """

    low: Number
    typical: Number
    high: Number
    source: str


def check_links(group: Group, hardware: Hardware) -> None:
    """That the GPU's file has the links that a group needs.

    Raises:
        InputError: It has no [node], or fewer GPUs in it than the group has in one; or the group
            spans nodes and there is no [network].
    """
    if group.gpus > 1:
        node = _node(group, hardware)
        if group.per_node > node.gpus:
            raise InputError(
                f"per_node={shown(group.per_node)}: is more than node.gpus={node.gpus} of"
                f" {shown(hardware.name)}"
            )
    if group.nodes > 1:
        _network(group, hardware)


def bound_s(collective: Collective, hardware: Hardware) -> Number:
    """Seconds that a collective takes at least, at the datasheet's rates.

    Formula: max(network bytes / network rate, least bytes / (node rate + network rate)), where the
    network rate is 0 for a group in one node. Node links and network carry bytes at the same time
    at best, and a GPU may send over either what its node shares out. Where the node's
    switch adds, the least bytes of an all-reduce are its payload. Without a switch (Infinity
    Fabric) p GPUs of a node have p - 1 links of each GPU, one of them for a send.
    Leaves out: latency, launches, headers, and switches between nodes that add.
    Source: `Collective.sent` and `Collective.least_sent`; [node] and [network] of the GPU's file.

    Raises:
        InputError: As `check_links`.
    """
    group, sent = collective.group, collective.sent
    check_links(group, hardware)
    if group.gpus == 1:
        return sent.node_bytes
    node = _node(group, hardware)
    network = _network(group, hardware) if group.nodes > 1 else None
    over_network = network.bytes_per_s if network else 0.0
    least = collective.least_sent if node.reduces else sent.node_bytes + sent.network_bytes
    together = least / (_node_rate(collective, node) + over_network)
    return larger(together, sent.network_bytes / over_network) if network else together


def time_s(collective: Collective, hardware: Hardware) -> CollectiveTime:
    """Estimated seconds of a collective: low, typical and high.

    Formula: the shortest over the ways of an estimate of latency + max(node bytes / (share x node
    rate), network bytes / (share x network rate)); the high estimate adds the two transfers up. A
    group over several nodes has the latency of the network besides, and that of a hop for each
    exchange of a tree: ceil(log2(nodes)), twice as many of an all-reduce, one of an all_to_all or a
    send. An all-reduce may go through the switch, where that adds.
    Leaves out: what the collective takes from kernels beside it, and waiting for the slowest GPU.
    Source: `collective_rates.RATES`, published measurements of others.

    Raises:
        InputError: As `check_links`.
    """
    group = collective.group
    check_links(group, hardware)
    if group.gpus == 1:
        nothing = collective.payload_bytes * 0
        return CollectiveTime(low=nothing, typical=nothing, high=nothing, source="one GPU")
    rates = RATES[_node(group, hardware).kind]
    return CollectiveTime(
        low=_estimated_s(collective, hardware, rates.low),
        typical=_estimated_s(collective, hardware, rates.typical),
        high=_estimated_s(collective, hardware, rates.high),
        source=f"{NOT_MEASURED}: {rates.source}",
    )


def _estimated_s(collective: Collective, hardware: Hardware, estimate: Estimate) -> Number:
    node = _node(collective.group, hardware)
    time = _fastest_s(collective, hardware, estimate, estimate.ways, collective.sent.node_bytes)
    if not (node.reduces and estimate.adding) or collective.name != "all_reduce":
        return time
    adding = _fastest_s(
        collective, hardware, estimate, estimate.adding, collective.sent_to_adding_switch
    )
    return smaller(time, adding)


def _fastest_s(
    collective: Collective,
    hardware: Hardware,
    estimate: Estimate,
    ways: tuple[Way, ...],
    node_bytes: Number,
) -> Number:
    """The shortest over some ways to do the part inside the node."""
    group = collective.group
    node_rate = _node_rate(collective, _node(group, hardware))
    latency, network_s = 0.0, collective.sent.network_bytes * 0.0
    if group.nodes > 1:
        rates = estimate.network
        latency = rates.latency_s + _hops(collective) * rates.hop_s
        usable = rates.share * _network(group, hardware).bytes_per_s
        network_s = collective.sent.network_bytes / usable
    times = []
    for way in ways:
        inside_s = node_bytes / (way.share * node_rate)
        transfer_s = larger(inside_s, network_s) if estimate.overlaps else inside_s + network_s
        times.append(way.latency_s + latency + transfer_s)
    fastest: Number = times[0]
    for time in times[1:]:
        fastest = smaller(fastest, time)
    return fastest


def _hops(collective: Collective) -> int:
    """Exchanges between nodes that wait for one another."""
    if collective.name in ("all_to_all", "send"):
        return 1
    return ceil(log2(collective.group.nodes)) * (2 if collective.name == "all_reduce" else 1)


def _node_rate(collective: Collective, node: Node) -> float:
    """Bytes/s of one GPU over the links of its node that lead to GPUs of the group."""
    peers = 1 if collective.name == "send" else max(collective.group.per_node - 1, 1)
    if node.kind == "infinity_fabric":
        return node.bytes_per_s * peers / (node.gpus - 1)
    return node.bytes_per_s


def _node(group: Group, hardware: Hardware) -> Node:
    if hardware.node is None:
        raise InputError(
            f"gpus={shown(group.gpus)}: needs the GPU's [node], which the file of"
            f" {shown(hardware.name)} lacks (its name, kind, gpus and bytes_per_s)"
        )
    return hardware.node


def _network(group: Group, hardware: Hardware) -> Network:
    if hardware.network is None:
        raise InputError(
            f"gpus={shown(group.gpus)}: with {group.per_node} in a node needs the GPU's [network]"
            f" between nodes, which the file of {shown(hardware.name)} lacks (its name and"
            " bytes_per_s)"
        )
    return hardware.network
