"""The roofline bound: the time to move a step's bytes or do its FLOPs at a GPU's datasheet rates.

A GPU moves so many bytes per second from its memory (HBM) and does so many FLOPs per second. A step
must do both, at best at the same time, so at these rates the longer one bounds it. If that is
moving bytes, the step is memory-bound: decode with a small batch reads every weight for a few
tokens. If it is the FLOPs, the step is compute-bound: prefill uses each weight for many tokens.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from costmodel.layers.numbers import Number, larger

Bound: TypeAlias = Literal["memory", "compute"]

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
        peak_flops_per_s: Dense peak by the datasheet (32-bit accumulation) of the fastest format in
            which the weights can be multiplied. It prices all FLOPs, those of attention too,
            whatever the cache's format.
    """
    return larger(compulsory_bytes / hbm_bytes_per_s, model_flops / peak_flops_per_s)


def bound_by(
    compulsory_bytes: Number,
    model_flops: Number,
    hbm_bytes_per_s: Number,
    peak_flops_per_s: Number,
) -> Bound | NDArray[np.str_]:
    """Which of the two terms of `floor_s` is the longer; of equal ones, memory."""
    by_memory = compulsory_bytes / hbm_bytes_per_s >= model_flops / peak_flops_per_s
    if isinstance(by_memory, np.ndarray):
        return np.where(by_memory, "memory", "compute")
    return "memory" if by_memory else "compute"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """The two ceilings of a GPU's roofline; arrays over several GPUs."""

    hbm_bytes_per_s: Number
    peak_flops_per_s: Number  # dense, for the format of the weights
    peak_name: str = ""  # which of the datasheet's peaks that is

    def floor_s(self, compulsory_bytes: Number, model_flops: Number) -> Number:
        """The roofline bound of this work, in seconds."""
        return floor_s(compulsory_bytes, model_flops, self.hbm_bytes_per_s, self.peak_flops_per_s)

    def bound_by(self, compulsory_bytes: Number, model_flops: Number) -> Bound | NDArray[np.str_]:
        """Whether bandwidth or peak FLOPs limit this work."""
        return bound_by(compulsory_bytes, model_flops, self.hbm_bytes_per_s, self.peak_flops_per_s)
