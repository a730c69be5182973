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

Source of C and G: the leaves at random shapes of `benchmarks/leaves`, counted on an H200, and
nothing else; `python -m docs.l2_fit` fits them again. Of a shape left out of the fit, the bytes
read are 4.6 % off in the median of 16 prompts (worst 38 %, where cuBLAS reads a weight twice) and
0.2 % in decode (38 shapes, worst 10 %: which experts few tokens drew). On other GPUs C is the same
share of the L2 that they state, which nobody has measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Literal

from costmodel.backends.passes import Pass, passes_of
from costmodel.backends.step_kernels import StepKernels
from costmodel.layers.kernel_shape import Gemm, Rows
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator

L2_SHARE = 0.636
"""C over the L2 that the GPU states: 40 of 62.9 MB on an H200."""
COLUMNS = 2048
"""G, columns of a weight."""
BLUR = 1.125
OF_READ, OF_DROPPED = 0.05, 0.2  # terms of the interval


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
class Moved:
    """Bytes that one pass moves, by cause."""

    of: Pass
    dropped_read: Number  # written by earlier passes, and not found in L2
    again_read: Number  # read more than once by the pass itself
    dropped_written: Number  # activations that do not stay in L2
    spilled: Number  # of the pass itself, written and read back

    @property
    def read(self) -> Number:
        """All bytes from HBM."""
        return self.of.required_read + self.dropped_read + self.again_read + self.spilled

    @property
    def written(self) -> Number:
        """All bytes to HBM."""
        return self.of.required_written + self.dropped_written + self.spilled


@dataclass(frozen=True, slots=True, kw_only=True)
class HbmTraffic:
    """Predicted bytes of a step, by cause, and of one layer of each of its operators."""

    cache: Cache
    required_read: float  # each byte once
    required_written: float
    dropped_read: float
    again_read: float
    dropped_written: float
    spilled: float
    operators: tuple[tuple[float, float], ...]  # read and written, in the order of the operators

    @property
    def read(self) -> float:
        """What the step reads from HBM."""
        return self.required_read + self.dropped_read + self.again_read + self.spilled

    @property
    def written(self) -> float:
        """What the step writes to HBM."""
        return self.required_written + self.dropped_written + self.spilled

    @property
    def read_interval(self) -> tuple[float, float]:
        """The interval of 90 % about the bytes read.

        Half of it is 5 % of the bytes (which experts and rows are drawn, workspaces) and 20 % of
        those that are not required (L2). Source: the two terms hold 49 of 54 counted shapes, each
        predicted by constants fitted on the others, and with 24 measured later 71 of 78
        (docs/l2_fit.py). Bytes written have no
        interval: whether small outputs stay in L2 is known to a factor 2 only.
        """
        half = OF_READ * self.read + OF_DROPPED * (self.read - self.required_read)
        return self.read - half, self.read + half

    def terms(self, which: Literal["read", "written"]) -> tuple[tuple[str, float, str], ...]:
        """The causes by name, with their bytes and what they are."""
        spilled = ("spilled", self.spilled, "bytes of partial results that kernels spill")
        if which == "written":
            return (
                ("required", self.required_written, "compulsory bytes that are written"),
                ("dropped", self.dropped_written, "bytes of activations that do not stay in L2"),
                spilled,
            )
        return (
            ("required", self.required_read, "compulsory bytes that are read"),
            ("dropped", self.dropped_read, "bytes of activations that L2 no longer holds"),
            ("again", self.again_read, "bytes that a kernel reads more than once"),
            spilled,
        )


def unknown_traffic(operators: Sequence[Operator]) -> HbmTraffic:
    """Of a step whose distinct rows or experts are not known: NaN throughout. Source: none."""
    return _traffic(Cache(kept_bytes=nan), [nan] * 6, [(nan, nan)] * len(operators))


def _traffic(
    cache: Cache, causes: Sequence[float], operators: Sequence[tuple[float, float]]
) -> HbmTraffic:
    """By the causes in the order of `HbmTraffic`."""
    required_read, required_written, dropped_read, again_read, dropped_written, spilled = causes
    return HbmTraffic(
        cache=cache,
        required_read=required_read,
        required_written=required_written,
        dropped_read=dropped_read,
        again_read=again_read,
        dropped_written=dropped_written,
        spilled=spilled,
        operators=tuple(operators),
    )


def hbm_traffic(
    operators: Sequence[Operator], kernels: StepKernels, l2_bytes: int, *, share: float = L2_SHARE
) -> HbmTraffic:
    """What a step reads from HBM and writes there.

    The first layer finds in L2 what the last one left, as in a step after a step. Rows of a table
    that layers share are read by each layer: L2 is too small to keep them.
    Source: reuse distances in one store of C bytes, as the head of this file says.

    Args:
        operators: Of the step; a single one, not a grid.
        kernels: That do it, of a backend that does not refuse it.
        l2_bytes: Of the GPU, as its file states.
        share: Of L2 that keeps what will be read again.
    """
    cache = Cache(kept_bytes=share * l2_bytes)
    regions = [(region, tuple(passes_of(region, kernels))) for region in kernels.regions(operators)]
    history = [each for region, passes in regions if region.layers for each in passes]
    layers = 1 + max((layer for region, _ in regions for layer in region.layers), default=0)
    layer_bytes = sum(
        region.count * each.footprint
        for region, passes in regions
        if region.layers
        for each in passes
    )
    sums = {operator.path: [0.0, 0.0] for operator in operators}
    causes = [0.0] * 6
    for region, passes in regions:
        for moved in region_traffic(passes, history, cache, layer_bytes / layers):
            of = sums[region.operators[moved.of.operator].path]
            of[0] += region.count * float(moved.read)
            of[1] += region.count * float(moved.written)
            for place, value in enumerate(
                (
                    moved.of.required_read,
                    moved.of.required_written,
                    moved.dropped_read,
                    moved.again_read,
                    moved.dropped_written,
                    moved.spilled,
                )
            ):
                causes[place] += region.count * float(value)
    by_layer = [
        (sums[operator.path][0] / operator.count, sums[operator.path][1] / operator.count)
        for operator in operators
    ]
    return _traffic(cache, causes, by_layer)


def region_traffic(
    passes: Sequence[Pass], history: list[Pass], cache: Cache, rewritten_after: Number
) -> list[Moved]:
    """What each pass reads from HBM, and what it writes there.

    Source: reuse distances, as the head of this file says.

    Args:
        passes: Of one layer of a region, in order.
        history: Earlier ones, whose results they may read; gets these.
        cache: L2.
        rewritten_after: Bytes that are touched until a buffer is written again: of a layer.
    """
    dropped = cache.missed(rewritten_after, rewritten_after)
    moved = []
    for each in passes:
        own = cache.missed(each.footprint, each.footprint)
        moved.append(
            Moved(
                of=each,
                dropped_read=_dropped_bytes(each, history, cache),
                again_read=_again(each, cache) + own * each.repeated,
                dropped_written=dropped * each.written,
                spilled=own * each.spilled,
            )
        )
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
