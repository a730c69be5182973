"""The charts of the Explore page, tested as data."""

from typing import Any

import pytest

from costmodel.costs.calibrations import calibrated
from costmodel.costs.predict import predict
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.show.prediction_json import prediction_json
from dashboard.app.figures import HATCH, MEASURED, PREDICTED, STYLE
from dashboard.app.paths import leaf_of, pattern_of
from dashboard.pages.explore.charts import (
    MEASURES,
    breakdown,
    breakdown_alt,
    by_leaf,
    dots,
    roofline,
    roofline_alt,
)
from tests.sentences import says


def data_of(name: str, gpu: str = "h200", batch: int = 64) -> dict[str, Any]:
    model, workload = load_model(name), Workload(batch=batch)
    return prediction_json(predict(model, workload, load_hardware(gpu), calibrated(gpu)))


def part(flops: int, *, routing: bool) -> dict[str, Any]:
    return {"flops": flops, "bytes": 1, "launches": 1, "predicted_s": 1e-6, "routing": routing}


def operator(path: str, count: int, flops: tuple[int, int], **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    return {
        "path": path,
        "count": count,
        "flops": sum(flops),
        "compulsory_bytes": 4,
        "launches": 2,
        "predicted_s": 4e-6,
        "floor_s": 1e-6,
        "bound_by": "memory",
        "parts": [part(flops[0], routing=True), part(flops[1], routing=False)],
        **fields,
    }


SMALL: dict[str, Any] = {  # 2 B/s and 16 FLOP/s: the ridge is at 8 FLOP/byte
    "operators": [
        operator("layers.{0-1}.moe.experts", 2, (1, 3), floor_s=2.0),
        operator("layers.2.moe.experts", 1, (5, 15), floor_s=2.0, predicted_s=4.0),
        operator("lm_head", 1, (0, 64), floor_s=4.0, predicted_s=8.0, bound_by="compute"),
        operator("embed", 1, (0, 0), compulsory_bytes=0),
    ],
    "hardware": {
        "hbm_bytes_per_s": 2.0,
        "dense_peak_flops_per_s.bf16": 16.0,
        "peak_used": "bf16",
        "other_peaks_used": [],
    },
}


def test_leaves_sum_the_layers_of_all_their_patterns() -> None:
    assert leaf_of("layers.{0-2,5}.attention.core") == "attention.core"
    assert leaf_of("layers.7.ffn_norm") == "ffn_norm"
    assert leaf_of("final_norm") == "final_norm"
    assert pattern_of("layers.7.ffn_norm") == "layers.*.ffn_norm"
    assert pattern_of("layers.12.attention.core") == "layers.*.attention.core"
    assert pattern_of("final_norm") == "final_norm"
    # FLOPs: 2 x (1 + 3) + (5 + 15) of the experts, 2 x 1 + 5 of them routing; none of the embedding
    assert by_leaf(SMALL, "FLOPs") == {"lm_head": (0, 64), "moe.experts": (7, 21)}
    assert list(by_leaf(SMALL, "FLOPs")) == ["lm_head", "moe.experts"]


def test_bars_are_stacked_and_scaled_to_the_unit_of_their_axis() -> None:
    figure = breakdown(SMALL, "FLOPs")
    work, routing = figure.data
    assert "routing" in routing.name
    assert list(work.y) == ["lm_head", "moe.experts"]
    assert list(work.x) == pytest.approx([64e-9, 21e-9])
    assert list(routing.x) == pytest.approx([0, 7e-9])
    assert figure.layout.barmode == "stack"
    assert figure.layout.xaxis.title.text.endswith(", GFLOP")


def test_bars_of_a_prediction_are_told_apart_without_colour_and_are_not_hatched() -> None:
    work, routing = breakdown(SMALL, "launches").data
    assert work.marker.color == PREDICTED
    assert MEASURED not in (work.marker.color, routing.marker.color)
    assert work.marker.pattern.shape != routing.marker.pattern.shape
    assert HATCH not in (work.marker.pattern.shape, routing.marker.pattern.shape)


@pytest.mark.parametrize("name", model_names())
def test_the_bars_sum_to_the_step(name: str) -> None:
    data = data_of(name)
    totals = {
        "HBM bytes": data["hbm_bytes"]["compulsory"],
        "FLOPs": data["flops"]["total"],
        "predicted time": data["time"]["predicted_graph_s"],
        "launches": sum(operator["count"] * operator["launches"] for operator in data["operators"]),
    }
    routing = {
        "HBM bytes": data["routing"]["hbm_bytes"],
        "FLOPs": data["routing"]["flops"],
        "predicted time": data["routing"]["time_s"],
        "launches": data["routing"]["launches"],
    }
    assert set(totals) == set(MEASURES)
    for measure in MEASURES:
        leaves = by_leaf(data, measure).values()
        assert sum(map(sum, leaves)) == pytest.approx(totals[measure])
        assert sum(chosen for chosen, _ in leaves) == pytest.approx(routing[measure])
        heights = [sum(values) for values in leaves]
        assert heights == sorted(heights, reverse=True)


def test_dots_stand_at_their_intensity_and_at_flops_over_time() -> None:
    first, second, head = dots(SMALL)
    assert [dot["intensity"] for dot in (first, second, head)] == [1, 5, 16]
    assert [dot["floor_flops_per_s"] for dot in (first, second, head)] == [2, 10, 16]
    assert [dot["predicted_flops_per_s"] for dot in (second, head)] == [5, 8]


@pytest.mark.parametrize("batch", [1, 64, 4096])
@pytest.mark.parametrize("name", ["ultramemv2-1b-7b", "qwen3-30b-a3b", "llama-3.1-70b"])
def test_no_dot_lies_above_the_ceilings_and_floors_lie_on_them(name: str, batch: int) -> None:
    bandwidth, peak = 4.8e12, 989.4e12  # of the H200's datasheet
    for dot in dots(data_of(name, batch=batch)):
        attainable = min(peak, dot["intensity"] * bandwidth)
        assert dot["floor_flops_per_s"] == pytest.approx(attainable, rel=1e-3)
        assert dot["predicted_flops_per_s"] <= dot["floor_flops_per_s"] * (1 + 1e-9)


def test_the_ceilings_meet_at_the_ridge() -> None:
    ceiling, floors, predicted = roofline(SMALL).data
    assert ceiling.x[1] == 8
    assert list(ceiling.y[1:]) == [16, 16]
    assert ceiling.y[0] == 2 * ceiling.x[0]
    assert ceiling.x[0] < 1
    assert ceiling.x[2] > 16
    assert floors.marker.symbol != predicted.marker.symbol
    assert predicted.marker.color == PREDICTED
    layout = roofline(SMALL).layout
    assert (layout.xaxis.type, layout.yaxis.type) == ("log", "log")
    assert layout.yaxis.title.text == "FLOP/s"


@pytest.mark.usefixtures("no_leaves")
def test_without_a_calibration_only_floors_are_drawn() -> None:
    data = data_of("olmoe-1b-7b", gpu="b200")
    ceiling, floors = roofline(data).data
    assert ceiling.name == "ceilings: 7.7 TB/s, 2.25 PFLOP/s of bf16"
    assert sum(bool(text) for text in floors.text) == 5  # the longest carry their names


def test_alt_texts_say_it_in_words() -> None:
    shares = breakdown_alt(SMALL, "FLOPs")
    assert says(shares, "FLOPs", "linear", "lm_head", 70, "moe.experts", 30)
    assert says(roofline_alt(SMALL), "logarithmic", 2, 16, 8, 2, 3, "memory")


def test_bars_of_a_mesh_say_that_they_are_of_one_gpu() -> None:
    whole = breakdown(SMALL, "FLOPs").layout.yaxis.title.text
    meshed = breakdown({**SMALL, "parallel": {"exchanges": []}}, "FLOPs").layout.yaxis.title.text
    assert (whole, meshed) == ("Operator, all layers", "Operator, all layers of one GPU")


def test_a_pattern_lies_on_the_colour_of_its_bar_and_does_not_replace_it() -> None:
    """Else dots that are white leave a white bar on a white page."""
    (bar,) = STYLE.data.bar
    assert bar.marker.pattern.fillmode == "overlay"
