"""The page Trade-offs: designs, limits, the front, pins and Match."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from costmodel.costs.calibrated import calibrated
from costmodel.costs.predicted import NOT_ASKED, StepTime
from costmodel.designs import evaluate
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.moe import MoeFfn
from costmodel.layers.ultramem import UltraMem
from costmodel.match import match
from costmodel.predict import predict
from dashboard import tradeoff_charts as charts
from dashboard import tradeoffs
from dashboard.own_model import model_text, read_model

ROOT = Path(__file__).parents[2]
H200 = load_hardware("h200")


def page(**query: str) -> AppTest:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    for name, value in query.items():
        at.query_params[name] = value
    at.run()
    at.switch_page("dashboard/views/tradeoffs.py")
    for name, value in query.items():  # a switch of pages drops what the first page does not bind
        at.query_params[name] = value
    at.run()
    assert not at.exception
    return at


@pytest.mark.parametrize(
    "workload", [Workload(), Workload(phase="prefill", new_tokens=100, backend="fused")]
)
def test_a_design_costs_what_predict_says(workload: Workload) -> None:
    curves, batches, contexts = calibrated("h200"), (1, 300), (0, 5000)
    models = [load_model(name) for name in model_names()]  # kept pieces must not leak between them
    found = evaluate(models, workload, H200, curves, batches=batches, contexts=contexts)
    assert found.not_predicted is None
    for i, model in enumerate(models):
        for j, batch in enumerate(batches):
            for k, context in enumerate(contexts):
                step = replace(workload, batch=batch, context=context)
                one = predict(model, step, H200, curves)
                assert isinstance(one.time, StepTime)
                expected = {
                    "parameters.total_without_embeddings": (
                        one.costs.parameters.total_without_embeddings
                    ),
                    "parameters.active_without_embeddings": (
                        one.costs.parameters.active_without_embeddings
                    ),
                    "hbm_bytes.compulsory": one.costs.totals.compulsory_bytes,
                    "flops.total": one.costs.totals.flops,
                    "kv_cache.stored_bytes": one.costs.kv_cache.stored_bytes,
                    "memory.total_bytes": one.memory.total_bytes,
                    "time.floor_s": one.floor_s,
                    "time.predicted_s": one.time.predicted_s,
                }
                got = {name: column[i, j, k] for name, column in found.columns.items()}
                assert got == pytest.approx(expected, rel=1e-12), model.name


def test_an_unknown_calibration_leaves_the_predicted_time_out_with_its_reason() -> None:
    found = evaluate(
        [load_model("olmoe-1b-7b")], Workload(), H200, NOT_ASKED, batches=(1,), contexts=(1,)
    )
    assert "time.predicted_s" not in found.columns
    assert found.not_predicted == NOT_ASKED.reason


def test_a_hundred_thousand_designs_and_workloads_take_seconds() -> None:
    """The page's promise is 2 s on an idle machine; a busy one is given more."""
    base = load_model("olmoe-1b-7b")
    start = time.perf_counter()
    made = tradeoffs.designs(
        base,
        {
            "num_experts": range(16, 116, 10),
            "num_experts_per_tok": range(1, 11),
            "moe_intermediate_size": range(256, 1276, 102),
        },
    )
    evaluate(
        made.models,
        Workload(),
        H200,
        NOT_ASKED,
        batches=[2**i for i in range(10)],
        contexts=[512 * i for i in range(10)],
    )
    assert len(made.models) == 1000
    assert time.perf_counter() - start < 8


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("64,128,256", "num_experts", (64, 128, 256)),
        ("64-256/64", "num_experts", (64, 128, 192, 256)),
        ("3-5, 5,9", "knn", (3, 4, 5, 9)),
        ("0.25,1", "share_ratio", (0.25, 1.0)),
    ],
)
def test_a_range_is_a_list_or_from_to_step(text: str, name: str, values: tuple[float]) -> None:
    assert tradeoffs.parse_range(text, name) == values


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "knn"),
        ("0", "knn"),
        ("9-3", "knn"),
        ("1-60000", "knn"),
        ("1-9/0", "knn"),
        ("=cmd()", "knn"),
        ("0", "share_ratio"),
        ("nan", "share_ratio"),
        ("1.5", "share_ratio"),
    ],
)
def test_a_range_that_is_none_is_refused_by_name(text: str, name: str) -> None:
    with pytest.raises(InputError, match=name):
        tradeoffs.parse_range(text, name)


def test_designs_that_a_rule_refuses_are_counted_with_the_rule() -> None:
    made = tradeoffs.designs(
        load_model("olmoe-1b-7b"), {"num_experts": (4, 64), "num_experts_per_tok": (2, 8)}
    )
    assert made.refused == 1  # 8 of 4
    assert "num_experts_per_tok=8" in made.reasons[0]
    assert made.values == (
        {"num_experts": 4, "num_experts_per_tok": 2},
        {"num_experts": 64, "num_experts_per_tok": 2},
        {"num_experts": 64, "num_experts_per_tok": 8},
    )
    ffn = made.models[0].ffn
    assert isinstance(ffn, MoeFfn)
    assert (ffn.num_experts, ffn.num_experts_per_tok) == (4, 2)


def test_memory_layers_are_placed_and_shared_as_asked() -> None:
    base = load_model("ultramemv2-1b-7b")
    made = tradeoffs.designs(base, {"knum": (528,), "share_ratio": (0.25,), "layers": (1, 4)})
    dense, sparse = (model.memory[0] for model in made.models)
    assert isinstance(dense, UltraMem)
    assert dense.share_ratio == 0.25
    assert [at for at, _ in dense.placement(16)] == list(range(16))
    assert [at for at, _ in sparse.placement(16)] == [0, 4, 8, 12]
    assert made.values[0] == {"share_ratio": 0.25, "layers": 1}  # knum is the base's own


