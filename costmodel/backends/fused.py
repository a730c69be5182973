"""One kernel an operator: a projection of what fused kernels could save, measured nowhere.

Where one kernel cannot do an operator, since its later parts need all of an earlier one, the table
names the parts that begin a kernel.
"""

from costmodel.backends.base import Backend
from costmodel.layers.operator import Operator, Part

KERNELS: dict[str, tuple[str, ...]] = {
    "attention.rope": ("cache_write",),
    "moe.experts": ("sort", "gate_up", "down"),
    "memory.retrieve": ("scores", "first_top_m"),
}
"""By leaf: the parts that begin a kernel. All other operators are one kernel."""


class Fused(Backend):
    """Hand-written kernels that do not exist: intermediates stay on the chip."""

    name = "fused"
    saves_intermediates = True

    def launches(self, operator: Operator, part: Part) -> int:
        """1 for the parts that begin a kernel; by default the first one."""
        begins = KERNELS.get(operator.leaf)
        if begins is not None and any(each.name in begins for each in operator.parts):
            return int(part.name in begins)
        first = operator.parts[0]
        if first.name == "residual_add":  # the norm's kernel takes the adds in
            first = operator.parts[1]
        return int(part is first)
