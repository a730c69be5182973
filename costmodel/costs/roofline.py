"""The floor time: no implementation is faster than its bytes or its FLOPs allow."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from costmodel.layers.numbers import Number, larger

Bound: TypeAlias = Literal["memory", "compute"]

NO_CACHE_MODEL = "not predicted (needs a cache model; hbm_bytes.compulsory is the lower bound)"


def floor_s(
    compulsory_bytes: Number,
    useful_flops: Number,
    hbm_bytes_per_s: Number,
    peak_flops_per_s: Number,
) -> Number:
    """max(compulsory bytes / datasheet bandwidth, useful FLOPs / datasheet dense peak), seconds.

    A bound, not a prediction. Leaves out launches, latency, tile padding and traffic beyond
    compulsory. All FLOPs are priced at the dense peak (32-bit accumulation) of the fastest format
    in which the weights can be multiplied, attention among them, whatever the cache's format.
    Source: the roofline model, Williams et al., CACM 52(4), 2009.
    """
    return larger(compulsory_bytes / hbm_bytes_per_s, useful_flops / peak_flops_per_s)


def bound_by(
    compulsory_bytes: Number,
    useful_flops: Number,
    hbm_bytes_per_s: Number,
    peak_flops_per_s: Number,
) -> Bound | NDArray[np.str_]:
    """Which of the two terms of `floor_s` is the longer."""
    by_memory = compulsory_bytes / hbm_bytes_per_s >= useful_flops / peak_flops_per_s
    if isinstance(by_memory, np.ndarray):
        return np.where(by_memory, "memory", "compute")
    return "memory" if by_memory else "compute"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """What bounds a step on a GPU, or arrays of it over several GPUs."""

    hbm_bytes_per_s: Number
    peak_flops_per_s: Number  # dense, for the weights' format
    peak_name: str = ""  # which of the datasheet's peaks that is

    def floor_s(self, compulsory_bytes: Number, model_flops: Number) -> Number:
        """The roofline bound of this work, in seconds."""
        return floor_s(compulsory_bytes, model_flops, self.hbm_bytes_per_s, self.peak_flops_per_s)

    def bound_by(self, compulsory_bytes: Number, model_flops: Number) -> Bound | NDArray[np.str_]:
        """Which of bandwidth and peak bounds this work."""
        return bound_by(compulsory_bytes, model_flops, self.hbm_bytes_per_s, self.peak_flops_per_s)
