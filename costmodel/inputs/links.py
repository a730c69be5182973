"""What a GPU is connected to, by datasheet: host memory, a disk, GPUs of its node, other nodes.

Rates are those of one GPU in one direction. Datasheets of NVLink and PCIe add both directions up
(900 GB/s of an H100's NVLink are 450 each way).
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.strict import STRICT

# The lower bounds catch a wrong unit (4.8 for 4.8e12 bytes/s); the upper ones lie far above any GPU
# and keep every product and quotient finite.
Rate: TypeAlias = Annotated[float, Field(ge=1e9, lt=1e18)]
Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=2000, pattern=r"\S")]
LinkKind: TypeAlias = Literal["nvlink", "infinity_fabric", "pcie"]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Link:
    """The link between GPU and host memory.

    Attributes:
        name: Such as "PCIe 5.0 x16".
        bytes_per_s: In one direction, by the datasheet.
    """

    name: Text
    bytes_per_s: Rate


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Disk:
    """A disk from which rows of a table may be read.

    Attributes:
        bytes_per_s: Of reads.
        latency_s: Of one read.
    """

    bytes_per_s: Annotated[float, Field(ge=1e6, lt=1e15)]
    latency_s: Annotated[float, Field(ge=0, le=10)]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Node:
    """The GPUs that reach one another without a network, and the links between them.

    Attributes:
        name: Such as "NVLink 4 through NVSwitch".
        kind: `nvlink`: through a switch, so that one GPU may use all its links with any other.
            `infinity_fabric`: one link to each of the others, without a switch, so that p GPUs use
            p - 1 of them. `pcie`: cards in the slots of a host. Which published times apply.
        gpus: In one node.
        bytes_per_s: All links of one GPU to the others together, in one direction.
        reduces: Whether the switch adds what passes through it (NVLink SHARP).
    """

    name: Text
    kind: LinkKind
    gpus: Annotated[int, Field(ge=2, le=2**16)]
    bytes_per_s: Rate
    reduces: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Network:
    """The network between nodes.

    Attributes:
        name: Such as "InfiniBand NDR, one 400 Gb/s adapter a GPU".
        bytes_per_s: Of one GPU's share of the adapters, in one direction.
    """

    name: Text
    bytes_per_s: Rate
