"""The run `trace` of a GPU with stand-ins: kernels of steps and leaves, and nothing else."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import pytest

from costmodel.recordings.measured import Exact, ExactColumn, Spread, SpreadColumn
from costmodel.recordings.recording import RunResult
from profiler.instruments.kernels import KernelSums
from profiler.instruments.leaf_hooks import LeafContext
from profiler.runs import trace as trace_run
from profiler.runs.case import PreparedCase
from profiler.runs.trace import TraceRun
from tests.profiler.runs.gpu_runs import (
    has_agreed_names,
    known,
    selected_the_synthetic_experts,
    sparse_case,
    stand_in,
)


@pytest.fixture
def case() -> PreparedCase:
    return sparse_case()


@pytest.fixture
def result(case: PreparedCase, monkeypatch: pytest.MonkeyPatch) -> RunResult:
    """Of five steps, whose embedding takes 1 to 5 s; kernels load before the first of them."""
    ran: list[PreparedCase] = []
    run = PreparedCase.run

    def running(each: PreparedCase) -> None:
        ran.append(each)
        run(each)

    def kernels_by_path(
        step: Callable[[], object],
        within: Callable[[LeafContext], AbstractContextManager[None]],
        paths: Iterable[str],
        *,
        steps: int,
    ) -> list[KernelSums]:
        assert within == case.within
        assert tuple(paths) == case.paths == tuple(case.model.leaves())
        assert ran == [case], "nothing has warmed up"
        step()
        assert ran == [case, case]
        return [
            KernelSums(
                seconds={"embed": 1.0 + number, "lm_head": 2.0},
                launches={"embed": 1, "lm_head": 2},
                outside_seconds=0.5,
                outside_launches=4,
            )
            for number in range(steps)
        ]

    stand_in(monkeypatch, trace_run)
    monkeypatch.setattr(PreparedCase, "run", running)
    monkeypatch.setattr(trace_run, "kernels_by_path", kernels_by_path)
    return TraceRun().measure(case, known(case))


def test_the_run_trace_gives_every_quantity(result: RunResult, case: PreparedCase) -> None:
    has_agreed_names(result, "trace")
    selected_the_synthetic_experts(result, case)
    assert (result.conditions.warm_up, result.conditions.sm_clock_mhz) == (1, 1980.0)


def test_a_steps_kernels_are_those_of_its_leaves_and_those_outside(result: RunResult) -> None:
    """1 + 2 + 0.5 to 5 + 2 + 0.5 s; 1 + 2 + 4 kernels."""
    assert result.step == {
        "kernel_s": Spread(median=5.5, q1=4.5, q3=6.5, repeats=5, source="torch_profiler"),
        "launches": Exact(value=7, source="torch_profiler"),
    }


def test_kernels_stand_by_the_leaf_that_launched_them(
    result: RunResult, case: PreparedCase
) -> None:
    paths = list(case.model.leaves())
    seconds, launches = result.operators["kernel_s"], result.operators["launches"]
    assert isinstance(seconds, SpreadColumn)
    assert isinstance(launches, ExactColumn)
    assert dict(zip(paths, seconds.median, strict=True)) == dict.fromkeys(paths) | {
        "embed": 3.0,
        "lm_head": 2.0,
    }
    assert dict(zip(paths, launches.values, strict=True)) == dict.fromkeys(paths) | {
        "embed": 1,
        "lm_head": 2,
    }
    assert (seconds.source, launches.source) == ("torch_profiler", "torch_profiler")


def test_there_is_nothing_to_check_a_trace_by(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, trace_run)
    assert TraceRun().self_check() == ()
