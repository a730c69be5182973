"""Collectives between GPUs: who takes part, what is exchanged, what one GPU sends over which link.

GPUs of one node exchange over its links (NVLink, Infinity Fabric, PCIe), nodes over a network. A
GPU of a group sends as much as it receives, so the bytes here are those of either direction.
Collectives over several nodes are hierarchical: inside each node, then each GPU exchanges its part
of the tensor with the GPUs of its rank in other nodes, one network adapter a GPU. An all-to-all
goes straight to its destinations.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from costmodel.errors import InputError, shown
from costmodel.layers.numbers import Number

CollectiveName: TypeAlias = Literal[
    "all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The GPUs that take part in a collective.

    Attributes:
        gpus: All of them.
        per_node: Those that stand in one node, the same in each.
    """

    gpus: int
    per_node: int

    def __post_init__(self) -> None:
        """Every node has as many GPUs of the group."""
        for name, number in (("gpus", self.gpus), ("per_node", self.per_node)):
            if number < 1:
                raise InputError(f"{name}={shown(number)}: a group of GPUs needs 1 or more")
        if self.gpus % self.per_node:
            raise InputError(
                f"per_node={shown(self.per_node)}: does not divide gpus={shown(self.gpus)};"
                " each node has as many GPUs of a group"
            )

    @property
    def nodes(self) -> int:
        """The nodes in which the group stands."""
        return self.gpus // self.per_node


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sent:
    """What one GPU sends in a collective, in bytes; it receives as many."""

    node_bytes: Number  # to GPUs of its own node, over the links of that node
    network_bytes: Number  # to other nodes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Collective:
    """One collective of a group.

    Attributes:
        name: What is done. `send` passes a tensor to one neighbour, all GPUs at the same time; of a
            group over several nodes it counts as one between nodes.
        group: Who takes part. The other GPUs of its nodes are taken to do the same in groups of
            their own, so that each GPU has its own links and its own adapter alone.
        payload_bytes: all_reduce: the tensor that each GPU holds. all_gather: the gathered result.
            reduce_scatter: the tensor before it. all_to_all: what one GPU gives out, the share that
            stays with it included. send: what goes to the neighbour. A number, or an array.
    """

    name: CollectiveName
    group: Group
    payload_bytes: Number

    def __post_init__(self) -> None:
        """The name is one of those above."""
        if self.name not in get_args(CollectiveName):
            names = ", ".join(get_args(CollectiveName))
            raise InputError(f"collective={shown(self.name)}: is not one of {names}")

    @property
    def sent(self) -> Sent:
        """Bytes that one GPU sends, without help of a switch.

        Formula, with n GPUs, p of them in a node, N = n / p nodes and a payload S:
        all_reduce 2 (p - 1) / p S in the node, a reduce-scatter and an all-gather, and between
        nodes 2 (N - 1) / N S / p, an all-reduce of the GPU's part; all_gather and reduce_scatter
        half of these; all_to_all (p - 1) / n S in the node and (n - p) / n S between nodes.
        Rings reach these numbers. Both links together carry 2 (n - 1) / n S of an all-reduce and
        half of it of the other two: the fewest bytes, where no switch adds.
        Leaves out: headers, flags, padding, and tokens that one message may carry to several
        experts of a node (the payload states them once or twice).
        Source: bandwidth-optimal algorithms, Patarasuk and Yuan, JPDC 69(2), 2009; hierarchy as in
        NCCL's trees over NVLink domains.
        """
        n, p, nodes = self.group.gpus, self.group.per_node, self.group.nodes
        payload = self.payload_bytes
        if self.name == "all_to_all":
            return Sent(
                node_bytes=payload * (p - 1) / n,
                network_bytes=payload * (n - p) / n,
            )
        if self.name == "send":
            stays = nodes == 1
            return Sent(node_bytes=payload * (stays and n > 1), network_bytes=payload * (not stays))
        times = 2 if self.name == "all_reduce" else 1
        return Sent(
            node_bytes=payload * (times * (p - 1)) / p,
            network_bytes=payload * (times * (nodes - 1)) / (nodes * p),
        )

    @property
    def sent_to_adding_switch(self) -> Number:
        """Bytes that one GPU sends over the node's links where their switch adds (NVLink SHARP).

        Formula: all_reduce (1 + 1 / p) S: all of its tensor up to the switch, of which it gets the
        sum of its own part back, and that part once more, which the switch hands to all. Other
        collectives as `sent`: what each GPU must receive does not get less.
        Source: NVLS all-reduce of NCCL, whose GPUs load sums from the switch and store to all.
        """
        p = self.group.per_node
        if self.name == "all_reduce" and p > 1:
            return self.payload_bytes * (p + 1) / p
        return self.sent.node_bytes

    @property
    def least_sent(self) -> Number:
        """Fewest bytes that one GPU sends over all its links, if their switches may add.

        Formula: all_reduce S: of each element all GPUs but one send a term or a sum, and one sends
        the result, S for each GPU on average. Other collectives as `sent`, both links together.
        """
        if self.name == "all_reduce" and self.group.gpus > 1:
            return self.payload_bytes
        return self.sent.node_bytes + self.sent.network_bytes
