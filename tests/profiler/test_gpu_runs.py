"""The three runs of a GPU with stand-ins for all that needs one: what they ask for and pass on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace, TracebackType
from typing import Any, Literal, Self

import pytest
import torch

from costmodel.inputs.machine import Conditions
from costmodel.inputs.recording import (
    Check,
    Exact,
    ExactColumn,
    Measured,
    Missing,
    Spread,
    SpreadColumn,
)
from costmodel.predict import step_costs
from costmodel.quantities import Level, RunName, measured_in
from profiler import counter_run, energy_run, time_run
from profiler.bench import Known, Measurement, priced, self_check
from profiler.case import PreparedCase
from profiler.counter_run import CounterRun
from profiler.counters import Counted
from profiler.counts import FlopCount
from profiler.cupti import CounterError, PermissionRefusedError
from profiler.energy import Energy
from profiler.energy_run import EnergyRun
from profiler.kernels import KernelSums
from profiler.leaves import Around
from profiler.time_run import TimeRun, captured
from profiler.timing import Latency
from reference_model.routing import choosers
from tests.profiler.cases import case_of
from tests.reference_model.tiny import MOE, small

FLUSH_BYTES = 1000
STARTED = "2025-01-01T00:00:00Z"
ELSEWHERE = {"wall_s", "logical_bytes", "hbm_bytes"}  # on a CPU; without counters


class Gpu:
    """Conditions that say how many were asked for."""

    def conditions(self, *, started: str, warm_up: int) -> Conditions:
        return Conditions(started=started, warm_up=warm_up, sm_clock_mhz=1980.0)


class Flush:
    """No L2 to empty."""

    nbytes = FLUSH_BYTES

    def __call__(self) -> None:
        pass


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in (time_run, counter_run, energy_run):
        monkeypatch.setattr(module, "open_gpu", Gpu)
    for module in (time_run, counter_run):
        monkeypatch.setattr(module, "L2Flush", Flush)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    energy_run.idle_power.cache_clear()
    yield
    energy_run.idle_power.cache_clear()


@pytest.fixture
def case() -> PreparedCase:
    return case_of(
        small(num_hidden_layers=1, ffn=MOE), dtype="bf16", batch=3, context=6, routing="uniform"
    )


def known(case: PreparedCase, compulsory_bytes: int = 0) -> Known:
    costs: Any = step_costs(case.model.config, priced(case.workload).step())
    if compulsory_bytes:
        costs = SimpleNamespace(totals=SimpleNamespace(compulsory_bytes=compulsory_bytes))
    flops = FlopCount(case.model)
    return Known(costs=costs, flops=lambda: flops.of(case.workload), spec=lambda: "the case")


def can_capture(monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
    """Replays are eager runs; or the capture raises. What a capture chose is nothing yet."""

    def capture(case: PreparedCase) -> Callable[[], None]:
        if error is not None:
            raise error
        for leaf in choosers(case.model).values():
            leaf.chosen = torch.full((3, leaf.draws), 7)
        return lambda: None

    monkeypatch.setattr(PreparedCase, "captured", capture)


def chose_as_declared(found: Measurement, case: PreparedCase) -> None:
    """Experts of the logits that were declared, and no leftovers of a capture."""
    (router,) = choosers(case.model).values()
    assert router.declared is not None
    experts = set(router.declared.topk(2).indices.flatten().tolist())
    assert experts != {7}
    assert found.accesses["layers.0.moe.router"].distinct == len(experts)
    distinct = found.operators["distinct"]
    assert isinstance(distinct, ExactColumn)
    assert [value for value in distinct.values if value is not None] == [len(experts)]


def has_agreed_names(found: Measurement, run: RunName) -> None:
    levels: tuple[tuple[Level, dict[str, Any]], ...] = (
        ("step", found.step),
        ("operators", found.operators),
    )
    for level, given in levels:
        assert set(given) == set(measured_in(run, level)) - ELSEWHERE, level


# the run `time`


class Clocked:
    """Stand-ins for what times and traces a step; they remember what they were given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, graph: bool) -> None:
        self.before: list[object] = []
        self.graph = graph
        self.peak = 7_000_000
        monkeypatch.setattr(time_run, "cuda_seconds", self.cuda_seconds)
        monkeypatch.setattr(time_run, "kernels_by_leaf", self.kernels_by_leaf)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 5_000_000)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: self.peak)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)

    def cuda_seconds(
        self,
        replay: Callable[[], object] | None,
        eager: Callable[[], object],
        *,
        before: Callable[[], object] | None,
    ) -> Latency:
        assert (replay is not None) == self.graph
        eager()
        self.before.append(before)
        return Latency(graph_s=(0.02, 0.03, 0.04) if replay else (), eager_s=(0.1, 0.3, 0.2))

    def kernels_by_leaf(
        self, model: object, run: Callable[[], object], *, steps: int
    ) -> list[KernelSums]:
        del model
        run()
        return [
            KernelSums(
                seconds={"embed": 1.0 + step, "lm_head": 2.0},
                launches={"embed": 1, "lm_head": 2},
                outside_seconds=0.5,
                outside_launches=4,
            )
            for step in range(steps)
        ]


