"""Backends: which kernels do the work that layers state, with how many launches.

A layer states its work in parts; a backend says which parts one kernel does together, and whether
what passes between them stays on the chip.
"""

from collections.abc import Sequence

from costmodel.backends.base import Backend
from costmodel.backends.fused import Fused
from costmodel.backends.step_kernels import StepKernels
from costmodel.backends.torch import Torch
from costmodel.layers.operator import Operator, Step

BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (Torch(), Fused())}
"""Every backend by its name, as `--backend` takes it."""


def kernels_of(backend: str, operators: Sequence[Operator], step: Step) -> StepKernels:
    """The kernels of a backend, by its name, for a step of these operators."""
    named = BACKENDS[backend]
    return StepKernels(backend=named, tokens=step.tokens, refusal=named.refusal(operators, step))
