"""The Report page: its report is that of the command line, and its state is in the address."""

import json
import logging
import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from costmodel.recordings import folders
from dashboard.app.own_model import model_text
from dashboard.app.selection import OWN, OWN_FILE
from dashboard.app.widgets import plain
from dashboard.pages.report.data import (
    MIME,
    Recorded,
    ReportForm,
    asked,
    command,
    models_of,
    recordings_of,
)
from dashboard.report.build import build
from dashboard.report.document import CONTENTS, report_json
from dashboard.report.files import FORMATS
from tests.commands import output
from tests.dashboard.pages import chosen, opened, page_at
from tests.dashboard.reports import HOSTILE, MADE, OLMOE, RECORDINGS, ULTRAMEM
from tests.sentences import says
from tests.told import told

pytestmark = pytest.mark.slow  # each test draws the page

ROOT = Path(__file__).parents[2]

page = partial(opened, "report")


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # where the recordings are
    logging.getLogger("streamlit").setLevel(logging.ERROR)


def holds(at: AppTest) -> str:
    """What the page says that the report holds."""
    return next(
        element.value for element in at.caption if element.value.startswith("A report to keep.")
    )


def cells(at: AppTest) -> list[list[Any]]:
    return [row for frame in at.dataframe for row in frame.value.to_numpy().tolist()]


def test_the_page_shows_the_numbers_of_predict() -> None:
    at = page()
    data = json.loads(output("predict", ULTRAMEM, "--batch", "64", "--context", "2048", "--json"))
    shown = dict(cells(at))
    time_ms = told(data["time"], data["time"]["predicted_s"] * 1e3)
    assert shown["predicted time"] == f"{time_ms:g} ms"
    assert shown["largest batch that fits"] == f"{data['memory']['max_batch']:,}"
    count = len(data["operators"])
    assert says(holds(at), 1, count, 7, 12)  # six measured batches by each backend
    assert at.text[0].value.startswith("In short: ")
    assert f"predicted {time_ms:g} ms a step (" in at.text[1].value
    assert re.search(r"a step \([\d.]+ ms to [\d.]+ ms; roofline bound ", at.text[1].value)
    assert not at.error
    assert not at.warning


def test_the_address_holds_the_models_the_contents_and_the_preview() -> None:
    at = page(
        rep_models=OLMOE,
        rep_operators="false",
        rep_batches="1,2",
        rep_price="2.5",
        rep_preview="Inputs",
        batch="16",
    )
    assert " 2 models, " in holds(at)
    assert " 2 batches compared, " in holds(at)
    shown = dict(cells(at))
    assert shown["models"] == "UltraMemV2-1B/7B (reconstruction), OLMoE-1B-7B"
    assert shown["batches compared"] == "1, 2"
    assert shown["price"] == "2.5 USD an hour"
    assert shown["batches"] == "16"
    (code,) = [element.value for element in at.code]
    assert "--contents summary,comparison,measured,method" in code
    assert "--price-per-hour 2.5" in code


@pytest.mark.parametrize(
    "title",
    [
        "Summary",
        "Operators",
        "Comparison over the batch",
        "Predicted beside measured",
        "Inputs",
        "Method",
    ],
)
def test_every_section_is_previewed(title: str) -> None:
    at = page(rep_models=OLMOE, rep_preview=title)
    assert cells(at)
    assert len(at.get("download_button")) == len(FORMATS)
    assert not at.error


