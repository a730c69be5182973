"""Predicted HBM traffic of a step: compulsory bytes, and what L2 cannot keep between passes.

L2 is taken as one store of C bytes that drops what was not used for the longest time. A byte that a
pass reads is still there if fewer than C other bytes were touched since it was written: its reuse
distance. A pass sweeps over its operands from the beginning to the end, so a byte at the share x of
a tensor that the pass P wrote and the pass Q reads has the distance

    (1 - x) F(P) + the footprints between P and Q + x F(Q)

with F the footprint of a pass, in bytes. The share of x where that exceeds C is read from HBM.
A written byte goes to HBM unless its buffer is written again, a layer later, before L2 drops it.

A matrix product goes over groups of G columns of its weight. It reads its input once for each
group, from HBM if input, weights and outputs of a group exceed C. Rows of tables that are drawn
again are read again with the share of pairs of draws that lie further apart than C.

Left out: sets and sectors, write-backs that L2 makes early, kernels' workspaces, split products.

Source of C and G: least squares of ln(predicted / counted) of the bytes read, over the leaves at
random shapes of `benchmarks/leaves` and over nothing else (`python -m docs.l2_fit` computes them
again): see `L2_SHARE` and `COLUMNS`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from costmodel.backends.passes import Pass, passes_of
from costmodel.backends.step_kernels import Region, StepKernels
from costmodel.layers.kernel_shape import Gemm, Rows
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator

L2_SHARE = 0.636
"""C over the L2 that the GPU states: 40 of 62.9 MB on an H200."""
COLUMNS = 2048
"""G, columns of a weight."""
BLUR = 1.125


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """What stands between kernels and HBM."""

    kept_bytes: float  # C
    columns: float = COLUMNS  # G

    def missed(self, at_first: Number, at_last: Number) -> float:
        """The share of bytes whose reuse distance, from `at_first` to `at_last`, exceeds C.

        Distances are blurred by an eighth, so that a tensor is not dropped at one byte more.
        """
        low, high = min(at_first, at_last), max(at_first, at_last)
        high = max(high, low * BLUR)
        if low >= self.kept_bytes:
            return 1.0
        if high <= self.kept_bytes:
            return 0.0
        return float((high - self.kept_bytes) / (high - low))


@dataclass(frozen=True, slots=True, kw_only=True)
class HbmTraffic:
    """Predicted bytes of a step, and of one layer of each of its operators."""

    read: float
    written: float
    operators: tuple[tuple[float, float], ...]  # read and written, in the order of the operators


def hbm_traffic(
    operators: Sequence[Operator], kernels: StepKernels, l2_bytes: int, *, share: float = L2_SHARE
) -> HbmTraffic:
    """What a step reads from HBM and writes there.

    The first layer finds in L2 what the last one left, as in a step after a step. Rows that layers
    read of a shared table are those of the union, as in the step's compulsory bytes.

    Args:
        operators: Of the step; a single one, not a grid.
        kernels: That do it, of a backend that does not refuse it.
        l2_bytes: Of the GPU, as its file states.
        share: Of L2 that keeps what will be read again.
    """
    cache = Cache(kept_bytes=share * l2_bytes)
    regions = [
        (region, tuple(passes_of(region, kernels))) for region in kernels.regions(operators)
    ]
    layers = 1 + max((layer for region, _ in regions for layer in region.layers), default=0)
    in_layers = [(region.count, each) for region, passes in regions if region.layers for each in passes]
    layer_bytes = sum(count * each.footprint for count, each in in_layers) / layers
    before = [each for _, each in in_layers]
    sums = {operator.path: [0.0, 0.0] for operator in operators}
    for region, passes in regions:
        for each, read, written in region_traffic(passes, before, cache, layer_bytes):
            moved = sums[region.operators[each.operator].path]
            moved[0] += region.count * float(read)
            moved[1] += region.count * float(written)
        before.extend(passes)
    return HbmTraffic(
        read=sum(read for read, _ in sums.values()),
        written=sum(written for _, written in sums.values()),
        operators=tuple(
            (sums[operator.path][0] / operator.count, sums[operator.path][1] / operator.count)
            for operator in operators
        ),
    )


def region_traffic(
    passes: Sequence[Pass], before: Sequence[Pass], cache: Cache, rewritten_after: Number
) -> list[tuple[Pass, Number, Number]]:
    """Each pass with the bytes that it reads from HBM, and those that it writes there.

    Args:
        passes: Of one layer of a region, in order.
        before: Earlier ones, whose results they may read.
        cache: L2.
        rewritten_after: Bytes that are touched until a buffer is written again: of a layer.
    """
    history = list(before)
    dropped = cache.missed(rewritten_after, rewritten_after)
    moved = []
    for each in passes:
        own = cache.missed(each.footprint, each.footprint)
        read = (
            each.required_read
            + _dropped_bytes(each, history, cache)
            + _again(each, cache)
            + own * (each.repeated + each.spilled)
        )
        written = each.required_written + dropped * each.written + own * each.spilled
        moved.append((each, read, written))
        history.append(each)
    return moved


def _dropped_bytes(reader: Pass, history: Sequence[Pass], cache: Cache) -> Number:
    """What a pass reads of earlier ones and does not find in L2.

    It is taken for what was written last, whichever tensor that was.
    """
    missed: Number = 0
    between: Number = 0
    left = reader.read
    swept = reader.footprint
    for writer in reversed(history):
        if left <= 0:
            break
        there = min(left, writer.stored)
        if there:
            at_first, at_last = writer.footprint + between, between + swept
            missed = missed + there * cache.missed(at_first, at_last)
            left = left - there
        between = between + writer.footprint
        if between >= cache.kept_bytes:
            return missed + left
    return missed


def _again(each: Pass, cache: Cache) -> Number:
    """What a pass reads more than once from HBM."""
    if isinstance(each.shape, Gemm):
        groups = each.shape.n / cache.columns
        if groups <= 1:
            return 0
        weights_and_results = each.required_read + each.written + each.required_written
        held = each.read + weights_and_results / groups
        return (groups - 1) * each.read * cache.missed(held, held)
    if isinstance(each.shape, Rows):
        drawn = each.shape.reads * each.shape.row_bytes
        if drawn <= cache.kept_bytes:
            return 0
        apart = (1 - cache.kept_bytes / drawn) ** 2
        return max(drawn - each.required_read, 0) * apart
    return 0
