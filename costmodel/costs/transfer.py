"""Times where no calibration has measured: of another GPU, and of formats other than bf16.

The measured leaves of a GPU are scaled by datasheets (`LeafTimes.scaled`): bytes/s by bandwidth of
HBM, FLOP/s by the dense peak at which the GPU multiplies the format, capacity of L2 by its size.
Bytes are those of the format. What no datasheet states stays as measured: launches, latencies, the
rate of L2, multiprocessors, the host's launches. Left out: kernels that another GPU has or lacks,
and work that widens a format.

Such a time is an estimate. Its interval holds the spread of the leaves and, besides, how far the
share of the roofline that one engine reaches differs between GPUs and between formats.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from math import hypot

from costmodel.costs.calibrations import shipped_leaves
from costmodel.costs.kernel_times import DTYPE, Curves, Transfer
from costmodel.costs.latency import Unknown
from costmodel.costs.leaf_times import LeafTimes
from costmodel.inputs.hardware import MULTIPLIED_AS, Hardware, load_hardware
from costmodel.inputs.workload import Workload

SAME_VENDOR = 0.30
"""Standard deviation of ln(time) from a Hopper GPU to another of NVIDIA's.

Source: shipped public measurements. One engine with one model, formats, layout, batch and lengths
on a Hopper GPU and on another: ln of the ratio of bound / measured, its root mean square over 416
pairs, each of 9 pairs of GPUs counting alike (`questions/published/share_spreads.py`).
"""
OTHER_VENDOR = 0.95
"""The same from a Hopper GPU to one of another vendor: 92 pairs, of 2 pairs of GPUs."""
OTHER_FORMAT = 0.46
"""The same between two formats of the weights on one GPU: 205 pairs, of 8 pairs of formats."""

VENDOR = "nvidia"  # of the GPUs that leaves were measured on


def for_step(curves: Curves | Unknown, hardware: Hardware, workload: Workload) -> Curves | Unknown:
    """Kernel times for the formats of a workload on this GPU: as measured, or transferred.

    Args:
        curves: Measured on this GPU, or on another one (`Curves.foreign`), or why there are none.
        hardware: Datasheet of this GPU.
        workload: Its formats.
    """
    if isinstance(curves, Unknown):
        return curves
    default, *others = (
        workload.fp32_math if dtype.name == "fp32" else dtype.name
        for dtype in (workload.formats.default, *workload.formats.dtypes, workload.kv_dtype)
    )
    if not curves.foreign and {default, *others} == {DTYPE}:
        return curves
    return _transferred(curves, hardware, default, tuple(dict.fromkeys(others)))


def transfer_of(
    curves: Curves | Unknown, hardware: Hardware, workload: Workload
) -> Transfer | None:
    """What is transferred of the times of a workload; None: they are measured, or unknown."""
    priced = for_step(curves, hardware, workload)
    return None if isinstance(priced, Unknown) else priced.transfer


@lru_cache(maxsize=256)
def _transferred(curves: Curves, hardware: Hardware, default: str, others: Sequence[str]) -> Curves:
    """Kernel times scaled from the leaves of these curves, or where they have none, from shipped.

    Where none are shipped the curves are as they were, and price bf16 alone.
    """
    source = curves if curves.leaves else shipped_leaves()
    if source is None:
        return curves
    measured_on = source.calibration.hardware
    foreign = curves.foreign or measured_on != curves.calibration.hardware
    of = load_hardware(measured_on) if foreign else hardware
    formats = {default, *others} != {DTYPE}
    return replace(
        curves,
        leaves={
            backend: _scaled(leaves, of, hardware, default, others)
            for backend, leaves in source.leaves.items()
        },
        foreign=foreign,
        transfer=Transfer(
            source=measured_on,
            gpu=foreign,
            formats=formats,
            spread=hypot(_between(hardware) * foreign, OTHER_FORMAT * formats),
        ),
    )


def _scaled(
    leaves: LeafTimes, of: Hardware, to: Hardware, default: str, others: Sequence[str]
) -> LeafTimes:
    """Leaf times measured in bf16 on one GPU as those of formats on another."""

    def at(dtype: str) -> LeafTimes:
        return leaves.scaled(
            bandwidth=to.hbm_bytes_per_s / of.hbm_bytes_per_s,
            flops=multiplied_flops_per_s(to, dtype) / of.dense_peak_flops_per_s.bf16,
            l2=to.l2_bytes / of.l2_bytes,
        )

    return replace(at(default), formats={name: at(name).parameters for name in others})


def multiplied_flops_per_s(hardware: Hardware, dtype: str) -> float:
    """The dense peak at which kernels multiply what is stored in a format, FLOP/s.

    That of the format where the GPU has one; else weights are widened to bf16. Integers of fewer
    than 8 bits are widened, also where a bound takes 8-bit units (`Hardware.peak_flops_per_s`).
    """
    return hardware.peak_flops_per_s(DTYPE if DTYPE in MULTIPLIED_AS[dtype] else dtype)[0]


def _between(hardware: Hardware) -> float:
    """The standard deviation for a GPU by its name; a name that states no vendor has the wider."""
    return SAME_VENDOR if VENDOR in hardware.name.lower().split() else OTHER_VENDOR
