"""The page Compare: numbers of predict, exact crossovers, real measured points."""

import json
from dataclasses import replace
from functools import partial
from math import log10
from pathlib import Path

import pytest

from costmodel import units
from costmodel.costs.latency import NOT_ASKED, StepTime
from costmodel.inputs.catalog import load_model
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.questions.compare import Advantage
from costmodel.recordings.folders import SHIPPED
from costmodel.recordings.measured import Spread
from costmodel.recordings.recording import Recording, load_recording
from costmodel.show.comparison_json import prediction_rows
from dashboard.app.measured_points import Along, Point, distinct_points, points
from dashboard.app.widgets import plain
from dashboard.pages.compare import charts, data
from dashboard.pages.compare.measured_table import measured_rows
from docs.pair_measurements import decode
from docs.three_ways import VIEW
from tests.dashboard.pages import chosen, opened
from tests.sentences import says

ROOT = Path(__file__).parents[2]
PAIR = ("olmoe-1b-7b", "ultramemv2-1b-7b")

page = partial(opened, "compare")


def pair() -> list[ModelConfig]:
    return [load_model(name) for name in PAIR]


@pytest.mark.parametrize("axis", ["batch", "context"])
def test_every_line_is_what_predict_says_at_each_point(axis: Along) -> None:
    selection = chosen()
    for model, grid in zip(pair(), data.over(pair(), selection, axis), strict=True):
        for x in (data.along(grid, axis)[0], 64 if axis == "batch" else 2048):
            workload = replace(selection.workload, **{axis: x})  # type: ignore[arg-type]  # one of two
            prediction = replace(selection, workload=workload).predict(model)
            assert isinstance(prediction.time, StepTime)
            routing, sums = prediction.costs.routing, prediction.costs.totals
            expected = {
                "HBM bytes": float(sums.compulsory_bytes) / 1e9,
                "predicted time": float(prediction.time.predicted_s) * 1000,
                "roofline bound": prediction.floor_s * 1000,
                "host bytes": float(prediction.costs.far["host"].read) / 1e6,
                "KV read": float(sums.kv_read_bytes) / 1e9,
                "routing bytes": float(routing.compulsory_bytes) / 1e6,
                "routing FLOPs": float(routing.flops) / 1e9,
                "routing share": 100 * float(prediction.time.routing_s / prediction.time.graph_s),
                "energy": float(prediction.time.energy_j),  # type: ignore[arg-type]  # known here
            }
            index = data.along(grid, axis).index(x)
            for name, value in expected.items():
                drawn = data.values(grid, data.COMPARED[name])[index]
                assert drawn == pytest.approx(value, rel=1e-12), name
            assert set(expected) == set(data.COMPARED)


def test_what_is_not_predicted_is_none_and_has_no_crossover() -> None:
    selection = replace(chosen(), calibration=NOT_ASKED)
    grids = data.over(pair(), selection, "batch")
    quantity = data.COMPARED["predicted time"]
    assert set(data.values(grids[0], quantity)) == {None}
    predictions = [selection.predict(model) for model in pair()]
    assert data.advantages(pair(), predictions, selection, quantity) == []
    assert data.cards(predictions, grids, "predicted time")[0].value == units.NOT_KNOWN


def test_a_crossover_is_the_last_batch_at_which_the_second_model_moves_less() -> None:
    selection = chosen()
    models = [load_model(name) for name in ("olmoe-227m-1.2b", "ultramemv2-227m-1.2b")]
    predictions = [selection.predict(model) for model in models]
    (advantage,) = data.advantages(models, predictions, selection, data.COMPARED["HBM bytes"])
    ((first, last),) = advantage.intervals
    assert last is not None

    def less(batch: int) -> bool:
        step = replace(selection, workload=replace(selection.workload, batch=batch))
        reference, model = (step.predict(model).costs.totals.compulsory_bytes for model in models)
        return bool(model < reference)

    assert [less(batch) for batch in (first, last, last + 1)] == [True, True, False]
    assert advantage.max_batch == min(
        int(prediction.memory.max_batch) for prediction in predictions
    )


