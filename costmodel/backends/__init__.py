"""Backends: which kernels do the work that layers state, with how many launches.

A layer states its work in parts; a backend says which parts one kernel does together, and whether
what passes between them stays on the chip.
"""

from costmodel.backends.base import Backend
from costmodel.backends.fused import Fused
from costmodel.backends.torch import Torch

BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (Torch(), Fused())}
"""Every backend by its name, as `--backend` takes it."""
