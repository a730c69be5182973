"""The page `Is it true?`: every claim has its verdict, and its link opens without a complaint."""

import json
import re
from itertools import pairwise

import pytest

from benchmarks.held_out.commitment import committed
from benchmarks.held_out.summary import committed_summary
from costmodel import units
from costmodel.questions.claims.answers import answers
from costmodel.questions.claims.claim import Answer, claims
from costmodel.questions.claims.held_out import FILE as HELD_OUT
from costmodel.questions.claims.held_out import QUANTITIES, accuracies, held_out
from costmodel.show.tables.held_out import sentence
from dashboard.app.widgets import plain
from dashboard.pages.claims import charts, data, worst
from docs.held_out_steps import text as held_out_text
from docs.worst_predictions import FILE, WORST_LEAVES, text
from tests.commands import output
from tests.dashboard.pages import opened


def test_the_page_opens_on_the_verdicts_and_a_claims_figures() -> None:
    at = opened("claims", cl_id="C2")
    assert len(at.title) == 1
    assert at.title[0].value == plain(data.sentence())
    words = [answer.verdict.word for answer in answers()]
    assert (len(words), words.count("holds"), words.count("holds within limits")) == (14, 1, 9)
    assert data.sentence() == (
        "Of 14 claims, 1 holds, 9 hold within limits, 4 cannot be judged here"
    )
    assert at.subheader[0].value == plain("C2: holds within limits")
    (figures,) = (frame.value for frame in at.dataframe)
    assert len(figures) == len(data.answer_of("C2").figures)
    assert [*figures][:5] == ["Figure", "Of", "First", "Second", "Ratio"]  # seen at 1,024 pixels
    assert set(figures["Computed or measured"]) == {"computed", "measured"}
    assert not at.warning


def test_public_rows_are_drawn_and_filtered() -> None:
    at = opened("claims", cl_part=data.PUBLIC, cl_gpu="gb10")
    assert at.title[0].value == "What others measured, beside the bound"
    rows = at.dataframe[0].value
    assert len(rows) == 36
    assert set(rows["GPUs"]) == {"1 x gb10"}
    assert all(rows["Why no prediction"])
    told = data.public_sentence(data.chosen({"gpu": "gb10", "engine": "all", "model": "all"}))
    assert told in [text.value for text in at.text]
    begin, _, why = told.partition("; why not: ")
    assert begin.endswith("; 0 with a predicted time")
    assert sum(map(int, re.findall(r"\((\d+)\)", why))) == len(rows)
    assert "no calibration (" in why
    at.selectbox(key="cl_engine").set_value("vllm").run()
    assert not at.exception
    assert "No row is of all that is chosen." in [text.value for text in at.text]


@pytest.mark.parametrize("quantity", ["time as a CUDA graph", "HBM bytes read"])
@pytest.mark.parametrize("backend", ["all", "fused"])
def test_held_out_steps_are_drawn_with_their_intervals_the_worst_first(
    quantity: str, backend: str
) -> None:
    at = opened("claims", cl_part=data.ACCURACY, cl_quantity=quantity, cl_backend=backend)
    steps = [
        step
        for step in held_out().steps
        if step.quantity == QUANTITIES[quantity] and backend in {"all", step.backend}
    ]
    errors, shown = (frame.value for frame in at.dataframe)
    assert at.title[0].value.startswith(f"Predicted {quantity} of models never seen is off by ")
    assert len(errors) == len(accuracies(QUANTITIES[quantity])) == 4
    assert len(shown) == len(steps)
    worst_ratio = max((step.ratio for step in steps), key=lambda ratio: max(ratio, 1 / ratio))
    assert shown["Measured / predicted"][0] == units.ratio(worst_ratio)
    assert list(shown["Within"]).count("NO") == sum(step.within is False for step in steps)


def test_energy_of_held_out_models_is_not_measured_and_says_so() -> None:
    at = opened("claims", cl_part=data.ACCURACY, cl_quantity="energy")
    assert at.title[0].value == plain(sentence("energy"))
    assert sentence("energy") == "Predicted energy of models never seen: not measured yet"
    assert "Not measured yet: energy." in at.info[0].value.replace("\\", "")
    assert not at.dataframe


def test_every_point_and_every_row_is_in_its_chart() -> None:
    bounds = data.chosen({"gpu": "b300", "engine": data.EVERY, "model": data.EVERY})
    drawn = charts.shares(bounds).data
    assert sum(len(trace.x) for trace in drawn) == len(bounds)
    steps = held_out().select("graph_s")
    kinds = charts.held_out(steps).data
    assert sum(len(trace.x) for trace in kinds) == len(steps)
    drawn_low = [
        (y - below) * x
        for trace in kinds
        for x, y, below in zip(trace.x, trace.y, trace.error_y.arrayminus, strict=True)
    ]
    assert sorted(drawn_low) == pytest.approx(sorted(step.low for step in steps if step.low))


def test_held_out_steps_are_those_of_the_committed_measurement() -> None:
    """The remedy: `python -m docs.held_out_steps`."""
    commitment, measured = committed(), committed_summary()
    assert commitment is not None
    assert measured is not None
    assert HELD_OUT.read_text() == held_out_text(commitment, measured)


@pytest.mark.parametrize("answer", answers(), ids=list(claims()))
def test_the_link_of_a_claim_opens_what_it_names(answer: Answer) -> None:
    view = answer.claim.view
    at = opened(view.page, **dict(view.query))  # type: ignore[arg-type]
    told = [warning.value for warning in at.warning if "In the address" in warning.value]
    assert not told


@pytest.mark.slow
def test_the_rows_of_the_worst_predictions_are_current() -> None:
    """The remedy: `python -m docs.worst_predictions`."""
    assert worst.FILE == FILE
    assert FILE.read_text() == text()


@pytest.mark.slow
def test_the_worst_predictions_are_those_of_validate_the_worst_first() -> None:
    """Against `validate --json` of the same recordings."""
    said = json.loads(output("validate", "--json"))
    at = opened("claims", cl_part=data.WORST, cl_worst="time as a CUDA graph")
    assert at.info[0].value == worst.OF_DEVELOPMENT
    entries = worst.overview().steps["time as a CUDA graph"]
    lines = [
        line
        for line in said["errors"]
        if (line["quantity"], line["level"], line["run"]) == ("graph_s", "step", "time")
        and line["basis"].startswith("predicted")  # fused kernels have a bound alone
    ]
    assert len(entries) == sum(line["compared"] for line in lines)
    ratios = [entry.ratio for entry in entries]
    farthest = [max(ratio, 1 / ratio) for ratio in ratios]
    assert all(a > b * (1 - 1e-5) for a, b in pairwise(farthest))  # the file has six digits
    assert units.ratio(ratios[0]) in at.title[0].value
    first, leaves = (frame.value for frame in at.dataframe)
    assert first["Measured / predicted"][0] == units.ratio(ratios[0])
    assert len(leaves) == WORST_LEAVES
    *models, line = worst.parity(entries).data
    assert sum(len(trace.x) for trace in models) == len(entries)
    assert line.x == line.y
