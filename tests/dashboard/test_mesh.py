"""Several GPUs on the pages: the sidebar's fields, and what each page makes of them."""

import json
import logging

import pytest
from streamlit.testing.v1 import AppTest

from costmodel import units
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.errors import InputError
from costmodel.layers.mesh import ONE_GPU, AskedMesh
from costmodel.show.text import capitalised
from dashboard.app.mesh_controls import ChosenMesh
from dashboard.pages.explore.meshed import CARDS, exchange_rows
from dashboard.pages.report.data import Recorded, ReportForm, command
from tests.commands import output
from tests.dashboard.pages import chosen, opened
from tests.sentences import says

LARGE = "ultramemv2-2.5b-120b"
PAIR = ["moe-2.5b-120b", LARGE]
pytestmark = pytest.mark.slow  # most tests draw a page


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("streamlit").setLevel(logging.ERROR)


def metrics(at: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in at.metric}


def test_the_sidebar_makes_the_mesh() -> None:
    assert ChosenMesh().mesh() == ONE_GPU
    assert ChosenMesh(gpus="auto", tp=2).mesh() == AskedMesh(fewest=True, tp=2)
    assert ChosenMesh(gpus="8", dp=4, tables="rows").mesh() == AskedMesh(
        gpus=8, dp=4, tables="rows"
    )
    with pytest.raises(InputError, match="tp=3"):
        chosen(model=LARGE, gpus=ChosenMesh(gpus="8", tp=3))


def test_explore_tells_one_gpu_of_a_mesh() -> None:
    said = json.loads(output("predict", LARGE, "--batch", "64", "--gpus", "8", "--json"))
    at = opened("explore", model=LARGE, gpus="8")
    drawn = metrics(at)
    for name in CARDS:
        section, _, last = name.removeprefix("parallel.").partition(".")
        value = said["parallel"][section]
        value = value[last] if last else value
        quantity = STEP_QUANTITIES[name]
        label = capitalised(quantity.label)
        assert (label in drawn) == (value is not None), name
        if value is not None:
            assert drawn[label] == units.formatted(value, quantity.unit), name
    assert len(exchange_rows(said)) == len(said["parallel"]["exchanges"])
    assert any("measured" in caption.value for caption in at.caption)
    assert not any("does not fit" in warning.value for warning in at.warning)


def test_a_step_that_does_not_fit_offers_the_fewest_gpus() -> None:
    """240 GB of weights need two H200s."""
    at = opened("explore", model=LARGE)
    (offer,) = (button for button in at.button if button.key == "ex_fewest")
    assert says(offer.label, 2)
    offer.click().run()
    assert not at.exception
    assert "auto" in at.query_params["gpus"]
    assert not [button for button in at.button if button.key == "ex_fewest"]
    assert any(says(heading.value, "One of", 2) for heading in at.subheader)


def test_sizes_that_do_not_multiply_are_refused() -> None:
    at = opened("explore", model=LARGE, gpus="8", tp="3")
    assert any("tp=3" in error.value for error in at.error)


def test_sizes_without_several_gpus_leave_the_address() -> None:
    at = opened("explore", model=LARGE, tp="2")
    assert any("tp" in warning.value for warning in at.warning)


def test_compare_says_who_is_faster_and_shows_nothing_measured() -> None:
    at = opened("compare", cmp_models=PAIR, cmp_add="false", gpus="8")
    (sentence,) = (info.value for info in at.info)
    assert "Communication" in sentence
    assert any("Recordings are of one GPU" in caption.value for caption in at.caption)


def test_tradeoffs_costs_designs_and_matches_on_the_mesh() -> None:
    assert metrics(opened("tradeoffs", model=LARGE, gpus="2"))["Designs"] == "3"
    at = opened("tradeoffs", to_what="match", to_target=PAIR[0], to_template=LARGE, gpus="auto")
    assert not at.error


def test_the_report_page_names_the_command_of_its_mesh() -> None:
    selection = chosen(model=LARGE, gpus=ChosenMesh(gpus="8", tp=2, tables="rows"))
    words = command(selection, ReportForm(contents=("summary",)), Recorded(), ".md")
    assert "--gpus 8 --tp 2 --split-tables rows" in words
    at = opened("report", model=LARGE, gpus="auto")
    assert not at.error
