"""Which kernels do the work of a step: launches, and the traffic between parts that they save."""

from costmodel.backends.base import Backend
from costmodel.backends.fused import Fused
from costmodel.backends.torch import Torch

BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (Torch(), Fused())}
"""Every backend by its name, as `--backend` takes it."""
