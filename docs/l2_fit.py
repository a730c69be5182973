"""The two constants of predicted HBM traffic, fitted on leaves at random shapes, and their errors.

    python -m docs.l2_fit

A leaf was counted over many copies in one CUDA graph, which share their input. So a leaf's input
was last read one copy before, and its buffers are written again one copy later. The fit takes the
prompts: decode reads what it must. Its error is the mean of |ln(predicted / counted)| of the bytes
that a shape's leaves read. Left out: both ends of a model (their copies share one set of weights),
and in the fused backend's prompts the attention core and the product behind it, whose copies find
keys and values of their own in no cache.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import exp, log
from pathlib import Path
from statistics import fmean, median

from costmodel.backends.passes import Pass, passes_of
from costmodel.costs.hbm_traffic import Cache, region_traffic
from costmodel.costs.step import step_costs
from costmodel.inputs.workload import Backend
from costmodel.layers.site import expanded_paths
from costmodel.recordings.leaf_calibration import LeafPoint, load_leaf_calibration
from costmodel.recordings.measured import Spread

LEAVES = Path(__file__).parent.parent / "benchmarks" / "leaves"
BACKENDS: tuple[Backend, ...] = ("torch", "fused")
KEPT_MB = range(34, 49)
COLUMNS = (512, 768, 1024, 1536, 2048, 3072, 4096)
ENDS = ("embed", "final_norm", "lm_head")


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedLeaf:
    """A leaf of a shape: its passes, and the bytes that counters saw."""

    passes: tuple[Pass, ...]
    read: float
    written: float

    def predicted(self, cache_: Cache) -> tuple[float, float]:
        """Bytes that one of many copies reads and writes."""
        first, inner, shared = self.passes[0], 0.0, 0.0
        for each in self.passes:
            shared += max(0.0, float(each.read) - inner) if each is not first else float(each.read)
            inner += float(each.stored)
        around = shared + sum(
            float(each.required_read + each.stored - each.in_place) for each in self.passes
        )
        before = [  # the input was touched at the same place of the copy before
            Pass(operator=0, written=shared, required_read=max(first.footprint - shared, 0)),
            Pass(operator=0, required_read=max(around - float(first.footprint), 0)),
        ]
        moved = region_traffic(self.passes, before, cache_, around)
        return float(sum(each.read for each in moved)), float(sum(each.written for each in moved))


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedShape:
    """A shape of the calibration and its leaves."""

    backend: Backend
    family: str
    tokens: int
    prompt: bool
    leaves: tuple[CountedLeaf, ...]

    @property
    def counted_read(self) -> float:
        """Bytes that all leaves read."""
        return sum(leaf.read for leaf in self.leaves)

    @property
    def required_read(self) -> float:
        """Those of them that are read in any case."""
        return sum(float(each.required_read) for leaf in self.leaves for each in leaf.passes)

    def predicted_read(self, error: float) -> float:
        """The bytes that were predicted with an error of ln(predicted / counted)."""
        return self.counted_read * exp(error)

    def error(self, cache_: Cache) -> float:
        """ln(predicted / counted) of the bytes read."""
        return log(sum(leaf.predicted(cache_)[0] for leaf in self.leaves) / self.counted_read)


@cache
def counted() -> tuple[CountedShape, ...]:
    """All shapes whose bytes were counted."""
    return tuple(shape for backend in BACKENDS for shape in _shapes(backend))


def _shapes(backend: Backend) -> Iterator[CountedShape]:
    for shape in load_leaf_calibration(LEAVES / f"h200-leaves-{backend}.json").shapes:
        workload = replace(shape.workload.to_workload(), backend=backend)
        costs = step_costs(shape.model, workload.step())
        kernels = costs.kernels(backend)
        points = {point.path: point for point in shape.points}
        leaves = []
        for region in kernels.regions(costs.operators):
            path = next((path for path in expanded_paths(region.path) if path in points), None)
            cold = backend == "fused" and workload.context == 0 and path is not None
            if path is None or path.endswith(ENDS) or (cold and _reads_cold(path)):
                continue
            bytes_ = _bytes(points[path])
            if bytes_ is not None:
                passes = tuple(passes_of(region, kernels))
                leaves.append(CountedLeaf(passes=passes, read=bytes_[0], written=bytes_[1]))
        if leaves:
            yield CountedShape(
                backend=backend,
                family=shape.family,
                tokens=workload.batch * workload.new_tokens,
                prompt=workload.phase == "prefill",
                leaves=tuple(leaves),
            )


def _reads_cold(path: str) -> bool:
    return path.endswith(("attention.core", "attention.output"))


def _bytes(point: LeafPoint) -> tuple[float, float] | None:
    reading = point.readings.get("counters")
    if reading is None:
        return None
    read, written = reading.hbm_read_bytes, reading.hbm_written_bytes
    if not isinstance(read, Spread) or not isinstance(written, Spread):
        return None
    return read.median, written.median


def fitted(shapes: Sequence[CountedShape]) -> Cache:
    """The cache that predicts the prompts among these shapes best."""
    prompts = [shape for shape in shapes if shape.prompt]
    caches = [Cache(kept_bytes=mb * 1e6, columns=n) for mb in KEPT_MB for n in COLUMNS]
    return min(caches, key=lambda each: fmean(abs(shape.error(each)) for shape in prompts))


def left_out(shapes: Sequence[CountedShape]) -> dict[CountedShape, float]:
    """The error of each shape by the constants of the others; both backends have the same."""
    errors: dict[CountedShape, float] = {}
    for family, tokens in dict.fromkeys((shape.family, shape.tokens) for shape in shapes):
        mine = [s for s in shapes if (s.family, s.tokens) == (family, tokens)]
        others = fitted([s for s in shapes if (s.family, s.tokens) != (family, tokens)])
        errors |= {shape: shape.error(others) for shape in mine}
    return errors


def main() -> None:
    """Print the constants, and the errors of shapes that were left out."""
    shapes = counted()
    best = fitted(shapes)
    write = sys.stdout.write
    write(f"C = {best.kept_bytes / 1e6:.0f} MB, G = {best.columns:.0f} columns\n")
    errors = left_out(shapes)
    for prompt in (False, True):
        chosen = [shape for shape in shapes if shape.prompt is prompt]
        shares = [abs(exp(errors[shape]) - 1) for shape in chosen]
        name = "prompts" if prompt else "decode"
        write(
            f"{name}: {len(chosen)} shapes, median {median(shares):.2%}, worst {max(shares):.1%}\n"
        )
        for shape in sorted(chosen, key=lambda each: -abs(errors[each])):
            write(
                f"  {exp(errors[shape]) - 1:+.2%} {shape.backend} {shape.tokens} {shape.family}\n"
            )


if __name__ == "__main__":
    main()
