"""The predicted energy: idle power over the time, and what bytes and FLOPs cost beyond it."""

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

    J/byte = (watts of a copy loop - idle watts) / its bytes/s; J/FLOP likewise of a loop of large
    matrix products, whose bytes are negligible. `moved_bytes` are all that the parts move: the
    compulsory ones, and activations and intermediates as if they too went through HBM, as in the
    copy. All FLOPs are priced as those of a matrix product; padding of tiles is left out. At the
    limit a GPU lowers its clocks; the time is not made longer for that.
    """
    j_per_byte = (power.copy_w - power.idle_w) / power.copy_bytes_per_s
    j_per_flop = (power.gemm_w - power.idle_w) / power.gemm_flops_per_s
    found = power.idle_w * seconds + moved_bytes * j_per_byte + flops * j_per_flop
    return found if power_limit_w is None else smaller(found, power_limit_w * seconds)
