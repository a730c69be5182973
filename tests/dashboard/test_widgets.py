"""What pages are made of: tables that are no formula as CSV, and words for whoever sees none."""

import ast
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from costmodel.inputs.catalog import load_model
from dashboard.app.own_model import model_text, packed
from dashboard.app.widgets import inert_frame
from tests.dashboard.pages import opened

DASHBOARD = Path(__file__).parents[2] / "dashboard"
DRAWN = {"plotly_chart", "dataframe", "table"}  # of Streamlit
APP = str(Path(__file__).parents[2] / "app.py")
FORMULA = "=cmd|'/C calc'!A0"


@pytest.mark.parametrize(
    "text", [FORMULA, f" {FORMULA}", "@SUM(A1)", "+1+cmd|'/C calc'!A0", "-A1", "\t=1", "-1e3=A1"]
)
def test_a_name_that_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    (row,) = inert_frame([{"Model": text, text: 1}]).to_dict("records")
    assert row == {"Model": f"'{text}", f"'{text}": 1}


@pytest.mark.parametrize(
    "value", ["-", "-3.2 %", "+0.5 %", "-1,024", "+1e-05 us", "OLMoE", -7, 0.5]
)
def test_numbers_and_words_stay_as_they_are(value: object) -> None:
    assert inert_frame([{"a": value}]).to_dict("records") == [{"a": value}]


def test_what_is_not_known_stays_empty() -> None:
    frame = inert_frame([{"a": None}, {"a": 2.0}])
    assert frame["a"].isna().tolist() == [True, False]


@pytest.mark.slow
@pytest.mark.parametrize("view", ["compare", "report"])
def test_no_table_of_a_page_holds_a_formula_of_a_model_s_name(view: str) -> None:
    logging.getLogger("streamlit").setLevel(logging.ERROR)
    of_page = {
        "compare": {"cmp_add": "true"},
        "report": {"rep_models": "olmoe-1b-7b", "rep_preview": "Comparison over the batch"},
    }
    at = opened(view, own=link(FORMULA), model="your own", **of_page[view])
    cells = [
        cell
        for element in at.dataframe
        for cell in [*element.value.columns, *element.value.to_numpy().ravel()]
        if isinstance(cell, str)
    ]
    assert f"'{FORMULA}" in cells
    assert FORMULA not in cells


def test_every_chart_and_table_is_told_in_words() -> None:
    calls = [
        call
        for path in DASHBOARD.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in DRAWN
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "st"
    ]
    assert {getattr(call.func, "attr", "") for call in calls} == DRAWN
    for call in calls:
        assert "alt" in {keyword.arg for keyword in call.keywords}, ast.unparse(call)


def link(name: str) -> str:
    """A link's model of that name."""
    model = replace(load_model("ultramemv2-227m-1.2b"), name=name)
    made = packed(model_text(model))
    assert made is not None
    return made