def test_a_section_that_is_no_longer_held_is_no_longer_previewed() -> None:
    at = page(rep_preview="Operators")
    at.checkbox(key="rep_operators").set_value(False).run()
    assert not at.exception
    assert "quantity" not in [row[0] for row in cells(at)]
    assert dict(cells(at))["fits GPU memory"] == "yes"


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ({"rep_batches": "1,x"}, "batch='x': must be a whole number"),
        ({"rep_batches": "0"}, "batch='0'"),
        ({f"rep_{name}": "false" for name in CONTENTS}, "contents=0"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_offered(query: dict[str, str], rule: str) -> None:
    at = page(**query)
    assert at.title[0].value == "This report cannot be made"
    (error,) = at.error
    assert plain(rule) in error.value
    assert not at.get("download_button")


@pytest.mark.parametrize(
    "query", [{"rep_models": "../../etc/passwd"}, {"rep_price": "-5"}, {"rep_preview": "<b>"}]
)
def test_values_of_an_address_that_are_no_choice_are_left_out(query: dict[str, str]) -> None:
    at = page(**query)
    assert " 1 model, " in holds(at)
    assert "passwd" not in at.code[0].value


def test_names_that_no_widget_offers_are_refused() -> None:
    with pytest.raises(InputError, match=r"rep_models=.* is none of"):
        models_of(chosen(), ReportForm(more=("../../etc/passwd",)))
    with pytest.raises(InputError, match="at most 3 more"):
        models_of(chosen(), ReportForm(more=(OLMOE,) * 4))


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        ({}, ReportForm()),
        ({"batch": 7, "context": 0}, ReportForm(more=(OLMOE,), compared="1,2,3")),
        ({"phase": "prefill", "context": 0, "new_tokens": 512}, ReportForm(price_per_hour=2.5)),
        ({"dtype": "int4", "kv_dtype": "fp8", "routing": "zipf:0.5"}, ReportForm()),
        (
            {"dtype": "fp8", "hardware": "b200", "backend": "fused"},
            ReportForm(contents=("summary",)),
        ),
        ({"kv_dtype": "fp8", "attention_flops": "full", "logits": "all"}, ReportForm()),
        ({"model": "deepseek-v2-lite", "mla": "expanded"}, ReportForm()),
        ({"model": "deepseek-v2-lite", "mla_cache": "expanded"}, ReportForm(contents=("summary",))),
        (
            {"model": "gpt-oss-20b", "window_cache": "whole"},
            ReportForm(contents=("summary",)),
        ),
        (
            {"model": "deepseek-v3", "kv_dtype": "fp8_ds_mla", "hardware": "b200"},
            ReportForm(contents=("summary",)),
        ),
    ],
)
def test_the_command_that_is_shown_writes_the_report_that_is_shown(
    tmp_path: Path, fields: dict[str, Any], form: ReportForm
) -> None:
    selection = chosen(**fields)
    models = models_of(selection, form)
    recorded = recordings_of(models) if "measured" in form.contents else Recorded()
    shown = report_json(build(asked(selection, form, recorded), MADE))
    words = shlex.split(command(selection, form, recorded, ".json"))
    assert words[0] == "sparsecost"
    assert words[-2:] == ["--out", "report.json"]
    out = tmp_path / "report.json"
    output(*words[1:-1], str(out))
    written = json.loads(out.read_text())
    assert written | {"made": MADE} == shown


def test_recordings_of_the_chosen_models_are_found_and_bad_files_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "SHIPPED", tmp_path)
    monkeypatch.setenv(folders.VARIABLE, str(tmp_path / "none"))
    source = RECORDINGS / f"h200-{OLMOE}.json"
    (tmp_path / "good.json").write_bytes(source.read_bytes())
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "other.json").write_bytes((RECORDINGS / "h200-llama-3.1-8b.json").read_bytes())
    recorded = recordings_of((load_model(OLMOE),))
    assert [path for path, _ in recorded.recordings] == [tmp_path / "good.json"]
    (error,) = recorded.errors
    assert "bad.json" in error


def test_a_hostile_model_of_ones_own_stays_text() -> None:
    text = json.loads(model_text(load_model(OLMOE)))
    at = page_at("report")
    at.session_state["own_text"] = json.dumps(text | {"name": HOSTILE[1]})
    at.query_params["model"] = OWN
    at.run()
    assert not at.exception
    (heading,) = at.title
    assert plain(HOSTILE[1]) in heading.value
    assert HOSTILE[1] not in heading.value
    assert all(
        HOSTILE[1] not in element.value for element in (*at.subheader, *at.markdown, *at.caption)
    )
    assert at.code[0].value.startswith(f"sparsecost report {OWN_FILE} ")
    buttons = [element.proto for element in at.get("download_button")]
    assert len(buttons) == len(FORMATS) == len(MIME)
