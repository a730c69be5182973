"""The waterfall's bars, worked out by hand on made-up times, and its chart as data."""

import pytest

from costmodel.validation.attribution import PARTS, Attribution
from costmodel.validation.case_attribution import CaseAttribution
from dashboard.app.figures import HATCH, MEASURED, PREDICTED
from dashboard.pages.measured.waterfall import (
    GRAPH,
    LESS,
    bars,
    chart,
    in_words,
    kinds,
    rows,
    sentence,
)

BOUND, OVER_READ, LAUNCH, INEFFICIENCY, RESIDUAL = (name for name, _ in PARTS.values())


def parts(
    bound: float, over_read: float | None, launch: float, rest: float | None, residual: float
) -> Attribution:
    known = [part for part in (bound, over_read, launch, rest, residual) if part is not None]
    return Attribution(
        measured_s=sum(known),
        bound_s=bound,
        over_read_s=over_read,
        launch_s=launch,
        inefficiency_s=rest,
        residual_s=residual,
    )


def test_each_bar_stands_on_those_before_it_and_the_last_is_the_measured_time() -> None:
    drawn = bars(parts(2.0, 0.5, 1.0, 3.5, 1.0))
    assert [(bar.name, bar.start_s, bar.seconds) for bar in drawn] == [
        (BOUND, 0.0, 2.0),
        (OVER_READ, 2.0, 0.5),
        (LAUNCH, 2.5, 1.0),
        (INEFFICIENCY, 3.5, 3.5),
        (RESIDUAL, 7.0, 1.0),
        (GRAPH, 0.0, 8.0),
    ]


def test_a_cause_that_takes_time_away_is_negative_and_shown_so() -> None:
    drawn = bars(parts(2.0, -0.5, 1.5, 4.0, -1.0))
    marker = chart(drawn).data[0].marker
    assert list(marker.pattern.shape) == ["", LESS, HATCH, HATCH, LESS, HATCH]
    assert marker.color[0] == PREDICTED
    assert marker.color[5] == MEASURED
    assert marker.color[1] not in {PREDICTED, MEASURED}
    texts = ["2 s", "-500 ms", "+1.5 s", "+4 s", "-1 s", "6 s"]
    assert list(chart(drawn).data[0].text) == texts


def test_a_cause_that_is_not_known_has_no_bar() -> None:
    names = [bar.name for bar in bars(parts(2.0, None, 1.0, None, 4.0))]
    assert names == [BOUND, LAUNCH, RESIDUAL, GRAPH]


def test_bars_are_drawn_in_milliseconds_from_where_they_start() -> None:
    trace = chart(bars(parts(0.002, 0.0005, 0.0, 0.0035, 0.001))).data[0]
    assert list(trace.base) == pytest.approx([0, 2, 2.5, 2.5, 6, 0])
    assert list(trace.y) == pytest.approx([2, 0.5, 0, 3.5, 1, 7])


def test_the_table_tells_every_bar_its_share_and_what_it_is() -> None:
    drawn = bars(parts(2.0, 1.0, 1.0, 3.0, 1.0))
    assert [row["Share"] for row in rows(drawn)] == [
        *("25.0 %", "12.5 %", "12.5 %", "37.5 %", "12.5 %"),
        "100.0 %",
    ]
    assert rows(drawn)[1]["What it is"] == PARTS["over_read_s"][1]
    assert f"{OVER_READ} +1 s" in in_words(drawn)


def test_the_sentence_names_the_largest_cause_beyond_the_bound() -> None:
    told = sentence(parts(2.0, 1.0, 1.0, 3.0, 1.0))
    assert told.startswith("The step takes 4.000x its roofline bound.")
    assert f"{INEFFICIENCY}, 38 % of the time" in told
    assert LAUNCH in sentence(parts(5.0, 0.0, 2.0, None, 1.0))
    assert "without a predicted time" in sentence(parts(5.0, 0.0, 1.0, None, 2.0))


def test_kinds_have_the_shares_of_their_own_time() -> None:
    step = parts(2.0, 1.0, 1.0, 3.0, 1.0)
    (row,) = kinds(CaseAttribution(step=step, by_kind={"norm": step}))
    assert list(row.values()) == ["norm", "8 s", "25 %", "12.5 %", "12.5 %", "37.5 %", "12.5 %"]
    assert list(row)[:3] == ["Kind of operator", "Measured", "Roofline bound"]
