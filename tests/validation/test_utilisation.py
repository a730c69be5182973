"""Bandwidth, MBU, MFU and routing cost of a measured step, worked out by hand.

The model of test_bounds.py; 9 experts are touched, so 5448 bytes are read, 70 written.
"""

import pytest

from costmodel.costs.gpu import Gpu
from costmodel.costs.latency import StepTime, Unknown
from costmodel.inputs.model import ModelConfig
from costmodel.recordings.measured import NOT_IN_RUN
from costmodel.recordings.recording import Case
from costmodel.validation.case_prediction import predict_case
from costmodel.validation.join import NO_RUN
from costmodel.validation.machines import Gpus
from costmodel.validation.utilisation import (
    NO_DATASHEET,
    NO_DIVISOR,
    NO_GAP,
    NO_ROUTING,
    PredictedUtilisation,
    Utilisation,
    measured_utilisation,
    predicted_utilisation,
)
from tests.recording_values import CPU, H200, case, leaf_paths, recording, run, session, workload
from tests.validation.tiny import DENSE, MOE, ROUTERS

PATHS = leaf_paths(MOE)
COMPULSORY = 5448 + 70
# A layer: qkv 256, rope 36, attention core 160, output 128, norms 40 + 40 (the first 32), router
# 160, experts 880; final norm 40, head 176
FLOPS = 3 * (256 + 36 + 160 + 128 + 80 + 160 + 880) - 8 + 40 + 176


def of(one: Case, model: ModelConfig = MOE, *, cpu: bool = False) -> Utilisation:
    made = recording(model, one, sessions=(session(CPU if cpu else H200),))
    return measured_utilisation(made, 0, Gpus("none"))


def routers(*values: float) -> list[float | None]:
    given = dict(zip(ROUTERS, values, strict=True))
    return [given.get(path) for path in PATHS]


def full(**step: float) -> Case:
    time = {"graph_s": 2e-6, "eager_s": 5e-6} | step
    return case(
        time=run(time, {"distinct": routers(2, 3, 4), "flops_counted": routers(128, 128, 128)}),
        trace=run(
            {"kernel_s": 1e-6, "launches": 40},
            {"kernel_s": routers(1e-7, 2e-7, 1e-7), "launches": routers(7, 7, 8)},
        ),
        counters=run(
            {"hbm_read_bytes": 8000.0, "hbm_written_bytes": 2000.0},
            {"hbm_read_bytes": [100.0] * len(PATHS), "hbm_written_bytes": routers(1, 2, 3)},
        ),
    )


def test_rates_are_of_the_graph() -> None:
    found = of(full())
    assert found.time_of == "graph_s"
    assert found.tokens_per_s.value == pytest.approx(1 / 2e-6)
    assert found.hbm_bytes_per_s.value == pytest.approx(10_000 / 2e-6)
    assert found.flops_per_s.value == pytest.approx(FLOPS / 2e-6)
    assert found.mbu.value == pytest.approx(COMPULSORY / 2e-6 / 4.8e12)
    assert found.mfu.value == pytest.approx(FLOPS / 2e-6 / 989.5e12, rel=1e-3)


def test_rates_are_of_the_eager_step_where_there_is_no_graph() -> None:
    found = of(case(workload(batch=4), time=run({"graph_s": "no graph", "eager_s": 1e-3})))
    assert found.time_of == "eager_s"
    assert found.tokens_per_s.value == 4 / 1e-3
    assert found.hbm_bytes_per_s.value is None
    assert found.hbm_bytes_per_s.reason == NO_RUN


def test_bytes_that_no_counter_splits_do_as_well() -> None:
    counters = run({"hbm_read_bytes": "refused", "hbm_bytes": 9000.0})
    found = of(case(time=run({"graph_s": 1e-6}), counters=counters))
    assert found.hbm_bytes_per_s.value == pytest.approx(9000 / 1e-6)


def test_routing_is_the_leaves_that_only_choose() -> None:
    found = of(full())
    assert found.routing_kernel_s.value == pytest.approx(4e-7)
    assert found.routing_share.value == pytest.approx(0.4)
    assert found.routing_launches.value == 22
    assert found.routing_flops.value == 384
    assert found.routing_hbm_bytes.value == 3 * 100 + 6


def test_reads_of_the_leaves_stand_beside_those_of_the_step() -> None:
    found = of(full())
    assert found.leaves_read_bytes.value == 100 * len(PATHS)
    assert found.leaves_over_step.value == pytest.approx(100 * len(PATHS) / 8000)


