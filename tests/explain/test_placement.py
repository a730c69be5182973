"""Numbers of tables outside HBM explained: every equation gives the number of the prediction."""

from dataclasses import replace

import pytest

from costmodel.costs.calibrations import calibrated
from costmodel.costs.columns import step_values
from costmodel.costs.predict import Prediction, predict
from costmodel.explain.explanation import Explanation
from costmodel.explain.numbers import STEP_NUMBERS, explain_operator, explain_step
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.links import Disk
from costmodel.inputs.workload import Workload
from costmodel.layers.placement import parse_placement
from costmodel.layers.ultramem import UltraMem

ULTRAMEM = load_model("ultramemv2-1b-7b")
H200 = load_hardware("h200")
SOURCES = {**H200.sources, "disk.bytes_per_s": "a test", "disk.latency_s": "a test"}
WITH_DISK = replace(H200, disk=Disk(bytes_per_s=7e9, latency_s=1e-4), sources=SOURCES)


def predicted(placement: str, *, hot: int = 0, batch: int = 256) -> Prediction:
    placed = parse_placement(placement, hot_rows_bytes=hot)
    workload = Workload(batch=batch, placement=placed)
    return predict(ULTRAMEM, workload, WITH_DISK, calibrated("h200"))


def adds_up(found: Explanation) -> None:
    """The first equation gives the value, and the table's columns sum to their totals."""
    value: object = found.value
    if isinstance(value, float):
        value = pytest.approx(value, rel=1e-9)
    assert found.equations[0].result == value, found.number
    if found.terms is not None:
        for place, column in enumerate(found.terms.columns):
            if column.total is not None:
                cells = sum(row[place] for row in found.terms.rows)  # type: ignore[misc]
                assert cells == pytest.approx(column.total, rel=1e-9)


@pytest.mark.parametrize(
    ("placement", "hot"),
    [
        ("tables=host", 0),
        ("tables=host", 2 * 10**9),
        ("memory.values=host,memory.pre_values=disk", 10**9),
        ("embed=host", 0),
    ],
)
def test_every_number_is_explained(placement: str, hot: int) -> None:
    prediction = predicted(placement, hot=hot)
    values = step_values(prediction)
    for number in STEP_NUMBERS:
        found = explain_step(prediction, number)
        if number in values:
            assert found.value == values[number], number
        if found.value is None:
            assert found.reason, number
        else:
            adds_up(found)
    for operator in prediction.costs.operators:
        explain_operator(prediction, operator.path)


def test_a_bound_by_the_link_says_so() -> None:
    prediction = predicted("tables=host")
    bound = explain_step(prediction, "time.floor_s").equations[0]
    assert bound.formula == "max(max(bytes / bandwidth, FLOPs / peak), linked / link)"
    named = explain_step(prediction, "time.bound_by")
    assert named.value == "link"
    assert "link if linked / link is longer" in named.equations[0].formula
    assert named.equations[0].values.count(" s against ") == 2


def test_waiting_for_early_rows_stands_in_the_predicted_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(UltraMem, "addressed_by", "tokens")
    prediction = predicted("tables=host", batch=1024)
    graph = explain_step(prediction, "time.predicted_graph_s").equations[0]
    assert graph.formula == "max(kernels + waited, bound)"
    assert graph.result == pytest.approx(step_values(prediction)["time.predicted_graph_s"])
    exposed = explain_step(prediction, "time.predicted_exposed_s")
    assert exposed.terms is not None
    assert {row[1] for row in exposed.terms.rows} == {"token ids, ahead"}
