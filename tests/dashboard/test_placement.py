"""The sidebar's control of where memory tables stand: when it is there, and what it changes."""

import pytest

from costmodel.errors import InputError
from costmodel.show.prediction_json import prediction_json
from dashboard.app.selection import has_tables
from dashboard.app.shell import STATE
from dashboard.pages.explore.data import cards, fit
from dashboard.pages.report.data import _workload_options
from tests.dashboard.pages import chosen, opened

ULTRAMEM = "ultramemv2-1b-7b"


def test_tables_are_placed_by_the_address() -> None:
    at = opened("explore", model=ULTRAMEM, tables="host")
    assert at.segmented_control(key="tables").value == "host"
    assert at.session_state[STATE].workload.placement.label == "tables=host"


def test_a_model_without_tables_has_no_such_control() -> None:
    assert has_tables(ULTRAMEM, "")
    assert not has_tables("olmoe-1b-7b", "")
    assert not has_tables("no such model", "")
    at = opened("explore", model="olmoe-1b-7b")
    assert not [control for control in at.segmented_control if control.key == "tables"]


def test_a_place_that_the_gpu_lacks_is_refused() -> None:
    with pytest.raises(InputError, match=r"placement='tables=disk': needs a \[disk\]"):
        chosen(model=ULTRAMEM, tables="disk")


def test_cards_the_memory_bar_and_the_command_say_where_tables_stand() -> None:
    selection = chosen(model=ULTRAMEM, batch=1, tables="host")
    assert _workload_options(selection.workload)[-2:] == ["--placement", "tables=host"]
    data = prediction_json(selection.predict())
    (moved,) = (card.help for card in cards(data) if card.label == "Compulsory HBM bytes")
    assert "Beside it, over the link, 4.718 MB of rows from host memory." in moved
    assert "Host memory holds tables of 9.57 GiB." in fit(data, None).text
    usual = prediction_json(chosen(model=ULTRAMEM, batch=1).predict())
    assert "Host memory" not in fit(usual, None).text