def test_the_gap_per_kernel_is_what_the_graph_takes_beyond_its_kernels() -> None:
    """40 kernels of 1 us together in a graph of 2 us: 25 ns before each. None if they overlap."""
    assert of(full()).gap_per_kernel_s.value == pytest.approx(25e-9)
    overlapping = of(full(graph_s=0.9e-6)).gap_per_kernel_s
    assert (overlapping.value, overlapping.reason) == (None, NO_GAP)
    assert of(case(time=run({"graph_s": 1e-6}))).gap_per_kernel_s.reason == NO_RUN


def test_what_is_missing_says_why() -> None:
    launches = run(operators={"launches": [1] * len(leaf_paths(DENSE))})
    dense = of(case(time=run({"eager_s": 1e-3}), trace=launches), DENSE)
    assert dense.routing_launches.reason == NO_ROUTING
    bare = of(case(lacking=dict.fromkeys(("time", "trace"), "out of memory")))
    assert bare.tokens_per_s.reason == bare.routing_kernel_s.reason == "out of memory"
    assert of(case(time=run())).mbu.reason == NOT_IN_RUN
    assert of(full(), cpu=True).mbu.reason == NO_DATASHEET
    assert of(full(), cpu=True).tokens_per_s.value is not None
    assert of(full(graph_s=0.0)).tokens_per_s.reason == NO_DIVISOR
    assert of(full(graph_s=5e-324)).mfu.reason == NO_DIVISOR


def test_a_prediction_is_expected_to_achieve_the_same_figures() -> None:
    """The FLOPs are those counted above, the router is the only leaf that routes alone."""
    side = predict_case(recording(MOE, full()), full(), Gpus().of("NVIDIA H200"))
    times = side.times
    assert isinstance(times, StepTime)
    routers_s = sum(
        operator.count * (float(time.seconds) - 7 * 0.31e-6)  # 7 kernels, a pause before each
        for operator, time in zip(side.costs.operators, times.operators, strict=True)
        if operator.path.endswith(".moe.router")
    )
    compulsory = float(side.costs.totals.compulsory_bytes)
    for time_of, t in (("graph_s", float(times.graph_s)), ("eager_s", float(times.eager_s))):
        found = predicted_utilisation(side, time_of)
        assert found.tokens_per_s == pytest.approx(1 / t)
        assert found.mbu == pytest.approx(compulsory / t / 4.8e12)
        assert found.mfu == pytest.approx(FLOPS / t / 989.5e12, rel=1e-3)
        assert found.routing_kernel_s == pytest.approx(routers_s)
        assert found.routing_share == pytest.approx(routers_s / float(side.kernel_s))
    assert routers_s < float(times.routing_s)  # experts sort and combine as well


def test_nothing_is_expected_without_a_time_or_of_routing_that_is_not_there() -> None:
    made = recording(DENSE, case())
    without_gpu = predict_case(made, case(), None)
    assert predicted_utilisation(without_gpu, "graph_s") == PredictedUtilisation()
    dense = predicted_utilisation(predict_case(made, case(), Gpus().of("NVIDIA H200")), "graph_s")
    assert dense.mbu is not None
    assert dense.routing_kernel_s is dense.routing_share is dense.routing_launches is None
    assert dense.routing_hbm_bytes is dense.routing_flops is None


@pytest.mark.parametrize("gpu", [None, Gpus("none").of("NVIDIA H200")])
def test_routing_is_expected_of_the_leaves_that_only_choose_even_without_a_time(
    gpu: Gpu | None,
) -> None:
    """By hand, of three routers of 8 experts, hidden size 8, one token, bf16.

    Each reads 8 x 8 weights of 2 bytes and multiplies them by one token. It launches a product,
    a softmax, a top-k of 2 kernels, the weights of the chosen and two casts.
    """
    found = predicted_utilisation(predict_case(recording(MOE, full()), full(), gpu), "graph_s")
    assert found == PredictedUtilisation(
        routing_launches=3 * 7, routing_hbm_bytes=3 * 8 * 8 * 2, routing_flops=3 * 2 * 8 * 8
    )


def test_a_prefill_has_the_throughput_of_all_its_tokens() -> None:
    prefill = case(workload(phase="prefill", batch=3, context=0, new_tokens=5))
    predicted = predict_case(recording(DENSE, prefill), prefill, Gpus().of("NVIDIA H200"))
    assert not isinstance(predicted.times, Unknown)
    rate = predicted_utilisation(predicted, "graph_s").tokens_per_s
    assert rate is not None
    assert rate * float(predicted.times.graph_s) == pytest.approx(3 * 5, rel=1e-12)
