"""Quantities that say how well a step uses its GPU, and what its routing leaves cost.

Measured ones come from a recording, and those of a prediction stand beside them. The time is that
of the CUDA graph, or of the eager step where no graph was measured.
"""

from costmodel.costs.quantities.quantity import Quantity

_MEASURED = "costmodel.validation.utilisation:measured_utilisation"

UTILISATION_QUANTITIES: dict[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        Quantity(
            name="tokens_per_s",
            label="step throughput",
            unit="tokens_per_s",
            counts="new tokens of all sequences / time",
            formula=_MEASURED,
        ),
        Quantity(
            name="hbm_bytes_per_s",
            label="HBM bandwidth",
            unit="bytes_per_s",
            counts="HBM bytes read and written, counted in a run of their own / time",
            formula=_MEASURED,
        ),
        Quantity(
            name="mbu",
            label="MBU",
            unit="share",
            counts="compulsory bytes of the experts and rows that were touched / time / datasheet"
            " bandwidth",
            formula=_MEASURED,
        ),
        Quantity(
            name="flops_per_s",
            label="FLOP rate",
            unit="flops_per_s",
            counts="model FLOPs / time",
            formula=_MEASURED,
        ),
        Quantity(
            name="mfu",
            label="MFU",
            unit="share",
            counts="model FLOPs / time / datasheet dense peak",
            formula=_MEASURED,
        ),
        Quantity(
            name="routing_kernel_s",
            label="kernel time of routing leaves",
            unit="s",
            counts="kernels of the leaves that do nothing but choose experts or rows",
            leaves_out="what expert and row leaves do to sort, permute and combine",
            formula=_MEASURED,
        ),
        Quantity(
            name="routing_share",
            label="routing share of kernel time",
            unit="share",
            counts="that time / time of all kernels",
            leaves_out="what expert and row leaves do to sort, permute and combine",
            formula=_MEASURED,
        ),
        Quantity(
            name="routing_launches",
            label="launches of routing leaves",
            unit="count",
            counts="kernels of these leaves",
            formula=_MEASURED,
        ),
        Quantity(
            name="routing_hbm_bytes",
            label="HBM bytes of routing leaves",
            unit="bytes",
            counts="read and written by these leaves; of a prediction the compulsory bytes",
            formula=_MEASURED,
        ),
        Quantity(
            name="routing_flops",
            label="counted FLOPs of routing leaves",
            unit="flops",
            counts="what a FLOP counter sees in these leaves",
            formula=_MEASURED,
        ),
        Quantity(
            name="leaves_read_bytes",
            label="HBM bytes read by all leaves",
            unit="bytes",
            counts="the reads of all leaves, each measured by itself",
            formula=_MEASURED,
        ),
        Quantity(
            name="leaves_over_step",
            label="reads of leaves over reads of the step",
            unit="ratio",
            counts="HBM bytes read, summed over leaves, over those of the whole step",
            formula=_MEASURED,
        ),
        Quantity(
            name="gap_per_kernel_s",
            label="gap per kernel",
            unit="s",
            counts="(time of the CUDA graph - times of its kernels) / kernels",
            leaves_out="what kernels overlap; the two times come from two runs",
            formula=_MEASURED,
        ),
    )
}
