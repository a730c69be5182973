"""The predicted energy of a step: power of an awake GPU over its time, and energy of its work.

Two forms. With the steady loops of `sparsecost calibrate --leaves loops`, each kind of work has a
coefficient of its own (`energy_fit.py`). Without them, two loops separate bytes and FLOPs.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from costmodel.backends.step_kernels import StepKernels
from costmodel.costs.table_rows import repeated_row_bytes
from costmodel.costs.totals import Totals
from costmodel.layers.kernel_shape import Gemm, Grouped
from costmodel.layers.numbers import Number, smaller
from costmodel.layers.operator import Operator, Part

if TYPE_CHECKING:
    from costmodel.costs.energy_fit import EnergyCoefficients
    from costmodel.costs.kernel_times import Curves
    from costmodel.recordings.calibration import Power

ROWS_OF_A_TILE = 8  # the least that tensor cores multiply by a weight
GROUP_TILES = {"torch": 128, "fused": 16}  # rows of an expert's tile


def step_energy_j(
    curves: "Curves",
    operators: Sequence[Operator],
    sums: Totals,
    kernels: StepKernels,
    seconds: Number,
) -> Number | None:
    """The energy of a step that takes `seconds`, joules; None: the calibration measured no power.

    The bytes read and written are the compulsory ones, with rows that several tokens read:
    predicted HBM traffic is of single steps alone, and a grid has to say the same.
    Source: `fitted_energy_j`, or `energy_j` without loops.
    """
    saves = kernels.backend.saves_intermediates
    on_chip = sums.activation_bytes if saves else sums.activation_bytes + sums.intermediate_bytes
    repeated = repeated_row_bytes(operators)  # a table is too large for L2 to keep its rows
    if curves.energy is not None:
        read, written = sums.read_bytes + repeated, sums.written_bytes
        flops = executed_flops(operators, kernels)
        return fitted_energy_j(
            curves.energy,
            curves.power_limit_w,
            seconds=seconds,
            read_bytes=read,
            written_bytes=written,
            on_chip_bytes=on_chip,
            flops=flops,
        )
    if curves.power is None:
        return None
    return energy_j(
        curves.power,
        curves.power_limit_w,
        seconds=seconds,
        moved_bytes=sums.compulsory_bytes + on_chip + repeated,
        flops=sums.flops,
    )


def fitted_energy_j(
    coefficients: "EnergyCoefficients",
    power_limit_w: float | None,
    *,
    seconds: Number,
    read_bytes: Number,
    written_bytes: Number,
    on_chip_bytes: Number,
    flops: Number,
) -> Number:
    """Awake watts x time + J/byte x bytes read, written and on the chip + J/FLOP x FLOPs.

    At most the power limit x time. Leaves out: that a GPU lowers its clocks at that limit, which
    makes the step longer; that voltage falls with the clock; temperature.
    Source: linear in the work, as energy counters show (docs/measuring.md); coefficients from
    `costmodel/costs/energy_fit.py`.

    Args:
        coefficients: Fitted to loops.
        power_limit_w: Of the GPU; None: not known, then nothing limits the energy.
        seconds: The predicted time of the step.
        read_bytes: From HBM.
        written_bytes: To HBM.
        on_chip_bytes: Activations that parts read and write, wherever they find them.
        flops: Executed ones: `executed_flops`.

    Returns:
        Joules.
    """
    energy = (
        coefficients.awake_w * seconds
        + coefficients.read_j_per_byte * read_bytes
        + coefficients.written_j_per_byte * written_bytes
        + coefficients.on_chip_j_per_byte * on_chip_bytes
        + coefficients.j_per_flop * flops
    )
    return energy if power_limit_w is None else smaller(energy, power_limit_w * seconds)


def executed_flops(operators: Sequence[Operator], kernels: StepKernels) -> Number:
    """FLOPs that tensor cores do for products and attention, whole tiles of rows among them.

    A product's rows are padded to 8, those of each expert to a tile of the backend's kernel. Leaves
    out: padding of attention, of widths, and what other units do.
    Source: counted on an H200 (`benchmarks/leaves`): 8 times the useful FLOPs at one row, 1.6 at 5;
    experts of about one row each 110 times in plain PyTorch, 13 times in fused kernels.
    """
    total: Number = 0
    tile = GROUP_TILES[kernels.backend.name]
    for operator in operators:
        for part in operator.parts:
            if part.kind in {"matmul", "attention"}:
                total = total + operator.count * part.flops * _padding(part, tile)
    return total


def _padding(part: Part, tile: int) -> Number:
    """Executed over useful FLOPs of a part."""
    shape = part.shape
    if isinstance(shape, Gemm):
        return _whole(shape.m, ROWS_OF_A_TILE) / shape.m
    if isinstance(shape, Grouped):
        each = shape.rows / shape.groups
        return _whole(each, tile) / each
    return 1


def _whole(rows: Number, tile: int) -> Number:
    """Rows rounded up to whole tiles."""
    return -(-rows // tile) * tile


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
