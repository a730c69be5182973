"""The loads whose energy is measured: they run, and say what they move and compute."""

from collections.abc import Callable

import pytest

from costmodel.recordings.machine import Conditions
from costmodel.recordings.measured import Missing, Spread
from profiler.calibrate.leaves import energy_loops
from profiler.calibrate.leaves.energy_loops import loads, measured
from profiler.instruments.energy import Energy
from tests.profiler.runs.gpu_runs import Gpu

SCALE = 1 / 1024


def test_every_load_runs_and_has_a_name_of_its_own() -> None:
    names = []
    for load in loads(SCALE, "cpu"):
        load.round()
        names.append(load.name)
    assert len(set(names)) == len(names) == 13


def test_loads_say_what_they_move() -> None:
    """2^29 / 1,024 elements of 2 bytes are streamed; within L2, 2^22 / 1,024, 64 times."""
    by_name = {load.name: load for load in loads(SCALE, "cpu")}
    copy, total, fill = (by_name[name] for name in ("copy", "sum", "fill"))
    assert (copy.bytes_read, copy.bytes_written) == (2**20, 2**20)
    assert (total.bytes_read, total.bytes_written) == (2**20, 0)
    assert (fill.bytes_read, fill.bytes_written) == (0, 2**20)
    assert by_name["elementwise within L2"].l2_bytes == 2 * 64 * 2**13
    square = by_name["product of 256 x 256 x 256"]
    assert (square.flops, square.bytes_read) == (2 * 256**3, 2 * 2 * 256**2)
    one = by_name["4 products of 1 rows with weights of 256 x 256"]
    assert (one.flops, one.bytes_read) == (4 * 2 * 256**2, 4 * 2 * 256**2)


def test_energy_is_of_one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def measure(gpu: object, run: Callable[[int], None], synchronize: object) -> Energy:
        assert isinstance(gpu, Gpu)
        assert callable(synchronize)
        run(3)
        spread = Spread(median=0.5, q1=0.5, q3=0.5, repeats=5, source="nvml")
        return Energy(
            energy_j_per_step=spread,
            power_w=250.0,
            sampled_power_w=None,
            power_reading=None,
            steps=1500,
            seconds=3.0,
            conditions=Conditions(started="2026-01-02T03:04:05Z", warm_up=1),
        )

    monkeypatch.setattr(energy_loops, "measure_energy", measure)
    load = energy_loops.Load(name="a load", round=lambda: ran.append(1), bytes_read=7)
    loop = measured(load, Gpu())  # type: ignore[arg-type]
    assert not isinstance(loop, Missing)
    assert (loop.round_s, loop.bytes_read, len(ran)) == (0.002, 7, 3)
    assert loop.power_w == Spread(median=250, q1=250, q3=250, repeats=1, source="nvml")
    monkeypatch.setattr(energy_loops, "measure_energy", lambda *_: Missing(reason="no counter"))
    assert measured(load, Gpu()) == Missing(reason="no counter")  # type: ignore[arg-type]
