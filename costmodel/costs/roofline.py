"""The roofline bound: the time to move a step's bytes or do its FLOPs at a GPU's datasheet rates.

A GPU moves so many bytes per second from its memory (HBM) and does so many FLOPs per second. A step
must do both, at best at the same time, so at these rates the longer one bounds it. If that is
moving bytes, the step is memory-bound: decode with a small batch reads every weight for a few
tokens. If it is the FLOPs, the step is compute-bound: prefill uses each weight for many tokens.
Datasheets state peaks at boost clock, of products that are added up in 32 bits. A kernel that adds
in 16 bits, where a GPU does that faster, or that stores the operands in fewer bits is outside it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from costmodel.layers.numbers import Number, larger
from costmodel.layers.operator import Operator, Traffic

Bound: TypeAlias = Literal["memory", "compute", "link", "disk", "exchange"]

NOTHING = 0  # most parts fetch no rows

PROMISE = (
    "at datasheet bandwidth and peak (boost clock, FP32 accumulation), from a cold L2, no kernel of"
    " the same arithmetic is faster"
)
"""What the bound promises, as tables, pages and docs say it."""


def floor_s(
    compulsory_bytes: Number,
    model_flops: Number,
    hbm_bytes_per_s: Number,
    peak_flops_per_s: Number,
) -> Number:
    """max(compulsory bytes / datasheet bandwidth, model FLOPs / datasheet dense peak), seconds.

    A bound, not a prediction: at these rates, from a cold L2, no kernel of the same arithmetic is
    faster. Datasheet peaks are those at boost clock and with FP32 accumulation.
    Leaves out launches, latency, tile padding and traffic beyond the compulsory bytes.
    Source: the roofline model, Williams et al., CACM 52(4), 2009.

    Args:
        compulsory_bytes: What must move through HBM, each byte once.
        model_flops: What the model's mathematics asks for, a multiply-add being 2.
        hbm_bytes_per_s: Bandwidth by the datasheet.
        peak_flops_per_s: Dense peak by the datasheet (at boost clock, 32-bit accumulation) of the
            fastest format in which what is stored can be multiplied. Where operators differ in
            that, `model_flops` are those of `Ceilings.at_peak`.
    """
    return larger(compulsory_bytes / hbm_bytes_per_s, model_flops / peak_flops_per_s)


def bound_by(
    compulsory_bytes: Number,
    model_flops: Number,
    hbm_bytes_per_s: Number,
    peak_flops_per_s: Number,
) -> Bound | NDArray[np.str_]:
    """Which of the two terms of `floor_s` is the longer; of equal ones, memory.

    Of tables outside HBM, link and disk are two more: `Ceilings.bound_by`.
    """
    by_memory = compulsory_bytes / hbm_bytes_per_s >= model_flops / peak_flops_per_s
    if isinstance(by_memory, np.ndarray):
        return np.where(by_memory, "memory", "compute")
    return "memory" if by_memory else "compute"


class FarBytes(NamedTuple):
    """Bytes of tables outside HBM: all that cross the link to the host, and those from a disk."""

    link: Number
    disk: Number


NEAR = FarBytes(0, 0)


def far_bytes(work: Traffic) -> FarBytes:
    """Of a part or a step. Rows from a disk reach the GPU through host memory, over the link."""
    if work.fetched_bytes is NOTHING:
        return NEAR
    return FarBytes(work.link_bytes, work.disk_bytes)


class Peak(NamedTuple):
    """A dense peak of the matrix units, and its name in the datasheet."""

    flops_per_s: Number
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """The ceilings of a GPU's roofline for the formats of a workload; arrays over several GPUs.

    The products of an operator run at the peak of the format in which its weights are stored, those
    of attention at that of the cache's format. The other operand, an activation, may be converted
    to that format, so that no kernel which keeps what is stored as it is multiplies faster. Work
    that is no matrix product is priced at the same peaks, which the vector units do not reach.
    """

    hbm_bytes_per_s: Number
    peak_flops_per_s: Number  # dense, for the default format of the weights
    peak_name: str = ""  # which of the datasheet's peaks that is
    other_peaks: Mapping[str, Peak] = field(default_factory=dict)  # by the names of other formats
    link_bytes_per_s: Number | None = None  # to host memory; None: no table stands there
    disk_bytes_per_s: Number | None = None
    disk_latency_s: Number = 0.0

    def floor_s(self, compulsory_bytes: Number, flops: Number, far: FarBytes = NEAR) -> Number:
        """The roofline bound of this work, in seconds; `flops` as `at_peak` gives them.

        With tables outside HBM: the longest of HBM, FLOPs, link and disk, which work at the same
        time at best.
        """
        near_s = floor_s(compulsory_bytes, flops, self.hbm_bytes_per_s, self.peak_flops_per_s)
        if far is NEAR:
            return near_s
        longest = near_s
        for far_s in self.far_s(far).values():
            longest = larger(longest, far_s) + 0 * far_s  # what is not known of one is not of all
        return longest

    def bound_by(
        self, compulsory_bytes: Number, flops: Number, far: FarBytes = NEAR
    ) -> Bound | NDArray[np.str_]:
        """What limits this work: HBM, peak FLOPs, link or disk; of equal ones, the first."""
        named = bound_by(compulsory_bytes, flops, self.hbm_bytes_per_s, self.peak_flops_per_s)
        if far is NEAR:
            return named
        longest = floor_s(compulsory_bytes, flops, self.hbm_bytes_per_s, self.peak_flops_per_s)
        for name, far_s in self.far_s(far).items():
            named = renamed(named, name, far_s > longest)
            longest = larger(longest, far_s)
        return named

    def far_s(self, far: FarBytes) -> dict[Bound, Number]:
        """Seconds that link and disk take at the least, by the name of the bound.

        Formulas: bytes / rate of the link by datasheet; latency of one read + bytes / rate of the
        disk. A link's latency is in no datasheet, and so in no bound.
        """
        terms: dict[Bound, Number] = {}
        if self.link_bytes_per_s is not None:
            terms["link"] = far.link / self.link_bytes_per_s
        if self.disk_bytes_per_s is not None:
            reads = far.disk > 0
            terms["disk"] = reads * self.disk_latency_s + far.disk / self.disk_bytes_per_s
        return terms

    def at_peak(self, operators: Iterable[Operator], flops: Number) -> Number:
        """The FLOPs that take as long at `peak_flops_per_s` as these operators at their own peaks.

        Where an operator's format has another peak, its FLOPs count peak_flops_per_s over that
        peak. The sum over operators of FLOPs / own peak is a bound, since operators share the
        matrix units.

        Args:
            operators: Of the step.
            flops: The sum of their FLOPs, over all layers.
        """
        if not self.other_peaks:
            return flops
        total = flops
        for operator in operators:
            if operator.computes_in is not None:
                own = operator.count * operator.total("flops")
                total = total + own * (self._ratio(operator) - 1)
        return total

    def of_one(self, operator: Operator) -> Number:
        """`at_peak` of one of an operator's layers."""
        flops = operator.total("flops")
        return flops if operator.computes_in is None else flops * self._ratio(operator)

    def peak_of(self, operator: Operator) -> Peak:
        """The peak at which an operator's products are priced."""
        if operator.computes_in is None:
            return Peak(self.peak_flops_per_s, self.peak_name)
        return self.other_peaks[operator.computes_in.name]

    @property
    def peak_names(self) -> tuple[str, ...]:
        """All peaks of the datasheet that price something, that of the default format first."""
        return tuple(
            dict.fromkeys((self.peak_name, *(peak.name for peak in self.other_peaks.values())))
        )

    def of_operator(self, operator: Operator) -> tuple[Number, Number, FarBytes]:
        """What bounds one of an operator's layers: bytes of HBM, FLOPs at the peak, far bytes.

        Rows that are known before the step may be fetched ahead: they bound the step alone.
        """
        far = NEAR
        for part in operator.parts:
            if part.fetched_bytes is not NOTHING and not part.early:
                link, disk = far_bytes(part)
                far = FarBytes(far.link + link, far.disk + disk)
        return operator.compulsory_bytes, self.of_one(operator), far

    def _ratio(self, operator: Operator) -> Number:
        return self.peak_flops_per_s / self.peak_of(operator).flops_per_s


def renamed(
    named: Bound | NDArray[np.str_], name: Bound, where: "bool | np.bool_ | NDArray[np.bool_]"
) -> Bound | NDArray[np.str_]:
    """The names of bounds, with another one where it is longer than these."""
    if isinstance(where, np.ndarray) or isinstance(named, np.ndarray):
        return np.where(where, name, named)
    return name if where else named
