"""The page Trade-offs: designs, limits, the front, pins and Match."""

from functools import partial

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from costmodel import units
from costmodel.costs.calibrations import calibrated
from costmodel.costs.latency import NOT_ASKED, Unknown
from costmodel.costs.predict import predict
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.moe import MoeFfn
from costmodel.layers.ultramem import UltraMem
from costmodel.questions.designs.evaluate import evaluate
from costmodel.questions.match import match
from costmodel.questions.match_differences import differences
from dashboard.app.own_model import model_text, read_model
from dashboard.pages.tradeoffs import data as tradeoffs
from dashboard.pages.tradeoffs.charts import ratio_alt, ratio_chart, scatter
from dashboard.pages.tradeoffs.match import cost_sentence
from dashboard.pages.tradeoffs.sweep import Sweep, allowed, front
from tests.dashboard.pages import opened
from tests.sentences import says

pytestmark = pytest.mark.slow  # most tests draw the page

H200 = load_hardware("h200")

page = partial(opened, "tradeoffs")


def field(name: str) -> tradeoffs.SweptField:
    """A field that the presets let vary."""
    models = load_model("olmoe-1b-7b"), load_model("ultramemv2-1b-7b")
    fields = [field for model in models for field in tradeoffs.swept_fields(model)]
    return next(field for field in fields if field.name == name)


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
    assert tradeoffs.parse_range(text, field(name)) == values


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
        tradeoffs.parse_range(text, field(name))


@pytest.mark.parametrize("text", ["16..128", "16-128/0", "16-128/x", "70000"])
def test_a_broken_range_is_named_as_typed_with_what_is_taken(text: str) -> None:
    rule = "must be a whole number from 1 to 65,536, or from-to/step of such (64-256/64)"
    with pytest.raises(InputError) as caught:
        tradeoffs.parse_range(f"8,{text}", field("num_experts"))
    assert str(caught.value) == f"num_experts='{text}': {rule}"


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


def swept() -> Sweep:
    """Three designs and the base at two workloads."""
    base = load_model("olmoe-1b-7b")
    made = tradeoffs.designs(base, {"num_experts": (16, 32, 128)})
    batches, contexts = (1, 64), (2048,)
    evaluated = evaluate(
        [*made.models, base], Workload(), H200, NOT_ASKED, batches=batches, contexts=contexts
    )
    return Sweep(evaluated=evaluated, values=made.values, batches=batches, contexts=contexts)


def test_limits_and_the_workload_shown_leave_what_they_allow() -> None:
    sweep = swept()
    mask = allowed(sweep, workload=(64, 2048), limits={})
    assert [sweep.at(int(i)) for i in np.flatnonzero(mask)] == [
        (design, 64, 2048) for design in range(3)
    ]  # not the base model, which comes last
    # 128 experts of 3 x 2048 x 1024 in 16 layers are 12.9 B parameters; 32 are 3.2 B.
    few = allowed(sweep, workload=(64, 2048), limits={"total parameters": 10})
    assert [sweep.at(int(i))[0] for i in np.flatnonzero(few)] == [0, 1]
    small = allowed(sweep, workload=None, limits={"memory": 5})  # 3.2 GB + KV
    assert {sweep.at(int(i))[:2] for i in np.flatnonzero(small)} == {(0, 1)}


EXPERTS_A_TOKEN = {
    "model": "olmoe-1b-7b",
    "batch": "1",
    "to_num_experts": "64",
    "to_num_experts_per_tok": "4,8,16",
}


def within(at: AppTest) -> str:
    """How many designs are within the limits."""
    return next(element.value for element in at.metric if element.label == "Within the limits")


def button(at: AppTest) -> str:
    """What the button says that holds the limits' sliders."""
    popover = next(
        element.proto for element in at.main if element.proto and element.type == "popover"
    )
    return str(popover.popover.label)


