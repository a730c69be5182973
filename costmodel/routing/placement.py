"""Which experts stand on which of several GPUs, with copies of the most popular ones."""

import heapq
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from costmodel.errors import InputError
from costmodel.routing.expectation import Floats

Order = Literal["consecutive", "spread"]

KEPT_PLACEMENTS = 256  # each holds two whole numbers a slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How E experts stand on G GPUs: in (E + R) / G slots on each.

    Redundant slots hold copies: one after the other goes to the expert with the most tokens a copy,
    which has no more copies than there are GPUs. A token that chose an expert takes any of its
    copies with equal probability.

    `consecutive` fills the GPUs with the experts in order of popularity and then with the copies in
    the same order. It is the worst order, the one before anything is balanced. `spread` deals the
    slots out, that with the most tokens first, each to the GPU with the fewest tokens that has a
    slot left, as load balancers do.

    Leaves out: that a balancer knows the popularity of the past, not of the step.
    Source of `spread`: R. Graham, Bounds on multiprocessing timing anomalies, SIAM J. Appl. Math.
    17 (1969), longest processing time first.
    """

    gpus: int
    redundant: int = 0
    order: Order = "consecutive"

    def slots_per_gpu(self, experts: int) -> int:
        """(E + R) / G, which must be whole."""
        if self.gpus < 1:
            raise InputError(f"gpus={self.gpus}: must be at least 1")
        if not 0 <= self.redundant <= experts * (self.gpus - 1):
            raise InputError(
                f"redundant={self.redundant}: must lie between 0 and"
                f" {experts * (self.gpus - 1)}, a copy of each of {experts} experts on every GPU"
            )
        if (experts + self.redundant) % self.gpus:
            raise InputError(
                f"redundant={self.redundant}: {experts} experts and {self.redundant} copies do not"
                f" divide among {self.gpus} GPUs"
            )
        return (experts + self.redundant) // self.gpus


@dataclass(frozen=True, slots=True, eq=False)
class Slots:
    """The experts on each GPU."""

    experts: NDArray[np.int64]  # (gpus, slots): the rank of the expert in a slot, from 0
    copies: NDArray[np.int64]  # (gpus, slots): how many slots hold that expert, on all GPUs


def slots_of(popularity: Floats, placement: Placement) -> Slots:
    """Where experts of a popularity stand.

    Args:
        popularity: (experts,), the most popular first: the probability that a token chooses it.
        placement: The GPUs, copies and order.
    """
    return _slots_of(np.ascontiguousarray(popularity).tobytes(), placement)


@lru_cache(maxsize=KEPT_PLACEMENTS)
def _slots_of(popularity_bytes: bytes, placement: Placement) -> Slots:
    popularity = np.frombuffer(popularity_bytes)
    size = placement.slots_per_gpu(len(popularity))
    copies = _copies(popularity, placement)
    ranks = np.arange(len(popularity))
    if placement.order == "consecutive":
        experts = np.concatenate([ranks, np.repeat(ranks, copies - 1)])
        experts = experts.reshape(placement.gpus, size)
    else:
        experts = _spread(np.repeat(ranks, copies), popularity / copies, placement.gpus, size)
    slots = Slots(experts, copies[experts])
    for array in (slots.experts, slots.copies):
        array.flags.writeable = False
    return slots


def _copies(popularity: Floats, placement: Placement) -> NDArray[np.int64]:
    """How many slots hold each expert."""
    copies = np.ones(len(popularity), dtype=np.int64)
    share = popularity.copy()  # of the tokens, to one copy; negative where there may be no more
    for _ in range(placement.redundant):
        hottest = int(share.argmax())
        copies[hottest] += 1
        full = copies[hottest] == placement.gpus
        share[hottest] = -1.0 if full else popularity[hottest] / copies[hottest]
    return copies


def _spread(experts: NDArray[np.int64], shares: Floats, gpus: int, size: int) -> NDArray[np.int64]:
    """Longest processing time first: slots of `experts` dealt out to GPUs that hold `size` each."""
    held: list[list[int]] = [[] for _ in range(gpus)]
    by_load = [(0.0, gpu) for gpu in range(gpus)]  # a heap of the GPUs that have a slot left
    for expert in experts[np.argsort(-shares[experts], kind="stable")].tolist():
        load, gpu = heapq.heappop(by_load)
        held[gpu].append(expert)
        if len(held[gpu]) < size:
            heapq.heappush(by_load, (load + float(shares[expert]), gpu))
    return np.array(held, dtype=np.int64)