def test_crossovers_and_limits_stand_on_the_chart_at_their_batches() -> None:
    grids = data.over(pair(), chosen(), "batch")
    advantage = Advantage(
        model="<b>M</b>",
        reference="R",
        metric="hbm_bytes.compulsory",
        intervals=((2, 100), (4000, 9000)),
        max_batch=507,
        backend="torch",
    )
    figure = charts.main_chart(
        grids,
        "HBM bytes",
        "batch",
        advantages=[advantage],
        max_batches=[507, 5000],
        points=[[], []],
    )
    assert [shape.x0 for shape in figure.layout.shapes] == [4000, 507, 100, 2]  # on the chart
    texts = [annotation.text for annotation in figure.layout.annotations]
    assert says(texts[3], "&lt;b&gt;M&lt;/b&gt;", 2)
    assert says(texts[1], "OLMoE-1B-7B", 507)
    places = [round(10**annotation.x) for annotation in figure.layout.annotations]
    assert places == [4000, 507, 100, 2]
    tops = [shape.y1 for shape in figure.layout.shapes]
    assert tops == sorted(tops, reverse=True)  # a label passes over the lines within
    low, high = figure.layout.yaxis.range
    highest = max(log10(y) for trace in figure.data for y in trace.y)
    assert (highest - low) / (high - low) < min(tops)


def test_models_differ_by_colour_dash_and_symbol_and_measured_ones_are_open() -> None:
    grids = data.over(pair(), chosen(), "batch")
    measured = [[Point(x=4, value=2e9, source="r.json", device="NVIDIA H200", backend="torch")], []]
    lines = charts.main_chart(
        grids, "HBM bytes", "batch", advantages=[], max_batches=[507, 510], points=measured
    ).data
    assert len(lines) == 3
    for trait in (
        [line.line.color for line in lines[:2]],
        [line.line.dash for line in lines[:2]],
        [line.marker.symbol for line in lines[:2]],
    ):
        assert len(set(trait)) == 2
    assert lines[2].marker.symbol == f"{lines[0].marker.symbol}-open"
    assert lines[2].marker.color == lines[0].line.color
    assert list(lines[2].y) == [2.0]  # GB


@pytest.fixture(scope="module")
def recording() -> dict[str, Recording]:
    path = SHIPPED / "h200-olmoe-1b-7b.json"
    return {path.name: load_recording(path)}


def test_measured_points_are_medians_of_cases_that_differ_only_by_the_axis(
    recording: dict[str, Recording],
) -> None:
    (held,) = recording.values()
    workload = Workload(context=2048, batch=64)
    measured = points(recording, "hbm_bytes.compulsory", workload, "batch")
    alike = {
        case.workload.batch: case.runs["counters"].step["hbm_read_bytes"].median  # type: ignore[union-attr]  # counters are spreads here
        for case in held.cases
        if case.workload.phase == "decode"
        and case.workload.context == 2048
        and case.workload.routing == "uniform"
        and "counters" in case.runs
    }
    assert {point.x: point.value for point in measured} == alike
    assert len(measured) > 2
    assert points(recording, "kv_cache.read_bytes", workload, "batch") == []
    fused = replace(workload, backend="fused")
    assert points(recording, "hbm_bytes.compulsory", fused, "batch") == []
    assert points(recording, "hbm_bytes.compulsory", replace(workload, context=2047), "batch") == []


def test_measured_steps_of_both_backends_stand_beside_the_first_models(
    recording: dict[str, Recording],
) -> None:
    """By hand: other times and energies than the recorded ones, as if by `fused`."""
    (held,) = recording.values()
    (case,) = (case for case in held.cases if case.workload == decode(16))
    runs = {name: replace(run, backend="fused") for name, run in case.runs.items()}
    times, energies = runs["time"], runs["energy"]
    half = Spread(median=0.004, q1=0.004, q3=0.004, repeats=5, source="cuda_event")
    joules = Spread(median=0.8, q1=0.8, q3=0.8, repeats=5, source="nvml")
    runs["time"] = replace(times, step={**times.step, "graph_s": half})
    runs["energy"] = replace(energies, step={**energies.step, "energy_j": joules})
    del runs["counters"]
    fused = replace(held, cases=(replace(case, runs=runs),))
    slower = Spread(median=0.006, q1=0.006, q3=0.006, repeats=5, source="cuda_event")
    runs = runs | {"time": replace(times, backend="fused", step={**times.step, "graph_s": slower})}
    other = replace(held, cases=(replace(case, runs=runs),))
    models = list(pair())
    rows = measured_rows(
        models, [{"a": fused}, {"b": other}], Workload(context=2048, batch=1), "batch"
    )
    assert [(row["Batch"], row["Backend"], row["Model"]) for row in rows] == [
        (16, "fused", models[0].name),
        (16, "fused", models[1].name),
    ]
    assert [row["Time as a CUDA graph, ms"] for row in rows] == [4.0, 6.0]
    assert [row["HBM bytes read, GB"] for row in rows] == [None, None]
    assert [row["Energy a token, mJ"] for row in rows] == [50.0, 50.0]  # 0.8 J over 16 tokens
    assert [row["Time over the first model's"] for row in rows] == ["1.000x", "1.500x"]
    assert measured_rows(models, [{}, {}], Workload(), "batch") == []