def test_the_run_time_gives_every_quantity_of_a_gpu(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clocked(monkeypatch, graph=True)
    can_capture(monkeypatch)
    found = TimeRun().measure(case, known(case))
    has_agreed_names(found, "time")
    step = found.step
    assert step["graph_s"] == Spread(
        median=0.03, q1=0.025, q3=0.035, repeats=3, source="cuda_event"
    )
    assert step["eager_s"] == Spread(median=0.2, q1=0.15, q3=0.25, repeats=3, source="cuda_event")
    # the flush is the measurement's own memory, no part of the step's
    assert step["peak_memory_bytes"] == Exact(value=7_000_000 - FLUSH_BYTES, source="allocator")
    assert step["resident_memory_bytes"] == Exact(value=5_000_000 - FLUSH_BYTES, source="allocator")
    assert found.conditions.sm_clock_mhz == 1980.0
    chose_as_declared(found, case)


def test_a_steps_kernels_are_those_of_its_leaves_and_those_outside(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clocked(monkeypatch, graph=True)
    can_capture(monkeypatch)
    found = TimeRun().measure(case, known(case))
    paths = list(case.model.leaves())
    assert found.step["kernel_s"] == Spread(
        median=4.5, q1=4.0, q3=5.0, repeats=3, source="torch_profiler"
    )
    assert found.step["launches"] == Exact(value=7, source="torch_profiler")
    seconds, launches = found.operators["kernel_s"], found.operators["launches"]
    assert isinstance(seconds, SpreadColumn)
    assert isinstance(launches, ExactColumn)
    assert dict(zip(paths, seconds.median, strict=True)) == dict.fromkeys(paths) | {
        "embed": 2.0,
        "lm_head": 2.0,
    }
    assert dict(zip(paths, launches.values, strict=True)) == dict.fromkeys(paths) | {
        "embed": 1,
        "lm_head": 2,
    }


@pytest.mark.parametrize("moves", [FLUSH_BYTES - 1, FLUSH_BYTES])
def test_l2_is_emptied_before_a_step_that_moves_less_than_that(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    clocked = Clocked(monkeypatch, graph=True)
    can_capture(monkeypatch)
    run = TimeRun()
    run.measure(case, known(case, compulsory_bytes=moves))
    assert clocked.before == [run.flush if moves < FLUSH_BYTES else None]


def test_a_step_that_cannot_be_captured_says_why_and_is_measured_eagerly(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clocked(monkeypatch, graph=False)
    can_capture(monkeypatch, RuntimeError("CUDA error: operation not permitted\nCompile with ..."))
    found = TimeRun().measure(case, known(case))
    assert found.step["graph_s"] == Missing(
        reason="not measured (cannot be captured as a CUDA graph:"
        " CUDA error: operation not permitted)"
    )
    assert isinstance(found.step["eager_s"], Spread)
    has_agreed_names(found, "time")


def test_a_long_reason_is_cut(case: PreparedCase, monkeypatch: pytest.MonkeyPatch) -> None:
    can_capture(monkeypatch, RuntimeError("x" * 5000))
    replay, reason = captured(case)
    assert replay is None
    assert len(reason) < 300


@pytest.mark.parametrize("run", [TimeRun, CounterRun, EnergyRun])
def test_out_of_memory_is_no_missing_graph(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch, run: type[TimeRun | CounterRun | EnergyRun]
) -> None:
    Clocked(monkeypatch, graph=True)
    Counting.install(monkeypatch)
    install_energy(monkeypatch, Missing(reason="unused"))
    can_capture(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        run().measure(case, known(case))


def test_another_mistake_is_no_missing_graph(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    can_capture(monkeypatch, TypeError("ours"))
    with pytest.raises(TypeError):
        captured(case)


def test_a_device_lost_in_the_capture_is_an_error(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost() -> None:
        raise RuntimeError("CUDA error: the device is gone")

    can_capture(monkeypatch, RuntimeError("capture failed"))
    monkeypatch.setattr(torch.cuda, "synchronize", lost)
    with pytest.raises(RuntimeError, match="gone"):
        captured(case)


# the run `counters`


class Counting:
    """Counters that give known numbers, and remember how they were made."""

    made: Sequence[dict[str, Any]] = ()
    tensor: int | None = 64
    refused: CounterError | None = None

    @classmethod
    def install(cls, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        monkeypatch.setattr(cls, "made", made)
        monkeypatch.setattr(counter_run, "Counters", cls)
        return made

    def __init__(self, *, dtype: str, max_ranges: int) -> None:
        if self.refused is not None:
            raise self.refused
        assert isinstance(self.made, list)
        self.made.append({"dtype": dtype, "max_ranges": max_ranges, "open": True})
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

    def counted(self, read: int, settled: int | None) -> Counted:
        return Counted(
            hbm_read_bytes=read,
            hbm_written_bytes=10,
            hbm_settled_bytes=settled,
            tensor_flops=self.tensor,
            duration_s=1.0,
        )

    def step(self, run: Callable[[], object], *, flush: Callable[[], object]) -> Counted:
        run()
        flush()
        self.calls += 1
        return self.counted(1000 * self.calls, 500)

    def ranges(self, step: Callable[[Around], object]) -> list[tuple[str, Counted]]:
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
    found = CounterRun().measure(case, known(case))
    has_agreed_names(found, "counters")

    def spread(median: float, q1: float, q3: float) -> Spread:
        return Spread(median=median, q1=q1, q3=q3, repeats=3, source="hardware_counter")

    assert found.step == {
        "hbm_read_bytes": spread(2000, 1500, 2500),
        "hbm_written_bytes": spread(500, 500, 500),  # what came out of L2 afterwards is the step's
        "flops_tensor": spread(64, 64, 64),
    }
    leaves = len(case.model.leaves())
    reads, writes = found.operators["hbm_read_bytes"], found.operators["hbm_written_bytes"]
    assert isinstance(reads, SpreadColumn)
    assert isinstance(writes, SpreadColumn)
    # the paths are in the order of the step in this model
    assert reads.median == tuple(2 * place for place in range(leaves))
    assert set(writes.median) == {10}
    assert [(each["dtype"], each["max_ranges"]) for each in made] == [("bf16", 3), ("bf16", leaves)]
    assert not any(each["open"] for each in made)
    chose_as_declared(found, case)


def test_a_gpu_without_a_tensor_counter_gives_the_bytes(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    Counting.install(monkeypatch)
    monkeypatch.setattr(Counting, "tensor", None)
    can_capture(monkeypatch)
    found = CounterRun().measure(case, known(case))
    missing = Missing(reason="not measured (this GPU has no such counter)")
    assert found.step["flops_tensor"] == missing
    assert found.operators["flops_tensor"] == missing
    assert isinstance(found.step["hbm_read_bytes"], Spread)
    assert isinstance(found.operators["hbm_read_bytes"], SpreadColumn)


def test_where_the_driver_refuses_the_step_is_counted_otherwise(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    Counting.install(monkeypatch)
    monkeypatch.setattr(Counting, "refused", PermissionRefusedError("refused"))
    can_capture(monkeypatch)
    step: dict[str, Measured] = {"hbm_read_bytes": Exact(value=1, source="ncu")}

    def otherwise(of: PreparedCase, spec: str, _: object, why: Exception) -> dict[str, Measured]:
        assert (of, spec, str(why)) == (case, "the case", "refused")
        return step

    monkeypatch.setattr(counter_run, "counted_otherwise", otherwise)
    found = CounterRun().measure(case, known(case))
    assert found.step == step
    assert set(found.operators) == {"distinct"}
    chose_as_declared(found, case)


def test_counters_work_without_a_graph(case: PreparedCase, monkeypatch: pytest.MonkeyPatch) -> None:
    Counting.install(monkeypatch)
    can_capture(monkeypatch, RuntimeError("no"))
    has_agreed_names(CounterRun().measure(case, known(case)), "counters")


def test_counters_that_fail_otherwise_are_an_error_of_the_run(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    Counting.install(monkeypatch)
    monkeypatch.setattr(Counting, "refused", CounterError("the counters are busy"))
    can_capture(monkeypatch)
    for attempt in (lambda: CounterRun().measure(case, known(case)), CounterRun().self_check):
        with pytest.raises(CounterError, match="busy"):
            attempt()


# the run `energy`


def install_energy(
    monkeypatch: pytest.MonkeyPatch, found: Energy | Missing, idle: float | Missing = 110.123456
) -> list[str]:
    """The order in which idle power and energy were measured."""
    asked: list[str] = []

    def measure_idle(gpu: object) -> float | Missing:
        assert isinstance(gpu, Gpu)
        asked.append("idle")
        return idle

    def measure_energy(
        gpu: object, run: Callable[[int], object], synchronize: Callable[[], object]
    ) -> Energy | Missing:
        assert isinstance(gpu, Gpu)
        run(2)
        synchronize()
        asked.append("energy")
        return found

    monkeypatch.setattr(energy_run, "measure_idle", measure_idle)
    monkeypatch.setattr(energy_run, "measure_energy", measure_energy)
    return asked


def energy() -> Energy:
    return Energy(
        energy_j_per_step=Spread(median=2.0, q1=1.9, q3=2.1, repeats=6, source="nvml"),
        power_w=487.1234567,
        sampled_power_w=488.0,
        power_reading="instant",
        steps=100,
        seconds=3.1,
        conditions=Conditions(started=STARTED, warm_up=77),
    )


def once(watts: float) -> Spread:
    return Spread(median=watts, q1=watts, q3=watts, repeats=1, source="nvml")


def test_the_run_energy_gives_every_quantity(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = install_energy(monkeypatch, energy())
    can_capture(monkeypatch)
    found = EnergyRun().measure(case, known(case))
    has_agreed_names(found, "energy")
    assert found.step == {
        "energy_j": energy().energy_j_per_step,
        "power_w": once(487.123),
        "instant_power_w": once(488.0),
        "idle_power_w": once(110.123),
    }
    assert found.conditions == Conditions(started=STARTED, warm_up=77)
    assert found.operators == {}
    assert asked == ["idle", "energy"]


def test_idle_power_is_measured_before_the_first_load_and_never_again(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = install_energy(monkeypatch, energy())
    can_capture(monkeypatch)

    def checks(gpu: object) -> tuple[Check, ...]:
        assert isinstance(gpu, Gpu)
        asked.append("self-check")
        return ()

    monkeypatch.setattr(energy_run, "energy_checks", checks)
    self_check("energy", "cuda")
    EnergyRun().measure(case, known(case))
    EnergyRun().measure(case, known(case))
    assert asked == ["idle", "self-check", "energy", "energy"]


@pytest.mark.parametrize(("watts", "reading"), [(None, None), (488.0, "mean")])
def test_a_gpu_without_instant_power_still_counts_energy(
    case: PreparedCase,
    monkeypatch: pytest.MonkeyPatch,
    watts: float | None,
    reading: Literal["mean"] | None,
) -> None:
    """A mean of the last second is not called instant."""
    found = replace(energy(), sampled_power_w=watts, power_reading=reading)
    install_energy(monkeypatch, found)
    can_capture(monkeypatch)
    step = EnergyRun().measure(case, known(case)).step
    assert step["instant_power_w"] == Missing(
        reason="not measured (this GPU gives no instant power)"
    )
    assert step["power_w"] == once(487.123)


def test_a_gpu_without_an_energy_counter_says_so_everywhere(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = Missing(reason="this GPU has no energy counter")
    install_energy(monkeypatch, missing, idle=missing)
    can_capture(monkeypatch)
    found = EnergyRun().measure(case, known(case))
    has_agreed_names(found, "energy")
    assert set(found.step.values()) == {missing}
    assert found.conditions.warm_up == 0


def test_energy_is_of_replays_where_the_step_can_be_captured(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    install_energy(monkeypatch, energy())
    monkeypatch.setattr(PreparedCase, "run", lambda _: ran.append("eager"))
    monkeypatch.setattr(PreparedCase, "captured", lambda _: lambda: ran.append("replay"))
    EnergyRun().measure(case, known(case))
    assert ran == ["replay"] * 2
    can_capture(monkeypatch, RuntimeError("no"))
    EnergyRun().measure(case, known(case))
    assert ran == ["replay"] * 2 + ["eager"] * 2