def test_a_link_limits_active_parameters_and_the_button_says_so() -> None:
    """Attention is 16 x 4 x 2048^2 = 0.268 B, routers 2 M, each expert a token 0.1007 B.

    So 0.67 B with 4 experts a token, 1.08 B with 8, 1.88 B with 16.
    """
    pages = {
        most: page(**EXPERTS_A_TOKEN, to_active=most) for most in ("0.5", "0.7", "1.5", "no limit")
    }
    assert [within(at) for at in pages.values()] == ["0", "1", "2", "3"]
    assert [button(at) for at in pages.values()] == ["Limits: 1 set"] * 3 + ["Limits: none set"]


def test_a_link_limits_predicted_time_beside_the_others() -> None:
    times_ms = []
    for k in (4, 8, 64):
        base = load_model("olmoe-1b-7b")
        model = tradeoffs.design(base, {"num_experts_per_tok": k})
        time = predict(model, Workload(batch=1), H200, calibrated("h200")).time
        assert not isinstance(time, Unknown)
        times_ms.append(1000 * float(time.predicted_s))
    assert 3 < times_ms[0] < times_ms[1] < 5 < times_ms[2] < 10  # so that the limits tell apart
    designs = EXPERTS_A_TOKEN | {"to_num_experts_per_tok": "4,8,64"}
    for most, left in ((3, "0"), (5, "2"), (10, "3")):
        at = page(**designs, to_ms=f"{most}", to_gib="141")
        assert within(at) == left
        assert button(at) == "Limits: 2 set"


@pytest.mark.usefixtures("no_leaves")
def test_a_limit_that_is_not_offered_is_none_and_time_has_none_where_it_is_not_predicted() -> None:
    at = page(**EXPERTS_A_TOKEN, to_gib="7", to_ms="x")
    assert (within(at), button(at)) == ("3", "Limits: none set")
    at = page(**EXPERTS_A_TOKEN, gpu="b200", to_ms="0.1")
    assert (within(at), button(at)) == ("3", "Limits: none set")
    assert "to_ms" not in [element.key for element in at.select_slider]
    assert any("no calibration for GPU" in element.value for element in at.caption)


def test_more_parameters_are_better_and_fewer_bytes() -> None:
    sweep = swept()
    mask = allowed(sweep, workload=(1, 2048), limits={})
    best = front(sweep, "total parameters", "HBM bytes", mask)
    # One token reads 8 experts whatever their number, and a larger router: all stand.
    assert [sweep.at(int(i))[0] for i in best] == [0, 1, 2]
    least = front(sweep, "memory", "HBM bytes", mask)
    assert [sweep.at(int(i))[0] for i in least] == [0]


def test_the_front_is_a_line_of_stars_and_the_base_model_a_cross() -> None:
    sweep = swept()
    mask = allowed(sweep, workload=(1, 2048), limits={})
    best = front(sweep, "total parameters", "HBM bytes", mask)
    figure = scatter(
        sweep,
        mask,
        best,
        x="total parameters",
        y="HBM bytes",
        coloured="memory",
        logarithmic=True,
    )
    designs, best_line, base = figure.data
    assert len(designs.x) == 3
    assert (best_line.mode, best_line.marker.symbol) == ("lines+markers+text", "star")
    assert base.marker.symbol == "x-open"
    assert list(base.text) == ["the model itself, batch 1"]  # all have one context
    assert list(best_line.text) == [f"num_experts={n}, batch 1" for n in (16, 32, 128)]
    published = predict(load_model("olmoe-1b-7b"), Workload(batch=1), H200)
    assert base.y[0] == pytest.approx(float(published.costs.totals.compulsory_bytes) / 1e9)


def test_a_front_of_many_points_is_thinned_and_the_page_says_so() -> None:
    """With more width come more of both parameters, whatever the workload: all points stand."""
    assert tradeoffs.spread(np.arange(100), 4).tolist() == [0, 33, 66, 99]
    assert tradeoffs.spread(np.arange(3), 4).tolist() == [0, 1, 2]
    at = page(
        model="olmoe-1b-7b",
        to_num_experts="64",
        to_num_experts_per_tok="8",
        to_moe_intermediate_size="16-640/16",
        to_batch=",".join(str(batch) for batch in range(1, 21)),
        to_context="0,1,2,3,4,5,6,7",
        to_y="active parameters",
        to_at="all",
    )
    assert [element.value for element in at.metric] == ["40", "6,400", "6,400", "6,400"]
    assert len(at.dataframe[0].value) == 1000
    drawn, listed = (element.value for element in at.caption[1:])  # the first is of the limits
    assert says(drawn, 5000, 6400)
    assert says(listed, 6400, 1000)