@pytest.mark.slow
def test_measured_points_stand_beside_predictions_of_their_own_machine_and_backend_only() -> None:
    """The shipped recordings are all of an H200; of this pair by both backends."""

    def drawn(**query: str) -> tuple[list[str], str]:
        at = page(cmp_by="predicted time", cmp_add="false", **query)
        (figure, *_) = [
            chart
            for chart in at.get("plotly_chart")
            if chart.proto.alt.startswith("predicted time, ms over batch")
        ]
        traces = json.loads(figure.proto.spec)["data"]
        names = [trace["name"] for trace in traces if "measured" in trace["name"]]
        return names, " ".join(element.value for element in at.caption).replace("\\", "")

    names, said = drawn()
    assert len(names) == 2
    assert "Not in this chart: what NVIDIA H200, fused measured" in said
    for gpu in ("b200", "h100-sxm"):
        names, said = drawn(gpu=gpu)
        assert names == []
        assert "what NVIDIA H200, torch; NVIDIA H200, fused measured" in said
    names, said = drawn(backend="fused")
    assert len(names) == 2
    assert "Not in this chart: what NVIDIA H200, torch measured" in said


def test_what_stands_beside_a_measured_point_says_what_measured_it(
    recording: dict[str, Recording],
) -> None:
    measured = points(recording, "time.predicted_s", Workload(context=2048), "batch")
    grids = data.over(pair()[:1], chosen(), "batch")
    *_, marks = charts.main_chart(
        grids, "predicted time", "batch", advantages=[], max_batches=[1], points=[measured]
    ).data
    assert set(marks.text) == {"NVIDIA H200, torch; h200-olmoe-1b-7b.json"}
    assert marks.hovertemplate == (
        "%{text}<br>Batch, sequences: %{x:,}<br>predicted time, ms: %{y:,.3~r}"
        "<extra>%{fullData.name}</extra>"
    )


def test_recorded_distinct_experts_lie_on_the_expected_curve(
    recording: dict[str, Recording],
) -> None:
    """E (1 - (1 - k/E)^N), E = 64, k = 8: the formula of the papers, within sampling error."""
    measured = distinct_points(recording, Workload(context=2048))
    assert measured["rows"] == []
    assert len(measured["experts"]) > 2
    for point in measured["experts"]:
        expected = 64 * (1 - (1 - 8 / 64) ** point.x)
        assert point.value == pytest.approx(expected, rel=0.1)


def test_the_page_shows_the_published_pair_first_with_the_numbers_of_predict() -> None:
    at = page(cmp_by="HBM bytes")
    selection = chosen()
    assert at.multiselect(key="cmp_models").value == list(PAIR)
    expected = [
        f"{units.significant(float(selection.predict(m).costs.totals.compulsory_bytes) / 1e9)} GB"
        for m in pair()
    ]
    assert [metric.value for metric in at.metric] == expected
    assert [metric.delta for metric in at.metric] == [
        f"fits up to batch {units.count(selection.predict(m).memory.max_batch)}" for m in pair()
    ]
    assert "from batch 1 up" in at.info[0].value  # all rows of the table are less than all experts


def test_a_link_opens_the_same_view() -> None:
    at = page(
        cmp_models=["llama-3.1-8b", "mixtral-8x7b", "qwen3-30b-a3b"],
        cmp_by="KV read",
        cmp_over="context",
        cmp_add="false",
    )
    assert says(at.subheader[0].value, "x the KV cache read of")
    assert len(at.metric) == 3


