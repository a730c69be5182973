"""The run `energy` with stand-ins: what is looped, in which order, and what NVML may lack."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest
import torch

from costmodel.recordings.machine import Conditions
from costmodel.recordings.measured import Missing, Spread
from costmodel.recordings.recording import Check
from profiler.instruments.energy import Energy
from profiler.runs import energy as energy_run
from profiler.runs.bench import self_check
from profiler.runs.case import PreparedCase
from profiler.runs.energy import EnergyRun
from tests.profiler.runs.gpu_runs import (
    Gpu,
    can_capture,
    has_agreed_names,
    known,
    sparse_case,
    stand_in,
)

STARTED = "2025-01-01T00:00:00Z"


@pytest.fixture(autouse=True)
def _gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, energy_run)
    energy_run.idle_power.cache_clear()


@pytest.fixture
def case() -> PreparedCase:
    return sparse_case()


def install_energy(
    monkeypatch: pytest.MonkeyPatch, answer: Energy | Missing, idle: float | Missing = 110.123456
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
        return answer

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
    result = EnergyRun().measure(case, known(case))
    has_agreed_names(result, "energy")
    assert result.step == {
        "energy_j": energy().energy_j_per_step,
        "power_w": once(487.123),
        "instant_power_w": once(488.0),
        "idle_power_w": once(110.123),
    }
    assert result.conditions == Conditions(started=STARTED, warm_up=77)
    assert result.operators == {}
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
    without_instant = replace(energy(), sampled_power_w=watts, power_reading=reading)
    install_energy(monkeypatch, without_instant)
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
    result = EnergyRun().measure(case, known(case))
    has_agreed_names(result, "energy")
    assert set(result.step.values()) == {missing}
    assert result.conditions.warm_up == 0


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


def test_out_of_memory_is_no_missing_graph(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_energy(monkeypatch, Missing(reason="unused"))
    can_capture(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        EnergyRun().measure(case, known(case))
