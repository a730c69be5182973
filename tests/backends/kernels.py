"""The kernels of a backend at a number of tokens, for tests that need no step."""

from costmodel.backends import BACKENDS
from costmodel.backends.base import Backend
from costmodel.backends.step_kernels import StepKernels
from costmodel.layers.numbers import Number


def kernels(backend: Backend | str = "torch", tokens: Number = 1) -> StepKernels:
    """Of a backend, or of the one of this name; it refuses nothing."""
    named = BACKENDS[backend] if isinstance(backend, str) else backend
    return StepKernels(backend=named, tokens=tokens, refusal=None)
