"""The waterfall's bars, worked out by hand on made-up times, and its chart as data."""

import pytest

from costmodel.validation.case_prediction import predict_case
from costmodel.validation.machines import Gpus
from costmodel.validation.utilisation import Figure
from dashboard.app.figures import HATCH, MEASURED, PREDICTED
from dashboard.pages.measured.waterfall import (
    CAUSES,
    FLOOR,
    GRAPH,
    LESS,
    TimeLevel,
    bars,
    chart,
    in_words,
    levels,
    rows,
)
from tests.recording_values import CPU, case, recording, run, session
from tests.steps import tiny_model

TRAFFIC, KERNELS, GAPS = CAUSES
REASON = "the counters were refused"


def of_times(*times: float | str) -> tuple[TimeLevel, ...]:
    return tuple(
        TimeLevel(
            cause=cause,
            time=Figure(value=None, reason=time) if isinstance(time, str) else Figure(value=time),
        )
        for cause, time in zip((FLOOR, *CAUSES), times, strict=True)
    )


def test_each_cause_is_what_its_level_adds_and_all_add_up_to_the_measured_time() -> None:
    drawn = bars(of_times(2.0, 2.5, 6.0, 7.0))
    assert [(bar.name, bar.seconds) for bar in drawn] == [
        (FLOOR, 2.0),
        (TRAFFIC, 0.5),
        (KERNELS, 3.5),
        (GAPS, 1.0),
        (GRAPH, 7.0),
    ]
    assert [bar.start_s for bar in drawn] == [0.0, 2.0, 2.5, 6.0, 0.0]


def test_a_cause_that_takes_time_away_is_negative_and_shown_so() -> None:
    drawn = bars(of_times(2.0, 1.5, 6.0, 5.0))
    assert [bar.seconds for bar in drawn] == [2.0, -0.5, 4.5, -1.0, 5.0]
    marker = chart(drawn).data[0].marker
    assert list(marker.pattern.shape) == ["", LESS, HATCH, LESS, HATCH]
    assert marker.color[0] == PREDICTED
    assert marker.color[4] == MEASURED
    assert marker.color[1] not in {PREDICTED, MEASURED}
    assert list(chart(drawn).data[0].text) == ["2 s", "-500 ms", "+4.5 s", "-1 s", "5 s"]


def test_what_was_not_measured_is_left_to_the_next_cause_with_its_reason() -> None:
    drawn = bars(of_times(2.0, REASON, 6.0, 7.0))
    assert [(bar.name, bar.seconds) for bar in drawn] == [
        (FLOOR, 2.0),
        (TRAFFIC, None),
        (f"{TRAFFIC} and {KERNELS}", 4.0),
        (GAPS, 1.0),
        (GRAPH, 7.0),
    ]
    assert drawn[1].reason == REASON
    assert f"{TRAFFIC} not measured ({REASON})" in in_words(drawn)
    assert len(chart(drawn).data[0].x) == 4


def test_without_a_measured_time_there_is_no_last_bar() -> None:
    names = [bar.name for bar in bars(of_times(2.0, 2.5, 6.0, REASON)) if bar.seconds is not None]
    assert names == [FLOOR, TRAFFIC, KERNELS]


def test_bars_are_drawn_in_milliseconds_from_where_they_start() -> None:
    trace = chart(bars(of_times(0.002, 0.0025, 0.006, 0.007))).data[0]
    assert list(trace.base) == pytest.approx([0, 2, 2.5, 6, 0])
    assert list(trace.y) == pytest.approx([2, 0.5, 3.5, 1, 7])


def test_levels_are_traffic_over_the_datasheets_bandwidth_kernels_and_the_graph() -> None:
    """An H200 moves 4.8e12 bytes a second: 4.0e12 read and 0.8e12 written take one."""
    model = tiny_model()
    measured = case(
        time=run({"graph_s": 4.0}),
        counters=run({"hbm_read_bytes": 4.0e12, "hbm_written_bytes": 0.8e12}),
        lacking={"trace": REASON},
    )
    made = recording(model, measured)
    side = predict_case(made, measured, Gpus().of("NVIDIA H200"))
    floor, traffic, kernels, graph = levels(measured, side)
    assert side.prediction is not None
    assert floor.time.value == side.prediction.floor_s
    assert traffic.time.value == pytest.approx(1.0)
    assert kernels.time == Figure(value=None, reason=REASON)
    assert graph.time.value == 4.0


def test_reads_and_writes_told_together_count_where_they_are_all_there_is() -> None:
    measured = case(counters=run({"hbm_bytes": 9.6e12}))
    made = recording(tiny_model(), measured)
    _, traffic, *_ = levels(measured, predict_case(made, measured, Gpus().of("NVIDIA H200")))
    assert traffic.time.value == pytest.approx(2.0)


def test_reads_without_writes_are_no_traffic() -> None:
    measured = case(counters=run({"hbm_read_bytes": 9.6e12, "hbm_written_bytes": REASON}))
    made = recording(tiny_model(), measured)
    _, traffic, *_ = levels(measured, predict_case(made, measured, Gpus().of("NVIDIA H200")))
    assert traffic.time == Figure(value=None, reason=REASON)


def test_a_cpu_has_no_datasheet_and_so_no_floor() -> None:
    measured = case(time=run({"graph_s": "not measured (a CPU has none)"}))
    made = recording(tiny_model(), measured, sessions=[session(CPU)])
    drawn = bars(levels(measured, predict_case(made, measured, None)))
    assert all(bar.seconds is None for bar in drawn)
    assert "not known (no hardware preset for this machine)" in in_words(drawn)


def test_traffic_under_the_time_of_the_flops_adds_nothing_to_the_floor() -> None:
    """One byte takes no time: the FLOPs at 989.5e12 a second are then the level."""
    measured = case(counters=run({"hbm_read_bytes": 1.0, "hbm_written_bytes": 0.0}))
    made = recording(tiny_model(), measured)
    side = predict_case(made, measured, Gpus().of("NVIDIA H200"))
    assert side.prediction is not None
    flops = float(side.prediction.costs.totals.flops)
    level = levels(measured, side)[1].time.value
    assert level == pytest.approx(flops / 989.5e12, rel=1e-3)


def test_the_table_tells_every_bar_its_share_and_the_level_it_reaches() -> None:
    floor, traffic, kernels, gaps, graph = rows(bars(of_times(2.0, REASON, 6.0, 8.0)))
    assert (floor["Time"], floor["Share"]) == ("2 s", "25.0 %")
    assert (traffic["Time"], traffic["Share"]) == (f"not measured ({REASON})", "")
    assert (kernels["Time"], kernels["Share"]) == ("+4 s", "50.0 %")
    assert "kernel times" in kernels["Reaches"]
    assert (gaps["Time"], gaps["Share"]) == ("+2 s", "25.0 %")
    assert graph["Share"] == "100.0 %"
    assert all(row["Share"] == "" for row in rows(bars(of_times(2.0, 2.5, 6.0, REASON))))
