"""How much of a GPU's memory may be used: a fraction of it, less a reserve.

Engines take a fraction (vLLM's `gpu_memory_utilization`, SGLang's `mem_fraction_static`); a reserve
is for what is never counted here: the CUDA context, fragments of the allocator, other processes.
"""

from dataclasses import replace

from costmodel.errors import InputError, shown
from costmodel.inputs.hardware import Hardware, load_hardware
from costmodel.inputs.parse import parse_number, parse_size
from costmodel.units import capacity, significant

LEAST_FRACTION = 0.01
LEAST_BYTES = 2**20  # as the least capacity of a GPU's file


def limited(hardware: Hardware, *, fraction: float = 1.0, reserve_bytes: int = 0) -> Hardware:
    """The GPU with the memory that may be used as its capacity; its name says so.

    Raises:
        InputError: `fraction` is not from 0.01 to 1, or the reserve leaves less than 1 MiB.
    """
    if not LEAST_FRACTION <= fraction <= 1:  # NaN is neither
        raise InputError(
            f"memory_fraction={shown(fraction)}: must be a number from {LEAST_FRACTION:g} to 1"
        )
    if fraction == 1 and not reserve_bytes:
        return hardware
    usable = int(hardware.capacity_bytes * fraction) - reserve_bytes
    if usable < LEAST_BYTES:
        raise InputError(
            f"memory_reserve={reserve_bytes}: must leave 1 MiB of the"
            f" {capacity(hardware.capacity_bytes * fraction)} that may be used"
        )
    less = f" less {capacity(reserve_bytes)}" if reserve_bytes else ""
    share = "its memory" if fraction == 1 else f"{significant(fraction)} of its memory"
    return replace(hardware, name=f"{hardware.name}, {share}{less}", capacity_bytes=usable)


def load_limited(name: str, fraction: str | None, reserve: str | None) -> Hardware:
    """The GPU of a name or a file, with the limits as typed; None: no limit.

    Raises:
        InputError: There is no such GPU, or a limit breaks a rule.
    """
    return limited(
        load_hardware(name),
        fraction=1.0
        if fraction is None
        else parse_number(fraction, field="memory_fraction", low=LEAST_FRACTION, high=1),
        reserve_bytes=0 if reserve is None else parse_size(reserve, field="memory_reserve"),
    )
