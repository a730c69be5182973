"""The predicted energy of a step: idle power over its time, plus the energy of bytes and FLOPs."""

from typing import TYPE_CHECKING

from costmodel.layers.numbers import Number, smaller

if TYPE_CHECKING:
    from costmodel.recordings.calibration import Power


def energy_j(
    power: "Power",
    power_limit_w: float | None,
    *,
    seconds: Number,
    moved_bytes: Number,
    flops: Number,
) -> Number:
    """Idle watts x time + bytes x J/byte + FLOPs x J/FLOP, at most the power limit x time.

    J/byte = (watts of a loop of copies - idle watts) / its bytes per second. J/FLOP = (watts of a
    loop of large matrix products - idle watts) / its FLOPs per second; the bytes of that loop are
    negligible.
    Leaves out: padding of tiles; that a GPU lowers its clocks at the power limit, which makes the
    step longer. All FLOPs are priced as those of a matrix product.
    Source: `sparsecost calibrate` measures both loops; two loads and idle power separate the terms.

    Args:
        power: Watts and rates of both loops, and watts at idle, as calibrated.
        power_limit_w: Of the GPU; None: not known, then nothing limits the energy.
        seconds: The predicted time of the step.
        moved_bytes: All bytes that the parts move: compulsory ones, and activations and
            intermediates as if they too went through HBM, as the bytes of a copy do.
        flops: Model FLOPs.

    Returns:
        Joules.
    """
    j_per_byte = (power.copy_w - power.idle_w) / power.copy_bytes_per_s
    j_per_flop = (power.gemm_w - power.idle_w) / power.gemm_flops_per_s
    energy = power.idle_w * seconds + moved_bytes * j_per_byte + flops * j_per_flop
    return energy if power_limit_w is None else smaller(energy, power_limit_w * seconds)
