"""Explore: the measured numbers of the very step, and bounds where nothing is predicted."""

import json
from functools import partial

import pytest
from streamlit.testing.v1 import AppTest

from costmodel import units
from tests.committed import FOLDER
from tests.dashboard.pages import opened

pytestmark = pytest.mark.slow  # draws pages

page = partial(opened, "explore", model="olmoe-1b-7b", batch="16")


def notes(at: AppTest) -> dict[str, str]:
    """What stands below the numbers of the cards that have a note."""
    return {card.label: card.delta for card in at.metric if card.delta}


def test_what_was_measured_of_the_very_step_stands_below_its_prediction() -> None:
    data = json.loads((FOLDER / "h200-olmoe-1b-7b.json").read_text())
    step = {"phase": "decode", "batch": 16, "context": 2048, "routing": "uniform"}
    (runs,) = [case["runs"] for case in data["cases"] if step.items() <= case["workload"].items()]
    seconds = runs["time"]["step"]["graph_s"]["median"]
    joules = runs["energy"]["step"]["energy_j"]["median"] / 16
    read = runs["counters"]["step"]["hbm_read_bytes"]["median"]
    at = page()
    told = notes(at)
    assert told["Predicted time"].startswith(f"measured {units.seconds(seconds)} (")
    assert told["Energy per token"].startswith(f"measured {units.scaled(joules, 'J')} (")
    assert told["Compulsory HBM bytes"].startswith(f"measured reads {units.traffic(read)} (")
    assert f"{units.seconds(float(f'{seconds:.3g}'))} measured" in at.title[0].value


@pytest.mark.parametrize(
    "other",
    [{"batch": "17"}, {"context": "4000"}, {"dtype": "fp8"}, {"gpu": "b200"}, {"gpus": "2"}],
    ids=str,
)
def test_another_step_or_gpu_has_no_measured_number(other: dict[str, str]) -> None:
    at = page(**other)
    assert not [note for note in notes(at).values() if note.startswith("measured")]
    assert "measured" not in at.title[0].value


def test_a_transferred_number_shows_its_interval_and_label() -> None:
    at = page(gpu="b200", ex_price="3")
    cards, told = {card.label: card.value for card in at.metric}, notes(at)
    assert cards["Predicted time"].startswith("~")
    assert " to " in told["Predicted time"]
    assert told["Predicted throughput"] == "transferred from h200"
    assert cards["Cost per million output tokens"].startswith("~")
    assert cards["Energy per token"] == units.NOT_KNOWN
    said = " ".join(one.value for one in at.caption).replace("\\", "")
    assert said.count("Predicted times are transferred from h200: not measured on this GPU.") == 2
    assert "Intervals of 90%: time to first token" in said


@pytest.mark.usefixtures("no_leaves")
def test_a_number_that_is_not_predicted_shows_its_bound_and_says_which() -> None:
    """30.82 GB... of this step over 8 TB/s: the card of the bound has the same time."""
    at = page(gpu="b200", ex_price="3")
    cards = {card.label: card.value for card in at.metric}
    bound = cards["Roofline bound"]
    assert cards["Predicted time"] == f"\u2265 {bound}"
    told = notes(at)
    assert told["Predicted time"] == told["Time to first token"] == "at least: roofline bound"
    assert told["Cost per million output tokens"] == "at least: roofline bound"
    for speed in ("Predicted throughput", "Output throughput"):
        assert told[speed] == "at most: roofline bound"
        assert cards[speed].startswith("\u2264 ")
    assert cards["Energy per token"] == units.NOT_KNOWN  # no bound of energy
    frame = next(one.value for one in at.dataframe if "Predicted" in one.value)
    rows = {row["Quantity"]: row for row in frame.to_dict("records")}
    first, speed = rows["Time to first token"], rows["Output throughput"]
    assert first["Predicted"] == f"at least {first['Roofline bound']} (roofline bound)"
    assert speed["Predicted"] == f"at most {speed['Roofline bound']} (roofline bound)"
    assert rows["Energy per request"]["Predicted"] == units.NOT_KNOWN
