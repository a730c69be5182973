"""The batch that meets a target, against serving every batch; and the memory that may be used."""

from dataclasses import replace

import pytest

from costmodel.costs.calibrations import calibrated
from costmodel.costs.latency import NOT_ASKED
from costmodel.costs.predict import predict
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.memory_limit import limited, load_limited
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import Mesh
from costmodel.questions.request import Request, serve
from costmodel.questions.target_batch import Target, target_batch
from tests.steps import tiny_model

H200 = load_hardware("h200")
OLMOE = load_model("olmoe-1b-7b")
REQUEST = Request(prompt=2048, output=8)


def test_the_batch_is_the_last_that_meets_the_target() -> None:
    """Every batch served one by one: by bounds, which rise with the batch."""
    request, gpu = (
        Request(prompt=64, output=4),
        replace(H200, capacity_bytes=2**20, hbm_bytes_per_s=1e9),
    )
    model = tiny_model()
    times = []
    for batch in range(1, 400):
        served = serve(model, replace(request, batch=batch), Workload(), gpu)
        if not served.fits:
            break
        assert isinstance(served.tpot_s.floor, float)
        times.append(served.tpot_s.floor)
    assert 20 < len(times) < 399
    for place in (0, 7, len(times) - 2):
        found = target_batch(model, request, Workload(), gpu, Target(tpot_s=times[place]))
        assert (found.batch, found.limited_by, found.basis) == (place + 1, "tpot_s", "floor")
        assert found.memory_batch == len(times)
    every = target_batch(model, request, Workload(), gpu, Target(tpot_s=1.0))
    assert (every.batch, every.limited_by) == (len(times), "memory")
    none = target_batch(model, request, Workload(), gpu, Target(tpot_s=1e-6))
    assert none.batch == 0
    assert "no batch" in none.sentence()


def test_predicted_times_are_used_where_they_are_known_and_each_target_counts() -> None:
    curves = calibrated("h200", None)
    by_both = Target(ttft_s=0.3, tpot_s=10.0)
    found = target_batch(OLMOE, REQUEST, Workload(), H200, by_both, calibration=curves)
    assert (found.basis, found.limited_by) == ("predicted", "ttft_s")
    first, over = found.served.ttft_s.predicted, found.over
    assert isinstance(first, float)
    assert over is not None
    assert isinstance(over.ttft_s.predicted, float)
    assert first <= 0.3 < over.ttft_s.predicted
    assert f"{found.batch:,} requests at once, by predicted times" in found.sentence()
    bound = target_batch(OLMOE, REQUEST, Workload(), H200, by_both, calibration=NOT_ASKED)
    assert bound.batch > found.batch
    assert "upper limit" in bound.sentence()


def test_a_model_that_does_not_fit_has_no_batch() -> None:
    large = load_model("deepseek-v3")
    found = target_batch(large, REQUEST, Workload(), H200, Target(tpot_s=1.0))
    assert (found.batch, found.memory_batch) == (0, 0)
    assert "Not one such request fits" in found.sentence()


@pytest.mark.parametrize("value", [0.0, -1.0, 1e9, float("nan")])
def test_a_target_has_bounds(value: float) -> None:
    with pytest.raises(InputError, match="target_tpot"):
        Target(tpot_s=value)


def test_a_target_is_asked_for_and_sought_on_one_gpu() -> None:
    with pytest.raises(InputError, match="ttft or tpot"):
        Target()
    meshed = Workload(mesh=Mesh(tp=2))
    with pytest.raises(InputError, match="one GPU"):
        target_batch(OLMOE, REQUEST, meshed, H200, Target(tpot_s=1.0))


def test_the_memory_that_may_be_used_is_the_capacity() -> None:
    """0.9 of 150,110,011,392 bytes less 4 GiB, by hand."""
    gpu = load_limited("h200", "0.9", "4GiB")
    assert gpu.capacity_bytes == H200.capacity_bytes * 9 // 10 - 4 * 2**30
    assert gpu.name == f"{H200.name}, 0.9 of its memory less 4.00 GiB"
    all_of_it, some = (predict(OLMOE, Workload(), one).memory for one in (H200, gpu))
    assert some.kv_room_bytes - all_of_it.kv_room_bytes == gpu.capacity_bytes - H200.capacity_bytes
    assert some.max_batch < all_of_it.max_batch
    assert limited(H200) is H200
    assert load_limited("h200", None, None) == H200


@pytest.mark.parametrize(
    ("share", "reserve", "field"),
    [
        ("0", None, "memory_fraction"),
        ("1.1", None, "memory_fraction"),
        ("nan", None, "memory_fraction"),
        (None, "4", "memory_reserve"),
        (None, "500GiB", "memory_reserve"),
    ],
)
def test_limits_that_break_a_rule_are_named(
    share: str | None, reserve: str | None, field: str
) -> None:
    with pytest.raises(InputError, match=field):
        load_limited("h200", share, reserve)
