"""Compare opens on the decision: its sentence, and the chart of the ratio."""

import json
import re
from functools import partial
from typing import Any

import pytest

from costmodel.inputs.catalog import load_model
from dashboard.app.measured_points import Point, recorded
from dashboard.app.widgets import plain
from dashboard.pages.compare import data, decision
from dashboard.pages.compare.ratio import measured_ratios, ratio_chart
from tests.commands import output
from tests.committed import FOLDER
from tests.dashboard.pages import chosen, opened
from tests.told import digits

PAIR = ("olmoe-1b-7b", "ultramemv2-1b-7b")
page = partial(opened, "compare")


def predicted() -> list[dict[str, Any]]:
    """The times of both models at batch 64, by the command line."""
    return [json.loads(output("predict", name, "--batch", "64", "--json"))["time"] for name in PAIR]


def predicted_s() -> list[float]:
    return [time["predicted_s"] for time in predicted()]


def measured_s() -> list[float]:
    """The same as the shipped recordings hold them."""
    step = {"phase": "decode", "batch": 64, "context": 2048, "routing": "uniform"}
    times = []
    for name in PAIR:
        cases = json.loads((FOLDER / f"h200-{name}.json").read_text())["cases"]
        (runs,) = [one["runs"] for one in cases if step.items() <= one["workload"].items()]
        times.append(runs["time"]["step"]["graph_s"]["median"])
    return times


def three(value: float) -> str:
    return f"{value:.3g}"


@pytest.mark.slow
def test_the_page_opens_on_the_decision_with_predicted_and_measured_times() -> None:
    at = page(cmp_price="3")
    first, second = predicted_s()
    told = digits(*predicted())
    assert at.title[0].value == plain(
        f"UltraMemV2-1B/7B (reconstruction) takes {second / first:.{told}f}x the time of"
        " OLMoE-1B-7B at batch 64, predicted with the backend torch"
    )
    text = at.markdown[0].value.replace("\\", "")
    assert f"predicted {first * 1e3:.{told}g} ms / {second * 1e3:.{told}g} ms" in text
    assert re.search(r"; intervals of 90%: [\d.]+ ms to [\d.]+ ms / [\d.]+ ms to [\d.]+ ms; ", text)
    seen = measured_s()
    assert f"measured with torch {three(seen[0] * 1e3)} ms / {three(seen[1] * 1e3)} ms" in text
    usd = [3 * seconds / 3600 / 64 * 1e6 for seconds in (first, second)]  # of 64 tokens a step
    assert f"{usd[0]:.{told}g} / {usd[1]:.{told}g} USD a million tokens" in text
    assert "is the faster" in text
    assert "fits up to batch 507 / 510" in text
    assert "USD" not in page().markdown[0].value
    charts = [chart.proto.alt for chart in at.get("plotly_chart")]
    assert "over OLMoE-1B-7B's" in charts[0]  # the ratio first, the values beneath it
    assert at.segmented_control(key="cmp_by").value == "predicted time"


@pytest.mark.slow
@pytest.mark.usefixtures("no_leaves")
def test_without_predictions_it_decides_by_bounds_and_says_so() -> None:
    at = page(gpu="b200")
    assert "by the roofline bound" in at.title[0].value
    text = at.markdown[0].value.replace("\\", "")
    assert "at least (roofline bound) " in text
    assert "not measured in this step on this GPU" in text
    assert at.segmented_control(key="cmp_by").value == "roofline bound"


@pytest.mark.slow
def test_transferred_times_decide_and_are_told_with_their_label_and_interval() -> None:
    at = page(gpu="b200")
    label = "transferred from h200: not measured on this GPU"
    assert label in at.title[0].value.replace("\\", "")
    text = at.markdown[0].value.replace("\\", "")
    assert f"; these are {label}; " in text
    assert "; intervals of 90%: " in text
    assert at.segmented_control(key="cmp_by").value == "predicted time"
    assert all(card.value.startswith("~") for card in at.metric)
    (said,) = [one.value for one in at.info if "ransferred" in one.value]
    assert "on NVIDIA H200 by the backend torch" in said


@pytest.mark.slow
@pytest.mark.usefixtures("no_leaves")
def test_where_nothing_is_predicted_it_says_what_was_measured_and_where() -> None:
    """The backend `fused` has no calibration; its recordings are of an H200."""
    step = {"phase": "decode", "batch": 64, "context": 2048, "routing": "uniform"}
    (said,) = [one.value for one in page(backend="fused").info if "Not predicted" in one.value]
    text = said.replace("\\", "")
    assert "in bf16 under uniform routing, on NVIDIA H200 by the backend fused: OLMoE" in text
    for name in PAIR:
        source = f"h200-{name}-fused.json"
        cases = json.loads((FOLDER / source).read_text())["cases"]
        (runs,) = [one["runs"] for one in cases if step.items() <= one["workload"].items()]
        assert f"{three(runs['time']['step']['graph_s']['median'] * 1e3)} ms ({source})" in text
    (other,) = [one.value for one in page(gpu="b200").info if "Not predicted" in one.value]
    assert "on NVIDIA H200 by the backend torch" in other
    elsewhere = chosen(hardware="b200", batch=65).predict()
    recordings = [recorded(elsewhere.model)]
    assert "Measured" not in decision.not_predicted([elsewhere], recordings)
    assert not decision.not_predicted([chosen().predict()], [{}])


def test_the_ratio_is_that_of_two_predictions_and_of_two_measured_points() -> None:
    selection, models = chosen(), [load_model(name) for name in PAIR]
    grids = data.over(models, selection, "batch")
    figure = ratio_chart(grids, "predicted time", "batch", [[], []])
    assert figure is not None
    (line,) = figure.data
    first, second = predicted_s()
    assert line.y[list(line.x).index(64)] == pytest.approx(second / first)
    assert len(figure.layout.shapes) == 1  # the line at 1
    points = [
        [measured(64, 2.0), measured(4, 1.0), measured(8, 1.0, "fused")],
        [measured(64, 3.0), measured(8, 4.0), measured(16, 1.0)],
    ]
    assert measured_ratios(points) == [{64: 1.5}]  # the same machine and backend measured both


def measured(x: int, value: float, backend: str = "torch") -> Point:
    return Point(x=x, value=value, source="r.json", device="NVIDIA H200", backend=backend)


def test_models_that_do_not_fit_are_named() -> None:
    selection = chosen(model="deepseek-v3")
    models = [load_model("olmoe-1b-7b"), load_model("deepseek-v3")]
    predictions = [selection.predict(model) for model in models]
    assert "(NOT here: DeepSeek-V3)" in decision.sentence(predictions, {}, [], None)
