"""How often experts and rows were chosen: ranks by hand, layers as recorded, reasons of none."""

import pytest

from costmodel.recordings.measured import Accesses
from dashboard.pages.measured import accesses
from dashboard.pages.measured.data import compared
from tests.committed import recording as committed
from tests.dashboard.test_measured_page import page
from tests.recording_values import case, run
from tests.sentences import says

OLMOE = "h200-olmoe-1b-7b.json"
ROUTER, RETRIEVE = "layers.{}.moe.router", "layers.{}.memory.retrieve"


def chosen(*counts: tuple[int, int], trials: int, draws: int) -> Accesses:
    population = sum(items for _, items in counts)
    return Accesses(population=population, trials=trials, draws=draws, counts=counts)


KINDS = {
    ROUTER.format(0): "experts",
    ROUTER.format(1): "experts",
    RETRIEVE.format(0): "rows",
    RETRIEVE.format(1): "rows",
}
TWO_LAYERS = {
    ROUTER.format(0): chosen((0, 56), (1, 8), trials=1, draws=8),
    ROUTER.format(1): chosen((0, 60), (2, 4), trials=2, draws=4),
    RETRIEVE.format(1): chosen((0, 9), (1, 1), trials=1, draws=1),
}


def test_ranks_are_means_over_the_layers_of_a_kind() -> None:
    """Of the two routers' items 4 were chosen twice and 12 at least once: 2 and 6 a layer."""
    assert accesses.ranked(TWO_LAYERS, KINDS) == {
        "experts": [(2.0, 2), (6.0, 1)],
        "rows": [(1.0, 1)],
    }
    assert says(accesses.in_words(TWO_LAYERS, KINDS), "experts", 6, 2, "rows", 1, 1)


def test_a_long_curve_is_thinned_and_keeps_both_its_ends() -> None:
    counts = [(times, 1) for times in range(1, 1001)]
    figure = accesses.ranks({ROUTER.format(0): chosen(*counts, trials=500_500, draws=1)}, KINDS)
    (curve,) = figure.data
    assert len(curve.x) <= accesses.MOST_MARKS + 1
    assert (curve.x[0], curve.y[0]) == (1, 1000)
    assert (curve.x[-1], curve.y[-1]) == (1000, 1)
    assert curve.name == "experts, measured"
    assert curve.marker.symbol.endswith("-open")


@pytest.mark.parametrize(
    ("low", "high", "named"),
    [
        (1, 3, [1, 2, 3]),
        (2, 24, [2, 3, 5, 10, 20]),
        (0.05, 9000, [0.1, 1, 10, 100, 1000]),
        (1, 1, [1]),
    ],
)
def test_an_axis_names_round_numbers_and_few(low: float, high: float, named: list[float]) -> None:
    assert [tick for tick in accesses.ticks(low, high) if low <= tick <= high] == named


def test_ticks_are_written_out() -> None:
    figure = accesses.ranks(
        {RETRIEVE.format(0): chosen((1, 997), (3, 1), trials=1000, draws=1)}, KINDS
    )
    assert figure.layout.xaxis.ticktext == ("1", "10", "100", "1,000")
    assert figure.layout.yaxis.ticktext[:4] == ("1", "2", "3", "5")


def test_each_layer_stands_beside_what_was_expected() -> None:
    """64 (1 - (1 - 8/64)^64) = 63.9876 of 64 experts by 64 tokens that choose 8 each."""
    held = committed(OLMOE)
    index = next(
        index
        for index, case_of_file in enumerate(held.cases)
        if (case_of_file.workload.phase, case_of_file.workload.batch, case_of_file.workload.context)
        == ("decode", 64, 2048)
        and case_of_file.workload.routing == "uniform"
    )
    rows = accesses.rows(compared(held, index))
    assert len(rows) == 16
    first, recorded = rows[0], held.cases[index].runs["time"].accesses[ROUTER.format(0)]
    assert first["Of"] == "64 experts"
    assert first["Choices"] == "512"
    assert first["Distinct"] == recorded.distinct
    assert round(float(str(first["Expected distinct"])), 4) == 63.9876
    assert first["Never chosen"] == 64 - recorded.distinct
    assert first["Most chosen, times"] == max(times for times, items in recorded.counts if items)


@pytest.mark.slow
def test_the_page_draws_them_and_says_why_there_are_none() -> None:
    at = page(rec=OLMOE, rec_chart="accesses", rec_batch="16")
    assert any("Never chosen" in element.value.columns for element in at.dataframe)
    dense = page(rec="h200-llama-3.1-8b.json", rec_chart="accesses")
    assert any("routes nothing" in element.value for element in dense.info)
    lacking = page(rec="h200-ultramemv2-1b-7b.json", rec_chart="accesses", rec_batch="1024")
    assert any(element.value.startswith("not measured \\(does not fit") for element in lacking.info)


def test_a_run_without_choices_is_of_a_model_that_routes_nothing() -> None:
    assert accesses.layers(case(time=run({"eager_s": 1.0}))) == {}
    assert accesses.layers(case(lacking={"time": "x"})) == {}
    assert accesses.why_none(case(lacking={"time": "out of memory"})) == (
        "not measured (out of memory)"
    )
