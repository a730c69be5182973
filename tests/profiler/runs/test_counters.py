"""The run `counters` with stand-ins: what is counted, and what where the counters are refused."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import pytest
import torch

from costmodel.recordings.measured import Exact, Measured, Missing, Spread, SpreadColumn
from costmodel.recordings.recording import Check
from profiler.instruments.counters import RangeCounts
from profiler.instruments.cupti import CounterError, PermissionRefusedError, UnknownMetricError
from profiler.instruments.leaf_hooks import LeafContext
from profiler.runs import counters as counter_run
from profiler.runs.case import PreparedCase
from profiler.runs.counters import CounterRun
from profiler.runs.self_check import StepCounters
from tests.profiler.runs.cases import case_of
from tests.profiler.runs.gpu_runs import (
    can_capture,
    has_agreed_names,
    known,
    selected_the_synthetic_experts,
    sparse_case,
    stand_in,
)


@pytest.fixture(autouse=True)
def _gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, counter_run)


@pytest.fixture
def case() -> PreparedCase:
    return sparse_case()


class Counting:
    """Counters that give known numbers, and remember how they were made."""

    made: Sequence[dict[str, Any]] = ()
    tensor: int | None = 64
    refused: CounterError | None = None

    @classmethod
    def install(cls, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        monkeypatch.setattr(cls, "made", made)
        monkeypatch.setattr(counter_run, "HardwareCounters", cls)
        return made

    def __init__(self, *, dtype: str, max_ranges: int, host: bool = False) -> None:
        if self.refused is not None:
            raise self.refused
        assert isinstance(self.made, list)
        self.made.append({"dtype": dtype, "max_ranges": max_ranges, "host": host, "open": True})
        self.calls = 0
        self.own = self.made[-1]

    def __enter__(self) -> Self:
        assert sum(each["open"] for each in self.made) == 1, "the counters are there once"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.own["open"] = False

    def counted(self, read: int, settled: int | None) -> RangeCounts:
        return RangeCounts(
            hbm_read_bytes=read,
            hbm_written_bytes=10,
            hbm_settled_bytes=settled,
            tensor_flops=self.tensor,
            duration_s=1.0,
            host_read_bytes=7 * read if self.own["host"] else None,
        )

    def step(self, run: Callable[[], object], *, flush: Callable[[], object]) -> RangeCounts:
        run()
        flush()
        self.calls += 1
        return self.counted(1000 * self.calls, 500)

    def ranges(self, step: Callable[[LeafContext], object]) -> list[tuple[str, RangeCounts]]:
        names: list[str] = []

        class Range:
            def __init__(self, name: str) -> None:
                names.append(name)

            def __enter__(self) -> None: ...

            def __exit__(self, *_: object) -> None: ...

        step(Range)
        self.calls += 1
        assert len(names) <= self.own["max_ranges"]
        return [(name, self.counted(place * self.calls, None)) for place, name in enumerate(names)]


def test_the_run_counters_gives_every_quantity(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Counting.install(monkeypatch)
    can_capture(monkeypatch)
    result = CounterRun().measure(case, known(case))
    has_agreed_names(result, "counters")

    def spread(median: float, q1: float, q3: float) -> Spread:
        return Spread(median=median, q1=q1, q3=q3, repeats=3, source="hardware_counter")

    assert result.step == {
        "hbm_read_bytes": spread(2000, 1500, 2500),
        "hbm_written_bytes": spread(500, 500, 500),  # what came out of L2 afterwards is the step's
        "flops_tensor": spread(64, 64, 64),
    }
    leaves = len(case.model.leaves())
    reads, writes = result.operators["hbm_read_bytes"], result.operators["hbm_written_bytes"]
    assert isinstance(reads, SpreadColumn)
    assert isinstance(writes, SpreadColumn)
    # the paths are in the order of the step in this model
    assert reads.median == tuple(2 * place for place in range(leaves))
    assert set(writes.median) == {10}
    assert [(each["dtype"], each["max_ranges"]) for each in made] == [("bf16", 3), ("bf16", leaves)]
    assert not any(each["open"] for each in made)
    selected_the_synthetic_experts(result, case)


def test_a_leaf_that_runs_in_parts_has_the_sum_of_them(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths A, B, A, B as ranges 0 to 3: by hand A reads 0 + 2 and B 1 + 3 in the first step."""
    made = Counting.install(monkeypatch)
    can_capture(monkeypatch)
    one, two = case.paths[:2]

    @contextmanager
    def in_parts(context: LeafContext) -> Iterator[None]:
        for path in (one, two, one, two):
            with context(path):
                pass
        yield

    monkeypatch.setattr(case, "within", in_parts)
    reads = CounterRun().measure(case, known(case)).operators["hbm_read_bytes"]
    assert isinstance(reads, SpreadColumn)
    assert reads.median[:3] == (2 * (0 + 2), 2 * (1 + 3), None)  # the second of three repeats
    assert made[-1]["max_ranges"] == 4