def test_a_sample_has_points_of_every_workload() -> None:
    """Every 20th of designs x 20 workloads would be of one workload."""
    drawn = tradeoffs.sample(np.arange(100_000), 5000)
    assert len(np.unique(drawn)) == 5000
    assert np.all(np.diff(drawn) > 0)
    of_each = np.bincount(drawn % 20, minlength=20)
    assert of_each.min() > 150  # 250 are expected, with a standard deviation of 15
    assert of_each.max() < 350
    np.testing.assert_array_equal(drawn, tradeoffs.sample(np.arange(100_000), 5000))
    assert tradeoffs.sample(np.arange(7), 7).tolist() == list(range(7))


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
    at.switch_page("dashboard/pages/compare/page.py").run()
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
    assert "limits" in at.info[0].value


def test_a_sweep_of_transferred_times_says_so() -> None:
    at = page(model="olmoe-1b-7b", dtype="fp8", to_y="predicted time")
    said = " ".join(one.value for one in at.info).replace("\\", "")
    assert "transferred from h200: not measured in these formats" in said


@pytest.mark.usefixtures("no_leaves")
@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"dtype": "fp8", "to_y": "predicted time"}, "calibrations are measured in bf16"),
        ({"to_num_experts": "4", "to_num_experts_per_tok": "8"}, "Every design breaks a rule"),
    ],
)
def test_a_sweep_without_points_says_why(query: dict[str, str], told: str) -> None:
    at = page(model="olmoe-1b-7b", **query)
    assert [element.value for element in at.title] == ["Nothing to draw"]
    assert told in at.info[0].value


def test_match_shows_the_sizes_that_sparsecost_match_finds() -> None:
    at = page(to_what="match", model="olmoe-1b-7b")  # the target, and its other kind
    answer = match(load_model("olmoe-1b-7b"), load_model("ultramemv2-1b-7b"))
    shown = [element.value for element in at.metric]
    assert shown[:2] == [f"{after:,}" for _, after in answer.fields.values()]
    off = 100 * (answer.reached.parameters - answer.wanted.parameters) / answer.wanted.parameters
    assert shown[2] == f"{off:+.3f} %"
    assert at.get("download_button")


def test_match_says_how_costs_of_equal_sizes_differ() -> None:
    target, template = load_model("olmoe-1b-7b"), load_model("ultramemv2-1b-7b")
    answer = match(target, template)
    lines = differences(answer, H200)
    figure = ratio_chart(answer, lines)
    drawn = {
        (trace.name, name): ratio
        for trace in figure.data
        for name, ratio in zip(trace.y, trace.x, strict=True)
    }
    flops_per_token = STEP_QUANTITIES["flops.per_token"].label
    assert drawn["any batch", flops_per_token] == answer.flops_ratio
    for batch in (1, 64, 1024):
        one, other = (
            predict(model, Workload(batch=batch), H200) for model in (target, answer.model)
        )
        ratio = other.floor_s / one.floor_s
        bound = STEP_QUANTITIES["time.floor_s"].label
        assert drawn[f"batch {batch:,}", bound] == pytest.approx(ratio)
        assert f"{units.ratio(ratio)} at batch {batch:,}" in cost_sentence(lines, "a GPU")
    assert ("batch 1", STEP_QUANTITIES["hbm_bytes.weights"].label) in drawn
    rows = STEP_QUANTITIES["hbm_bytes.table_rows"].label
    assert ("batch 1", rows) not in drawn  # the target has none: no ratio
    assert f"{units.ratio(max(drawn.values()))}." in ratio_alt(answer, lines)


def test_match_that_nothing_reaches_is_told() -> None:
    at = page(to_what="match", to_template="llama-3.1-8b")
    assert "neither experts nor memory layers" in at.error[0].value
    assert [element.value for element in at.title] == ["No match was found"]


