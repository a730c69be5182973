"""Latencies and shares of bandwidth that collectives reach, from published measurements of others.

None of these was measured by this project. A time is the shortest over the ways that an estimate
lists: a latency, and then a share of the datasheet's bandwidth. The low estimate is a little below
the fastest kernel that was published, the typical one is near the kernels that engines use, and the
high one is above NCCL or RCCL out of the box. `docs/published_collectives.csv` has the points,
their sources, and which of them chose these numbers; `docs/collectives.md` sets them side by side.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from costmodel.inputs.links import LinkKind

NOT_MEASURED = "from published measurements of others; not measured by this project"


@dataclass(frozen=True, slots=True)
class Way:
    """One way to do a collective inside a node: a kernel or a protocol."""

    latency_s: float  # launch in a graph, synchronisation, first bytes
    share: float  # of the node's datasheet bandwidth


@dataclass(frozen=True, slots=True)
class NetworkRates:
    """What a collective between nodes takes beyond that inside them."""

    latency_s: float  # once
    hop_s: float  # for each exchange of a tree between nodes
    share: float  # of the adapters' bandwidth


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One estimate of the time, for one kind of link in the node."""

    ways: tuple[Way, ...]
    adding: tuple[Way, ...] = ()  # of an all-reduce whose switch adds
    network: NetworkRates
    overlaps: bool = True  # transfers inside nodes and between them


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEstimates:
    """The three estimates of one kind of link, and what they are from."""

    low: Estimate
    typical: Estimate
    high: Estimate
    source: str


# NCCL's authors expect 48 of the 50 GB/s of a 400 Gb/s adapter (nccl-tests issue 319). DeepEP's
# low-latency kernels fit 12 us and 0.8 from 16 to 64 GPUs (its docs/legacy.md). NCCL's own model
# has 5 us a hop of a tree (src/graph/tuning.cc). Two nodes of H20s took 47 to 122 us up to 1 MiB
# (nccl issue 1244). NCCL's all-to-all over two racks of GB300s reached 0.24, by Oracle's page.
_FAST_NETWORK = NetworkRates(2e-6, 2e-6, 0.96)
_NETWORK = NetworkRates(2e-6, 5e-6, 0.8)
_SLOW_NETWORK = NetworkRates(60e-6, 15e-6, 0.22)

RATES: Mapping[LinkKind, LinkEstimates] = {
    "nvlink": LinkEstimates(
        low=Estimate(
            ways=(Way(3e-6, 0.9),),
            adding=(Way(3e-6, 0.75),),
            network=_FAST_NETWORK,
        ),
        typical=Estimate(
            ways=(Way(10e-6, 0.75),),
            adding=(Way(10e-6, 0.6),),
            network=_NETWORK,
        ),
        high=Estimate(
            ways=(Way(30e-6, 0.3), Way(75e-6, 0.6)),
            adding=(Way(30e-6, 0.3),),
            network=_SLOW_NETWORK,
            overlaps=False,
        ),
        source="H100: kernels of SGLang and vLLM (github.com/sgl-project/sglang/pull/2904), NCCL"
        " (github.com/ByteDance-Seed/Triton-distributed/issues/57,"
        " github.com/NVIDIA/nccl-tests/issues/212); H800: github.com/deepseek-ai/DeepEP,"
        " docs/legacy.md; GB200: NCCL (github.com/Azure/AI-benchmarking-guide,"
        " github.com/coreweave/nccl-tests/pull/43)",
    ),
    "infinity_fabric": LinkEstimates(
        low=Estimate(ways=(Way(3e-6, 0.8),), network=_FAST_NETWORK),
        typical=Estimate(ways=(Way(14e-6, 0.68),), network=_NETWORK),
        high=Estimate(
            ways=(Way(30e-6, 0.3), Way(75e-6, 0.55)), network=_SLOW_NETWORK, overlaps=False
        ),
        source="MI300X: RCCL on 8 GPUs (github.com/hisohara/ai-scripts,"
        " training/01_rccl-smoketest); AMD says that 48 of 64 GB/s of a link can be used"
        " (rocm.blogs.amd.com, mi300x-rccl-xgmi)",
    ),
    "pcie": LinkEstimates(
        low=Estimate(ways=(Way(6e-6, 0.85),), network=_FAST_NETWORK),
        typical=Estimate(ways=(Way(25e-6, 0.5),), network=_NETWORK),
        high=Estimate(ways=(Way(60e-6, 0.15),), network=_SLOW_NETWORK, overlaps=False),
        source="RTX 4090: NCCL on 4 cards that reach one another"
        " (github.com/tinygrad/open-gpu-kernel-modules/issues/36) and the latency of 8"
        " (github.com/NVIDIA/nccl/issues/1530); the low share of 8 cards is not confirmed",
    ),
}
