"""Loads of the busiest GPU, simulated: `python -m tests.routing.simulated_max_load` (minutes).

Writes max_load.csv beside this file. Tokens draw by the Gumbel noise of a router: the k experts
with the largest log-popularity plus noise, which is the law of `costmodel/routing/zipf.py`, uniform
at exponent 0. A token that chose an expert with copies takes any of them with equal probability. Of
the formulas that the table tests, this file uses none; where slots stand is tested by hand.
"""

import csv
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from costmodel.routing.placement import Placement, slots_of
from costmodel.routing.zipf import inclusion

TABLE = Path(__file__).with_name("max_load.csv")
COLUMNS = (
    *("exponent", "experts", "draws", "order", "gpus", "redundant", "tokens"),
    *("mean", "standard_error"),
)
POOL = 2**20  # tokens of a law
BATCH = 2**14
MOST_STEPS = 100_000
SEED = 20
TOKENS = (1, 2, 4, 16, 64, 256, 1024, 4096)
TOKENS_OF_ZIPF = (1, 4, 16, 64, 256, 4096)

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Law:
    """How tokens choose, and which placements are simulated with it."""

    exponent: float
    experts: int
    draws: int

    def placements(self) -> Iterator[Placement]:
        if self.exponent == 0:
            for gpus in (2, 4, 8, 16, 32, 64):
                yield Placement(gpus=gpus)
            yield Placement(gpus=64, redundant=64)
            return
        for gpus, redundant in ((2, 0), (8, 0), (64, 0), (64, 64)):
            yield Placement(gpus=gpus, redundant=redundant)
            yield Placement(gpus=gpus, redundant=redundant, order="spread")


LAWS = [Law(0.0, experts, draws) for experts in (64, 256) for draws in (1, 2, 4, 8)] + [
    Law(exponent, experts, draws)
    for exponent in (0.5, 1.0, 2.0)
    for experts in (64, 256)
    for draws in (1, 8)
]


def choices(law: Law, rng: np.random.Generator) -> Ints:
    """(POOL, draws): the experts that each token chooses, by rank from 0."""
    log_weights = (-law.exponent * np.log(np.arange(1, law.experts + 1))).astype(np.float32)
    drawn = []
    for _ in range(POOL // BATCH):
        noise = rng.exponential(size=(BATCH, law.experts)).astype(np.float32)
        worst_first = np.log(noise) - log_weights  # minus Gumbel noise minus log-weight
        drawn.append(np.argpartition(worst_first, law.draws - 1, axis=1)[:, : law.draws])
    return np.concatenate(drawn)


def gpus_of(
    chosen: Ints, popularity: NDArray[np.float64], at: Placement, rng: np.random.Generator
) -> Ints:
    """The GPU that each choice goes to."""
    slots = slots_of(popularity, at)
    of_slot = np.repeat(np.arange(at.gpus), slots.experts.shape[1])
    by_expert = of_slot[np.argsort(slots.experts.ravel(), kind="stable")]
    copies = np.bincount(slots.experts.ravel())
    first = np.cumsum(copies) - copies
    copy = (rng.random(chosen.shape) * copies[chosen]).astype(np.int64)
    return np.asarray(by_expert[first[chosen] + copy])


def busiest(gpus: Ints, tokens: int, num_gpus: int) -> Ints:
    """The load of the busiest GPU in each step of so many tokens."""
    steps = min(len(gpus) // tokens, MOST_STEPS)
    of_step = gpus[: steps * tokens].reshape(steps, -1) + num_gpus * np.arange(steps)[:, np.newaxis]
    loads = np.bincount(of_step.ravel(), minlength=steps * num_gpus).reshape(steps, num_gpus)
    return np.asarray(loads.max(axis=1))


def main() -> None:
    rng = np.random.default_rng(SEED)
    with TABLE.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for law in LAWS:
            started = time.perf_counter()
            chosen = choices(law, rng)
            popularity = inclusion(
                law.experts, law.draws, law.exponent, head=law.experts
            ).probability
            for at in law.placements():
                gpus = gpus_of(chosen, popularity, at, rng)
                for tokens in TOKENS_OF_ZIPF if law.exponent else TOKENS:
                    most = busiest(gpus, tokens, at.gpus)
                    error = most.std(ddof=1) / len(most) ** 0.5
                    condition = (law.exponent, law.experts, law.draws, at.order, at.gpus)
                    numbers = (f"{most.mean():.7g}", f"{error:.2g}")
                    table.writerow([*condition, at.redundant, tokens, *numbers])
            print(law, f"{time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
