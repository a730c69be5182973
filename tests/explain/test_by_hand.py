"""Explanations against sums that were worked out by hand from the sizes of the papers."""

from dataclasses import replace

import pytest

from costmodel.backends import BACKENDS
from costmodel.costs.calibrations import calibrated
from costmodel.costs.latency import StepTime
from costmodel.costs.predict import Prediction, predict
from costmodel.explain.explanation import Equation, Explanation
from costmodel.explain.numbers import explain_operator, explain_step, operators_at
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import MAX_CONTEXT, Workload
from costmodel.layers.attention import Attention

DECODE = Workload(batch=64)
ULTRAMEM = "ultramemv2-1b-7b"  # 16 layers; D 2048, 16 heads of 128, F 5632, m 128, Dk 512, Dv 768


def predicted(name: str, workload: Workload = DECODE, gpu: str = "h200") -> Prediction:
    return predict(load_model(name), workload, load_hardware(gpu), calibrated(gpu))


def equations(found: Explanation) -> dict[str, Equation]:
    return {equation.name.split(" (")[0]: equation for equation in found.equations}


def letters(equation: Equation) -> dict[str, object]:
    return {letter.name: letter.value for letter in equation.letters}


def test_a_projection_of_queries_keys_and_values() -> None:
    found = explain_operator(predicted(ULTRAMEM), "layers.3.attention.qkv")
    of = equations(found)
    flops = of["model FLOPs"]
    assert flops.formula == "2 N D (H + 2 K) d"
    assert flops.values == "2 * 64 * 2048 * (16 + 2 * 16) * 128"
    assert letters(flops) == {"N": 64, "D": 2048, "H": 16, "K": 16, "d": 128}
    assert flops.result == found.value == 1_610_612_736  # 2 x 64 x 2048 x 6144
    moved = of["compulsory HBM bytes"]
    assert (moved.formula, moved.result) == ("weights", 25_165_824)  # 2 B x 2048 x 6144
    bound = of["roofline bound"]
    assert bound.values == (
        "max(25165824 / 4800000000000, 1610612736 / 989400000000000)"  # the H200's datasheet
    )
    assert bound.result == pytest.approx(5.24288e-6, rel=1e-12)  # 25,165,824 / 4.8e12
    assert of["model FLOPs of all its layers"].result == 25_769_803_776
    assert of["compulsory HBM bytes of all its layers"].result == 402_653_184
    assert found.terms is not None
    (row,) = found.terms.rows
    heads = [column.header for column in found.terms.columns]
    assert row[heads.index("priced as")] == "product of [64, 2,048] with a weight [6,144, 2,048]"
    assert found.source == "arXiv 2305.13245"


def test_a_router_of_groups_with_sigmoid_scores() -> None:
    # DeepSeek-V3: D 7168; 256 experts, 8 a token, in 8 groups that sum their 2 best scores
    found = explain_operator(predicted("deepseek-v3", Workload(batch=2)), "layers.60.moe.router")
    flops = equations(found)["model FLOPs"]
    assert flops.formula == "2 N D E + 3 N E + N E + N G (g - 1) + 2 N k"
    # a token: 2 x 7168 x 256 = 3,670,016; sigmoid 768, correction 256, groups 8, weights 16
    assert flops.result == 2 * (3_670_016 + 768 + 256 + 8 + 16)
    assert equations(found)["comparisons"].result == 2 * (256 + 256 + 8)