def test_too_many_designs_are_refused() -> None:
    with pytest.raises(InputError, match="designs=65,536"):
        tradeoffs.designs(
            load_model("olmoe-1b-7b"),
            {"num_experts": range(1, 257), "num_experts_per_tok": range(1, 257)},
        )


def swept() -> charts.Sweep:
    """Three designs and the base at two workloads."""
    base = load_model("olmoe-1b-7b")
    made = tradeoffs.designs(base, {"num_experts": (16, 32, 128)})
    batches, contexts = (1, 64), (2048,)
    evaluated = evaluate(
        [*made.models, base], Workload(), H200, NOT_ASKED, batches=batches, contexts=contexts
    )
    return charts.Sweep(evaluated=evaluated, values=made.values, batches=batches, contexts=contexts)


def test_limits_and_the_workload_shown_leave_what_they_allow() -> None:
    sweep = swept()
    mask = charts.allowed(sweep, workload=(64, 2048), memory_gib=None, parameters_b=None)
    assert [sweep.at(int(i)) for i in np.flatnonzero(mask)] == [
        (design, 64, 2048) for design in range(3)
    ]  # not the base model, which comes last
    # 128 experts of 3 x 2048 x 1024 in 16 layers are 12.9 B parameters; 32 are 3.2 B.
    few = charts.allowed(sweep, workload=(64, 2048), memory_gib=None, parameters_b=10)
    assert [sweep.at(int(i))[0] for i in np.flatnonzero(few)] == [0, 1]
    small = charts.allowed(sweep, workload=None, memory_gib=5, parameters_b=None)  # 3.2 GB + KV
    assert {sweep.at(int(i))[:2] for i in np.flatnonzero(small)} == {(0, 1)}


def test_more_parameters_are_better_and_fewer_bytes() -> None:
    sweep = swept()
    mask = charts.allowed(sweep, workload=(1, 2048), memory_gib=None, parameters_b=None)
    best = charts.front(sweep.evaluated, "total parameters", "HBM bytes", mask)
    # One token reads 8 experts whatever their number, and a larger router: all stand.
    assert [sweep.at(int(i))[0] for i in best] == [0, 1, 2]
    least = charts.front(sweep.evaluated, "memory", "HBM bytes", mask)
    assert [sweep.at(int(i))[0] for i in least] == [0]


def test_the_front_is_a_line_of_stars_and_the_base_model_a_cross() -> None:
    sweep = swept()
    mask = charts.allowed(sweep, workload=(1, 2048), memory_gib=None, parameters_b=None)
    best = charts.front(sweep.evaluated, "total parameters", "HBM bytes", mask)
    figure = charts.scatter(
        sweep,
        mask,
        best,
        x="total parameters",
        y="HBM bytes",
        coloured="memory",
        logarithmic=True,
    )
    designs, front, base = figure.data
    assert len(designs.x) == 3
    assert (front.mode, front.marker.symbol) == ("lines+markers", "star")
    assert base.marker.symbol == "x-open"
    assert list(base.text) == ["the model itself; batch 1, context 2,048"]
    published = predict(load_model("olmoe-1b-7b"), Workload(batch=1), H200)
    assert base.y[0] == pytest.approx(float(published.costs.totals.compulsory_bytes) / 1e9)


def test_a_pinned_design_is_offered_by_compare() -> None:
    at = page(model="olmoe-1b-7b", to_num_experts="16,32")
    option = at.multiselect(key="to_pins").options[0]
    at.multiselect(key="to_pins").set_value([option]).run()
    at.button(key="to_pin").click().run()
    (name,) = at.session_state["pinned"]
    assert "num_experts=16" in name
    ffn = read_model(at.session_state["pinned"][name]).ffn
    assert isinstance(ffn, MoeFfn)
    assert ffn.num_experts == 16
    at.switch_page("dashboard/views/compare.py").run()
    at.multiselect(key="cmp_models").set_value(["olmoe-1b-7b", name]).run()
    assert not at.exception
    assert "num\\_experts=16" in at.title[0].value


def test_pinned_designs_read_back_as_they_were() -> None:
    base = load_model("ultramemv2-1b-7b")
    made = tradeoffs.designs(base, {"layers": (4,), "knn": (64,)})
    model = tradeoffs.named(base, made.models[0], tradeoffs.label(made.values[0]))
    assert read_model(model_text(model)) == model


@pytest.mark.parametrize("name", model_names())
def test_the_page_draws_for_every_preset(name: str) -> None:
    at = page(model=name)
    assert at.selectbox(key="model").value == name
    assert not at.error
    assert at.metric or "neither experts nor memory layers" in at.info[0].value


def test_a_broken_range_and_an_impossible_limit_are_told() -> None:
    assert "knn" in page(to_knn="1-").error[0].value
    assert (
        "workloads"
        in page(
            to_batch=",".join(map(str, range(1, 41))), to_context=",".join(map(str, range(1, 41)))
        )
        .error[0]
        .value
    )
    at = page(to_gib="1")
    assert "loosen a limit" in at.info[0].value


def test_match_shows_the_sizes_that_sparsecost_match_finds() -> None:
    at = page(to_what="match")
    found = match(load_model("olmoe-1b-7b"), load_model("ultramemv2-1b-7b"))
    shown = [each.value for each in at.metric]
    assert shown[:2] == [f"{after:,}" for _, after in found.fields.values()]
    assert shown[2] == f"{found.found.parameters - found.wanted.parameters:+,}"
    assert at.get("download_button")


def test_match_that_nothing_reaches_is_told() -> None:
    at = page(to_what="match", to_template="llama-3.1-8b")
    assert "neither experts nor memory layers" in at.error[0].value
