"""A projection of what fused kernels could save: one kernel for each operator. Measured nowhere.

One kernel cannot do an operator whose later parts need the complete result of an earlier part. For
those operators a table names the parts that begin a kernel.
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
    """Ideal hand-written kernels, which do not exist: intermediates stay on the chip."""

    name = "fused"
    saves_intermediates = True

    def launches(self, operator: Operator, part: Part) -> int:
        """1 for a part that begins a kernel, which by default is the operator's first, else 0."""
        begins = KERNELS.get(operator.leaf)
        if begins is not None and any(sibling.name in begins for sibling in operator.parts):
            return int(part.name in begins)
        first = operator.parts[0]
        if first.name == "residual_add":  # the norm's kernel takes the adds in
            first = operator.parts[1]
        return int(part is first)
