"""The loads whose energy is measured: they run, and say what they move and compute."""

from collections.abc import Callable

import pytest

from costmodel.costs.energy_fit import COPY, NOTHING, PRODUCT, fitted
from costmodel.recordings.machine import Conditions
from costmodel.recordings.measured import Missing, Spread
from profiler.calibrate.leaves import energy_loops
from profiler.calibrate.leaves.energy_loops import loads, measured
from profiler.instruments.energy import Energy
from tests.costs.test_energy_fit import AWAKE_W, CHIP, FLOP, READ, WRITTEN, joules, loop
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
    assert by_name["elementwise within L2, 8,192 bytes"].l2_bytes == 2 * 64 * 2**13
    square = by_name["product of 128 x 128 x 128, then 160 kernels that do nothing"]
    assert (square.flops, square.bytes_read) == (2 * 128**3, 2 * 2 * 128**2)
    one = by_name["4 products of 1 rows with weights of 256 x 256"]
    assert (one.flops, one.bytes_read) == (4 * 2 * 8 * 256**2, 4 * 2 * 256**2)


def test_the_loads_tell_all_terms_of_the_fit_apart() -> None:
    """Rates that no kernel has, so that the time is independent of bytes and FLOPs."""
    ran = [
        loop(load.name, (at_s, *work), joules=joules((at_s, *work)))
        for load, at_s in zip(
            loads(SCALE, "cpu"), (1, 3, 2, 2, 1, 2, 4, 2, 3, 1, 2, 4, 3), strict=True
        )
        for work in [(load.bytes_read, load.bytes_written, load.l2_bytes, load.flops)]
    ]
    assert fitted(ran).numbers == pytest.approx([AWAKE_W, READ, WRITTEN, CHIP, FLOP], rel=1e-6)
    names = " ".join(each.name for each in ran)
    assert all(name in names for name in (NOTHING, COPY, PRODUCT))


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