def test_one_model_alone_is_told_how_many_are_compared() -> None:
    at = page(cmp_models=["llama-3.1-8b"], cmp_add="false")
    assert at.title[0].value == "These models cannot be compared"
    assert "2 to 4 are compared" in at.error[0].value


@pytest.mark.slow
def test_the_sidebars_model_is_added_unless_it_is_there_or_not_wanted() -> None:
    at = page(model="llama-3.1-8b")
    assert [metric.label for metric in at.metric] == [
        "OLMoE-1B-7B",
        plain("UltraMemV2-1B/7B (reconstruction)"),
        "Llama-3.1-8B",
    ]
    assert len(page().metric) == 2
    assert len(page(model="llama-3.1-8b", cmp_add="false").metric) == 2
    four = [*PAIR, "mixtral-8x7b", "qwen3-30b-a3b"]
    assert len(page(model="llama-3.1-8b", cmp_models=four).metric) == 4


def test_the_title_says_which_model_needs_least_and_how_much_less() -> None:
    """16 layers, 16 KV heads of 128 in both models: the same cache is read."""
    selection = chosen()
    predictions = [selection.predict(model) for model in pair()]
    grids = data.over(pair(), selection, "batch")
    moved = [float(prediction.costs.totals.compulsory_bytes) for prediction in predictions]
    least, ratio, most = (
        "UltraMemV2-1B/7B (reconstruction)",
        units.ratio(moved[1] / moved[0]),
        "OLMoE-1B-7B",
    )
    assert says(data.answer(predictions, grids, "HBM bytes"), least, ratio, most, 64)
    assert says(data.answer(predictions, grids, "KV read"), most, least, "equal", 64)
    dense = [load_model("llama-3.1-8b"), pair()[0]]
    routing = data.answer(
        [selection.predict(model) for model in dense],
        data.over(dense, selection, "batch"),
        "routing FLOPs",
    )
    assert says(routing, "Llama-3.1-8B", "no", "OLMoE-1B-7B")
    unknown = replace(selection, calibration=NOT_ASKED)
    assert (
        data.answer(
            [unknown.predict(model) for model in pair()],
            data.over(pair(), unknown, "batch"),
            "predicted time",
        )
        == "Not predicted: predicted time at batch 64"
    )


def test_models_that_do_not_fit_are_named() -> None:
    """OLMoE fits up to batch 507, UltraMemV2 up to 510."""
    selection = chosen(batch=508)
    predictions = [selection.predict(model) for model in pair()]
    assert data.too_large(predictions) == ["OLMoE-1B-7B"]
    assert page(batch="508").warning[0].value.endswith(": OLMoE-1B-7B")


def test_the_view_of_three_ways_tells_what_stands_where_and_what_is_left() -> None:
    """The link of docs/three_ways.md: an MoE, a memory layer and n-gram tables in host memory."""
    at = page(
        **{key: value if isinstance(value, str) else list(value) for key, value in VIEW.items()}
    )
    names = [load_model(name).name for name in VIEW["cmp_models"]]
    assert [card.label for card in at.metric] == [plain(name) for name in names]
    kept = at.dataframe[-1].value
    model, _, _, _, in_host, _, left, _, _ = (list(kept[column]) for column in kept)
    assert model == names
    assert [cell == "-" for cell in in_host] == [True, False, False]
    room = [float(cell.split()[0]) for cell in left]
    assert room[0] < room[1] < room[2]  # what moves out leaves room


def test_what_is_left_for_the_cache_by_hand() -> None:
    """Capacity of the H200 less 2 bytes of each parameter, over 2 x 20 layers x 768 x 2 bytes."""
    prediction = chosen(model="engram-227m-1.2b-reconstruction", tables="host").predict()
    (row,) = prediction_rows([prediction])
    table = 2 * row["total_without_embeddings"] + 2 * 50304 * 768 - row["stored_weights_bytes"]
    assert row["host_table_bytes"] == table == 2 * 48 * sum(
        operator.weights[0].rows for operator in prediction.costs.operators
        if operator.leaf == "ngram.rows"
    )  # fmt: skip
    buffers = prediction.memory.buffers_bytes
    room = 150_109_880_320 - row["stored_weights_bytes"] - buffers
    assert row["kv_room_bytes"] == room
    assert row["kv_room_tokens"] == room // (2 * 20 * 768 * 2)
