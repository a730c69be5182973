"""What a backend is: how many launches each part of an operator takes, and which operators merge.

A backend has a rule for any part, so a new layer kind needs no entry anywhere; or it refuses the
steps that it has no kernels for. Kernels that differ from the rule are entered in the backend's
file. A kernel may also span neighbouring operators of a layer, which then form a region. How parts
become the kernels of one step: `step_kernels.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """Operators of a layer whose kernels run beside those of others, on a stream of their own."""

    operators: tuple[Operator, ...]
    beside: tuple[Operator, ...]
    layers: Number  # how many layers of a step do so; over a grid, 0 where none does


class Backend(ABC):
    """An implementation of a step, described by its kernels.

    Attributes:
        name: As `--backend` takes it.
        saves_intermediates: Whether what passes between the parts of a kernel stays on the chip.
        spans: Leaves that may form a region, each tuple in the order of the block.
        unpriced: Why no calibration holds times of these kernels; empty where one may.
    """

    name: str
    saves_intermediates: bool
    spans: tuple[tuple[str, ...], ...] = ()
    unpriced: str = ""

    def refusal(self, operators: Sequence[Operator], step: Step) -> str | None:
        """Why the backend cannot run a step of these operators; None: it can."""
        del operators, step
        return None

    def joins(self, members: Sequence[Operator], tokens: Number) -> bool:
        """Whether a layer's operators under the leaves of a span form a region at N tokens."""
        del members, tokens
        return True

    def may_join(self, members: Sequence[Operator]) -> bool:
        """Whether a layer's operators under the leaves of a span form a region at some N."""
        del members
        return True

    def outside_launches(self, operators: Sequence[Operator]) -> int:
        """Launches of a step that belong to no operator."""
        del operators
        return 0

    def branches(self, operators: Sequence[Operator], tokens: Number) -> Sequence[Branch]:
        """The operators of a step that run beside others at N tokens."""
        del operators, tokens
        return ()

    @abstractmethod
    def launches(self, operator: Operator, part: Part, tokens: Number) -> Number:
        """Launches that a part needs at N tokens; 0: the kernel of the part before does it too.

        `tokens` may be an array; the result then is one too, or the number that holds for all.
        """