def test_a_gpu_without_a_tensor_counter_gives_the_bytes(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    Counting.install(monkeypatch)
    monkeypatch.setattr(Counting, "tensor", None)
    can_capture(monkeypatch)
    result = CounterRun().measure(case, known(case))
    missing = Missing(reason="not measured (this GPU has no such counter)")
    assert result.step["flops_tensor"] == missing
    assert result.operators["flops_tensor"] == missing
    assert isinstance(result.step["hbm_read_bytes"], Spread)
    assert isinstance(result.operators["hbm_read_bytes"], SpreadColumn)


@pytest.mark.parametrize("as_a_graph", [True, False])
def test_where_the_driver_refuses_the_step_is_counted_otherwise(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch, *, as_a_graph: bool
) -> None:
    Counting.install(monkeypatch)
    monkeypatch.setattr(Counting, "refused", PermissionRefusedError("refused"))
    replayed = can_capture(monkeypatch, None if as_a_graph else RuntimeError("no"))
    run = CounterRun()
    step: dict[str, Measured] = {"hbm_read_bytes": Exact(value=1, source="ncu")}

    def otherwise(
        of: PreparedCase, do: Callable[[], object], spec: str, gpu: object, why: CounterError
    ) -> dict[str, Measured]:
        assert (of, spec, str(why)) == (case, "the case", "refused")
        assert gpu is run.gpu
        do()
        assert replayed == ([case] if as_a_graph else [])
        assert as_a_graph or do == case.run
        return step

    monkeypatch.setattr(counter_run, "counts_without_cupti", otherwise)
    result = run.measure(case, known(case))
    assert result.step == step
    assert set(result.operators) == {"distinct"}
    selected_the_synthetic_experts(result, case)


def test_counters_work_without_a_graph(case: PreparedCase, monkeypatch: pytest.MonkeyPatch) -> None:
    Counting.install(monkeypatch)
    can_capture(monkeypatch, RuntimeError("no"))
    has_agreed_names(CounterRun().measure(case, known(case)), "counters")


def test_the_self_check_of_refused_counters_says_so_and_cases_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Counting.install(monkeypatch)
    monkeypatch.setattr(Counting, "refused", PermissionRefusedError("refused"))
    check = Check(name="copy", known=1, measured=None, tolerance=0.01, reason="refused")

    def checks(counters: StepCounters, device: str) -> tuple[Check, ...]:
        assert device == "cuda"
        with pytest.raises(PermissionRefusedError, match="refused"):
            counters.step(lambda: None, flush=lambda: None)
        return (check,)

    monkeypatch.setattr(counter_run, "counter_checks", checks)
    monkeypatch.setattr(counter_run, "host_check", lambda *given: checks(*given)[0])
    assert CounterRun().self_check() == (check, check)


def test_a_chip_without_the_counter_of_host_memory_is_checked_for_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Counting.install(monkeypatch)
    check = Check(name="copy", known=1, measured=1, tolerance=0.01)

    def of_host(counters: StepCounters, _device: str) -> Check:
        try:
            counters.step(lambda: None, flush=lambda: None)
        except CounterError as error:
            return replace(check, measured=None, reason=str(error))
        return replace(check, name="rows")

    monkeypatch.setattr(counter_run, "counter_checks", lambda *_: (check,))
    monkeypatch.setattr(counter_run, "host_check", of_host)
    assert CounterRun().self_check() == (check, replace(check, name="rows"))
    assert [each["host"] for each in made] == [False, True]

    def without(*, host: bool = False, **given: Any) -> Counting:  # noqa: ANN401
        if host:
            raise UnknownMetricError("no such metric")
        return Counting(**given)

    monkeypatch.setattr(counter_run, "HardwareCounters", without)
    missing = replace(check, measured=None, reason="no such metric")
    assert CounterRun().self_check() == (check, missing)


def test_host_memory_is_counted_of_cases_whose_tables_stand_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Counting.install(monkeypatch)
    can_capture(monkeypatch)
    case = case_of("ngram", dtype="bf16", placement="tables=host")
    result = CounterRun().measure(case, known(case))
    counted = result.step["host_read_bytes"]
    assert isinstance(counted, Spread)
    assert counted.median == 7 * 2000
    assert all(each["host"] for each in made)
    reads, host = result.operators["hbm_read_bytes"], result.operators["host_read_bytes"]
    assert isinstance(reads, SpreadColumn)
    assert isinstance(host, SpreadColumn)
    assert host.median == tuple(None if r is None else 7 * r for r in reads.median)


def test_counters_that_fail_otherwise_are_an_error_of_the_run(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    Counting.install(monkeypatch)
    monkeypatch.setattr(Counting, "refused", CounterError("the counters are busy"))
    can_capture(monkeypatch)
    for attempt in (lambda: CounterRun().measure(case, known(case)), CounterRun().self_check):
        with pytest.raises(CounterError, match="busy"):
            attempt()


def test_out_of_memory_is_no_missing_graph(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    Counting.install(monkeypatch)
    can_capture(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        CounterRun().measure(case, known(case))