@pytest.mark.parametrize(
    ("model", "path", "values"),
    [
        # a query of 16 heads attends to 2048 cached tokens and itself; softmax 4 a score
        (ULTRAMEM, "attention.core", "2 * 64 * 2049 * 16 * (128 + 128) + 4 * 64 * 2049 * 16"),
        # 16 x 528^2 rows, half of them in reach: 1493^2; two ranks and cores
        (
            ULTRAMEM,
            "memory.retrieve",
            "64 * 1 * (4 * 2 * 1493 * 512 + 4 * 2 * 1493 + 2 * (2 * 128 * 2^2 + 2 * 128^2 * 2 + 128^2))",  # noqa: E501 - one formula
        ),
        # a window of 128 tokens, 64 heads of 64, and a sink a head
        (
            "gpt-oss-20b",
            "layers.0.attention.core",
            "2 * 64 * 128 * 64 * (64 + 64) + 4 * 64 * 128 * 64 + 4 * 64 * 64",
        ),
        (
            "olmoe-1b-7b",
            "moe.experts",
            "2 * 64 * 8 * 2048 * (2 * 1024 + 1024) + 5 * 64 * 8 * 1024 + 2 * 64 * 8 * 2048",
        ),
        # DeepSeek-V2-Lite: two shared experts of 1408; its queries are not compressed
        ("deepseek-v2-lite", "moe.shared_down", "2 * 64 * 2816 * 2048"),
        ("deepseek-v2-lite", "attention.latent_norm", "4 * 64 * 512"),
    ],
)
def test_formulas_with_values_read_as_worked_out_by_hand(
    model: str, path: str, values: str
) -> None:
    found = explain_operator(predicted(model), path)
    assert found.equations[0].values == values


def test_an_operator_is_found_by_its_path_that_of_a_layer_and_its_leaf() -> None:
    prediction = predicted("gpt-oss-20b")
    paths = ("layers.{0-23}.moe.router", "layers.5.moe.router", "moe.router")
    assert len({operators_at(prediction, path) for path in paths}) == 1
    assert len(operators_at(prediction, "attention.core")) == 2  # with a window and without
    assert operators_at(prediction, "layers.24.moe.router") == ()


def test_sizes_of_a_memory_layer_model() -> None:
    prediction = predicted(ULTRAMEM)
    stored = explain_step(prediction, "kv_cache.stored_bytes").equations[0]
    # 16 layers x 2 x 16 heads x 128 x 2 B x 64 sequences x 2,049 tokens
    assert (stored.formula, stored.values) == ("B (L b n)", "64 * (16 * 8192 * 2049)")
    assert stored.result == 17_188_257_792
    assert explain_step(prediction, "kv_cache.read_bytes").value == 17_179_869_184
    assert explain_step(prediction, "parameters.total").value == 6_286_989_440
    rows = explain_step(prediction, "routing.expected_distinct_rows").equations[0]
    # 1493^2 rows, 128 a token, 64 tokens: 2229049 (1 - (1 - 128/2229049)^64)
    assert rows.result == pytest.approx(8177.20, abs=5e-3)


@pytest.mark.parametrize("name", [ULTRAMEM, "llama-3.1-8b", "deepseek-v2-lite"])
def test_the_largest_batch_fits_and_one_more_does_not(name: str) -> None:
    prediction = predicted(name)
    most = explain_step(prediction, "memory.max_batch").value
    assert isinstance(most, int)
    model, gpu = prediction.model, prediction.hardware
    assert predict(model, replace(DECODE, batch=most), gpu).memory.fits
    assert not predict(model, replace(DECODE, batch=most + 1), gpu).memory.fits


def test_the_largest_context_fits_and_one_more_token_does_not() -> None:
    prediction = predicted(ULTRAMEM)
    found = explain_step(prediction, "memory.max_context")
    _, fits, one_more = found.equations
    assert (fits.result, one_more.result) == (True, False)
    held, held_after = (int(e.values.split(" <= ")[0]) for e in (fits, one_more))
    # 16 layers x 2 x 16 heads x 128 x 2 B x 64 sequences for each token cached
    assert held_after - held == 16 * 8192 * 64
    assert held <= 150_109_880_320 < held_after
    activations = prediction.memory.activations_bytes
    assert isinstance(found.value, int)
    assert held == 12_573_978_880 + 285_318_528 + activations + 16 * 8192 * 64 * (found.value + 1)


def test_a_context_without_bound_and_none_at_all_are_told() -> None:
    none = explain_step(predicted("deepseek-v3"), "memory.max_context")
    assert none.value is None
    assert "does not fit" in none.reason
    llama = load_model("llama-3.1-8b")
    assert isinstance(llama.attention, Attention)
    windowed = replace(llama, attention=replace(llama.attention, sliding_window=512))
    every = explain_step(
        predict(windowed, Workload(batch=4), load_hardware("h200")), "memory.max_context"
    )
    assert every.value == MAX_CONTEXT
    assert [equation.result for equation in every.equations] == [MAX_CONTEXT, True]