def said(at: AppTest) -> str:
    """The heading, as it reads."""
    return str(at.title[0].value).replace("\\", "")


def test_the_heading_names_the_cheapest_design_of_the_models_own_parameters() -> None:
    """Fewer experts a token leave the parameters as they are; at batch 1 fewer are then read."""
    half = tradeoffs.design(load_model("olmoe-1b-7b"), {"num_experts_per_tok": 4})
    moved, own = (
        float(predict(model, Workload(batch=1), H200).costs.totals.compulsory_bytes)
        for model in (half, load_model("olmoe-1b-7b"))
    )
    assert said(page(**EXPERTS_A_TOKEN)) == (
        "num_experts_per_tok=4 is the cheapest within 1 % of OLMoE-1B-7B's parameters:"
        f" {units.significant(moved / 1e9, 4)} GB of compulsory HBM bytes,"
        f" {units.ratio(moved / own)} the model's own"
    )
    # the predicted time of a step is the other cost: its heading follows the axis
    assert "of roofline bound" in said(page(**EXPERTS_A_TOKEN, to_y="roofline bound"))


def test_the_heading_says_so_where_no_design_has_the_models_own_parameters() -> None:
    heading = said(page(model="olmoe-1b-7b", batch="1", to_num_experts="32,128"))
    assert heading.startswith("num_experts=32")
    assert "needs the least of" in heading
    assert heading.endswith("none but the model itself is within 1 % of its parameters")


def test_a_size_on_an_axis_has_the_best_design_at_each_of_its_values() -> None:
    at = page(
        model="olmoe-1b-7b",
        batch="1",
        to_num_experts="16,32",
        to_num_experts_per_tok="4,8",
        to_x="num_experts",
    )
    listed = at.dataframe[0].value
    assert list(listed["num_experts"]) == [16, 32]
    assert list(listed["num_experts_per_tok"]) == [4, 4]  # fewer experts are read
    assert any(heading.value == "Best at each num\\_experts" for heading in at.subheader)


def test_axes_begin_at_zero_or_say_how_far_apart_their_points_are() -> None:
    sweep = swept()
    mask = allowed(sweep, workload=(1, 2048), limits={})
    best = front(sweep, "total parameters", "HBM bytes", mask)
    draw = partial(
        scatter, sweep, mask, best, x="total parameters", y="HBM bytes", coloured="memory"
    )
    zero = draw(logarithmic=False).layout
    assert (zero.xaxis.rangemode, zero.yaxis.rangemode) == ("tozero", "tozero")
    assert "apart" not in zero.yaxis.title.text
    near = draw(logarithmic=False, from_zero=False).layout
    assert near.yaxis.rangemode is None
    moved = [
        float(predict(model, Workload(batch=1), H200).costs.totals.compulsory_bytes)
        for model in (
            tradeoffs.design(load_model("olmoe-1b-7b"), {"num_experts": n}) for n in (16, 32, 128)
        )
    ]
    apart = f"points up to {100 * (max(moved) / min(moved) - 1):.3g} % apart)"
    assert near.yaxis.title.text.endswith(f"(not from 0, {apart}")
    assert draw(logarithmic=True).layout.yaxis.title.text.endswith(f"(logarithmic, {apart}")


def test_a_pin_is_what_compare_opens_with() -> None:
    at = page(model="olmoe-1b-7b", to_num_experts="16,32")
    option = at.multiselect(key="to_pins").options[0]
    at.multiselect(key="to_pins").set_value([option]).run()
    at.button(key="to_pin").click().run()
    at.switch_page("dashboard/pages/compare/page.py").run()
    assert not at.exception
    (pinned,) = at.session_state["pinned"]
    assert at.multiselect(key="cmp_models").value == ["olmoe-1b-7b", pinned]
    at.multiselect(key="cmp_models").set_value(["olmoe-1b-7b", "ultramemv2-1b-7b"]).run()
    assert at.multiselect(key="cmp_models").value == ["olmoe-1b-7b", "ultramemv2-1b-7b"]
