"""Stand-ins for what the runs on a GPU need of one, and what must hold of all their answers."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from costmodel.recordings.machine import Conditions
from costmodel.recordings.measured import ExactColumn
from costmodel.recordings.quantities import Level, RunName, measured_in
from costmodel.recordings.recording import RunResult
from profiler.runs.base import CaseFacts
from profiler.runs.case import PreparedCase
from profiler.runs.tensor_facts import FlopCount
from reference_model.routing import selectors
from tests.profiler.runs.cases import case_of
from tests.reference_model.tiny import MOE, small

FLUSH_BYTES, ANCHOR_BYTES = 1000, 500
# On a CPU; without counters; with tables in host memory; with a state
ELSEWHERE = {"wall_s", "logical_bytes", "hbm_bytes", "host_read_bytes", "state_held_bytes"}


class Gpu:
    """Conditions that say how many were asked for."""

    def conditions(self, *, started: str, warm_up: int) -> Conditions:
        return Conditions(started=started, warm_up=warm_up, sm_clock_mhz=1980.0)


def under_load(gpu: Gpu, run: Callable[[], object], *, started: str) -> Conditions:
    """Without a load."""
    assert callable(run)
    return gpu.conditions(started=started, warm_up=1)


class Flush:
    """No L2 to empty."""

    nbytes = FLUSH_BYTES

    def __call__(self) -> None:
        pass

    def settle(self) -> None:
        pass


class Anchors:
    """One kernel, which takes a microsecond longer each time."""

    nbytes = ANCHOR_BYTES

    def __init__(self) -> None:
        self.timed = 0

    def seconds(self, flush: Flush) -> dict[str, float]:
        assert flush.nbytes == FLUSH_BYTES
        self.timed += 1
        return {"a kernel": 1e-6 * self.timed}


def stand_in(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
    """Let the module of a run find a GPU."""
    monkeypatch.setattr(module, "open_gpu", Gpu)
    if hasattr(module, "L2Flush"):
        monkeypatch.setattr(module, "L2Flush", Flush)
    if hasattr(module, "Anchors"):
        monkeypatch.setattr(module, "Anchors", Anchors)
    if hasattr(module, "under_load"):
        monkeypatch.setattr(module, "under_load", under_load)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)


def sparse_case() -> PreparedCase:
    """One layer of experts; 3 sequences after 6 tokens."""
    return case_of(
        small(num_hidden_layers=1, ffn=MOE), dtype="bf16", batch=3, context=6, routing="uniform"
    )


def known(case: PreparedCase) -> CaseFacts:
    flops = FlopCount(case.model)
    return CaseFacts(flops=lambda: flops.of(case.workload), spec=lambda: "the case")


def can_capture(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None = None
) -> list[PreparedCase]:
    """The cases that are then replayed; or the capture raises. What it chose is nothing yet."""
    replayed: list[PreparedCase] = []

    def capture(case: PreparedCase) -> Callable[[], None]:
        if error is not None:
            raise error
        for leaf in selectors(case.model).values():
            leaf.selected = torch.full((3, leaf.draws), 7)
        return lambda: replayed.append(case)

    monkeypatch.setattr(PreparedCase, "captured", capture)
    return replayed


def selected_the_synthetic_experts(result: RunResult, case: PreparedCase) -> None:
    """The experts of the synthetic logits, and no leftovers of a capture."""
    (router,) = selectors(case.model).values()
    assert router.synthetic_choice is not None
    experts = set(router.synthetic_choice.topk(2).indices.flatten().tolist())
    assert experts != {7}
    distinct = result.operators["distinct"]
    assert isinstance(distinct, ExactColumn)
    assert [value for value in distinct.values if value is not None] == [len(experts)]


def has_agreed_names(result: RunResult, run: RunName) -> None:
    levels: tuple[tuple[Level, dict[str, Any]], ...] = (
        ("step", result.step),
        ("operators", result.operators),
    )
    for level, given in levels:
        assert set(given) == set(measured_in(run, level)) - ELSEWHERE, level