def test_a_prefill_is_launched_eagerly_and_a_decode_step_as_a_graph() -> None:
    few = Workload(phase="prefill", batch=1, context=0, new_tokens=5)
    prediction = predicted(ULTRAMEM, few)
    of = equations(explain_step(prediction, "time.predicted_s"))
    eager = of["predicted time launched eagerly"]
    values = letters(eager)
    launches, launch = values["launches"], values["launch"]
    assert isinstance(launches, int)
    assert isinstance(launch, float)
    assert eager.result == launches * launch  # of so few tokens the host is the slower
    assert isinstance(prediction.time, StepTime)
    assert of["predicted time"].result == eager.result == prediction.time.eager_s
    decode = equations(explain_step(predicted(ULTRAMEM), "time.predicted_s"))
    assert decode["predicted time"].result == decode["predicted time as a CUDA graph"].result


def test_the_energy_of_a_calculator() -> None:
    single = calibrated("h200", "h200")  # kernels, with the energy of two loops
    prediction = predict(load_model(ULTRAMEM), Workload(), load_hardware("h200"), single)
    energy, moved = explain_step(prediction, "energy.predicted_j").equations
    values = {letter.name: float(letter.value) for letter in energy.letters}
    sums = prediction.costs.totals
    other = sums.compulsory_bytes - sums.row_bytes
    rows = prediction.costs.rows.read_bytes  # those of each layer: L2 holds none for the next
    expected = other + rows + sums.activation_bytes + sums.intermediate_bytes
    assert moved.result == pytest.approx(float(expected), rel=1e-12)
    beyond = values["copy"] - values["idle"], values["gemm"] - values["idle"]
    joules = (
        values["idle"] * values["t"]
        + float(moved.result) * beyond[0] / values["copied"]
        + float(sums.flops) * beyond[1] / values["rate"]
    )
    assert energy.result == pytest.approx(min(joules, values["limit"] * values["t"]), rel=1e-12)


@pytest.mark.usefixtures("no_leaves")
def test_what_a_calibration_would_give_says_why_it_is_not_known() -> None:
    prediction = predicted("qwen3-30b-a3b", gpu="b200")
    for number in ("time.predicted_s", "energy.j_per_token", "routing.share_of_time"):
        found = explain_step(prediction, number)
        assert found.value is None
        assert found.reason == ("no calibration for GPU 'b200'; `sparsecost calibrate` makes one")


def test_operators_that_a_kernel_does_together_have_their_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(BACKENDS["torch"], "spans", (("memory.query", "memory.retrieve"),))
    prediction = predicted(ULTRAMEM)
    assert isinstance(prediction.time, StepTime)
    (region,) = prediction.time.regions
    time = explain_step(prediction, "time.predicted_s")
    assert time.terms is not None
    rows = {row[0]: row for row in time.terms.rows}
    assert rows["layers.{0-15}.memory.{query,retrieve}"][2] == region.seconds
    assert time.value == pytest.approx(sum(float(row[3] or 0) for row in rows.values()))
    shares = [
        equations(explain_operator(prediction, leaf))["predicted time as a CUDA graph"]
        for leaf in ("memory.query", "memory.retrieve")
    ]
    assert all("with other operators" in share.formula for share in shares)
    assert sum(float(share.result or 0) for share in shares) == pytest.approx(region.seconds)


def test_a_kind_that_does_not_value_a_letter_still_shows_formula_and_result() -> None:
    prediction = predicted(ULTRAMEM)
    operators = tuple(
        replace(operator, formula="2 N D unvalued") if operator.leaf == "ffn.down" else operator
        for operator in prediction.costs.operators
    )
    changed = replace(prediction, costs=replace(prediction.costs, operators=operators))
    flops = explain_operator(changed, "ffn.down").equations[0]
    assert (flops.formula, flops.values) == ("2 N D unvalued", "")
    assert flops.result == 2 * 64 * 5632 * 2048
    assert letters(flops) == {"N": 64, "D": 2048}
