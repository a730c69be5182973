"""What all kinds of run share: the interface of a run method, and facts computed on request."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from costmodel.recordings.recording import Check, RunResult
from profiler.runs.case import PreparedCase

NO_GPU = "not measured (no NVIDIA GPU)"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFacts:
    """Facts of a case that take time to compute, so that only methods that need them do it."""

    flops: Callable[[], dict[str, int]]  # by leaf path, counted on the meta device
    spec: Callable[[], str]  # the case as `profiler.runs.ncu_step` reads it


class RunMethod(Protocol):
    """How one kind of run measures a case."""

    def measure(self, case: PreparedCase, facts: CaseFacts) -> RunResult:
        """Measure the case; columns are in the order of the model's leaves."""

    def self_check(self) -> tuple[Check, ...]:
        """Measure known work in the same way."""
