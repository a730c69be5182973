"""What no page may show: a spreadsheet's guard, a bare hover, digits beyond what is known."""

import json
import re
from functools import cache
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from costmodel.costs.quantities.step import STEP_QUANTITIES
from tests.commands import output
from tests.dashboard.pages import opened
from tests.told import told

pytestmark = pytest.mark.slow  # draws pages

VIEWS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("explore", ()),
    ("explore", (("ex_chart", "roofline"),)),
    ("compare", ()),
    ("tradeoffs", ()),
    ("tradeoffs", (("to_what", "match"),)),
    ("measured", (("model", "olmoe-1b-7b"),)),
    ("measured", (("model", "olmoe-1b-7b"), ("rec_chart", "waterfall"))),
    ("claims", (("cl_part", "accuracy"),)),
)
views = pytest.mark.parametrize("view", VIEWS, ids=str)
NUMBER = re.compile(r"%\{(?:x|y)\}")
LONGEST = 4  # significant digits of a card
MANTISSA = re.compile(r"-?(\d[\d,]*\.?\d*)(?: [a-zA-Z/%]+|x)?$")


@cache
def page(view: tuple[str, tuple[tuple[str, str], ...]]) -> AppTest:
    name, query = view
    return opened(name, **dict(query))


def traces(at: AppTest) -> list[dict[str, Any]]:
    """The traces of all charts of a page."""
    return [
        trace for chart in at.get("plotly_chart") for trace in json.loads(chart.proto.spec)["data"]
    ]


@views
def test_no_cell_shows_the_apostrophe_that_guards_spreadsheets(
    view: tuple[str, tuple[tuple[str, str], ...]],
) -> None:
    for table in page(view).dataframe:
        cells = [*table.value.columns, *table.value.to_numpy().ravel()]
        assert not [cell for cell in cells if isinstance(cell, str) and cell.startswith("'")]


@views
def test_every_hover_names_its_numbers_and_rounds_them(
    view: tuple[str, tuple[tuple[str, str], ...]],
) -> None:
    """Without a template Plotly shows `(16, 7.18784)` and the text beside it, without a word."""
    for trace in traces(page(view)):
        assert trace.get("hoverinfo") or trace["hovertemplate"], trace["name"]
        for number in NUMBER.findall(trace.get("hovertemplate", "")):
            values = trace[number[2]]
            assert isinstance(values, dict) or any(isinstance(value, str) for value in values)


def test_predicted_numbers_have_few_digits_on_a_card_and_in_a_table() -> None:
    """11 ms at batch 64, not 11.2, while half the interval is over 10 %; operators have three."""
    at = page(VIEWS[0])
    cards = {card.label: card.value for card in at.metric}
    time = json.loads(output("predict", "ultramemv2-1b-7b", "--batch", "64", "--json"))["time"]
    assert cards["Predicted time"] == f"{told(time, 1e3 * time['predicted_s']):g} ms"
    for card in at.metric:
        found = MANTISSA.match(card.value)
        if found and "." in found[1]:
            digits = found[1].replace(",", "").replace(".", "").lstrip("0")
            assert len(digits) <= LONGEST or card.label.startswith("Distinct"), card
    operators = at.dataframe[0].value
    for value in operators["Predicted, us"]:
        assert value == float(f"{value:.3g}")
    for value in operators["Roofline bound, us"]:
        assert value == float(f"{value:.4g}")


def test_a_cache_has_one_sort_of_unit_and_what_a_card_holds_another() -> None:
    """KV stored, read and written are compared: all in GB; memory and its capacity in GiB."""
    kept = {name: one.unit for name, one in STEP_QUANTITIES.items() if name.startswith("kv_cache.")}
    assert set(kept.values()) == {"bytes"}
    held = [
        one.unit
        for name, one in STEP_QUANTITIES.items()
        if name.startswith("memory.") and name.endswith("_bytes")
    ]
    assert set(held) == {"capacity"}
    cards = {card.label: card.value for card in page(VIEWS[0]).metric}
    # 64 sequences of 2,049 and 2,048 tokens, 16 layers of 16 heads of 128, K and V, in bf16
    assert cards["KV cache stored"] == f"{64 * 2049 * 16 * 16 * 128 * 2 * 2 / 1e9:.2f} GB"
    assert cards["KV cache read"] == f"{64 * 2048 * 16 * 16 * 128 * 2 * 2 / 1e9:.2f} GB"
