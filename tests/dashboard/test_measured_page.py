"""The Measured page: its numbers are those of the join, and its state is in the address."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from costmodel.recordings import folders
from costmodel.recordings.recording import Check, recording_text
from costmodel.validation.join import join_case
from costmodel.validation.machines import Gpus
from dashboard.app.widgets import plain
from dashboard.pages.measured.data import compared, sentence
from tests.committed import recording as committed
from tests.dashboard.pages import opened
from tests.recording_values import H200, case, leaf_paths, recording, run, session, written
from tests.sentences import says
from tests.steps import tiny_model

pytestmark = pytest.mark.slow  # each test draws the page

V2 = "h200-ultramemv2-1b-7b.json"
OLMOE = "h200-olmoe-1b-7b.json"
GPUS = Gpus()
TINY = tiny_model()
HOSTILE = "<script>alert(1)</script> **bold** $x$ :rocket:"

page = partial(opened, "measured")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(folders, "SHIPPED", tmp_path)
    monkeypatch.setenv(folders.VARIABLE, str(tmp_path / "none"))
    return tmp_path


def test_the_page_opens_the_recording_of_the_sidebars_model_and_workload() -> None:
    at = page(model="olmoe-1b-7b", batch="16")
    assert at.selectbox(key="rec").value == "h200-olmoe-1b-7b.json"
    assert at.selectbox(key="rec_batch").value == 16
    assert at.selectbox(key="rec_context").value == 2048
    names = ("OLMoE-1B-7B", "NVIDIA H200", "decode", 16, 2048, "bf16", "uniform", "CUDA graph")
    assert says(at.text[0].value, *names)
    assert len(at.metric) == 8


def test_the_page_says_whose_numbers_it_shows_where_the_sidebar_asks_for_others() -> None:
    def told(**query: str) -> str:
        at = page(**query)
        return " ".join(info.value for info in at.info).replace("\\", "")

    assert told() == ""
    other = told(model="mixtral-8x7b", batch="7", gpu="b200", backend="fused")
    assert "(Mixtral-8x7B, batch 7, NVIDIA B200" in other
    assert "nothing is recorded of Mixtral-8x7B" in other
    assert "it holds no such step" in other
    assert "it was made on NVIDIA H200" in other
    linked = told(rec=OLMOE, rec_batch="1")
    assert "another recording is chosen here, another step is chosen here." in linked


def test_the_shown_case_follows_the_sidebar() -> None:
    at = page()
    at.selectbox(key="rec_batch").set_value(1).run()
    assert "decode at batch 1 on" in at.title[0].value
    at.number_input(key="batch").set_value(16).run()
    assert at.selectbox(key="rec_batch").value == 16
    at.number_input(key="batch").set_value(1000).run()
    assert at.selectbox(key="rec_batch").value == 1024  # the nearest that is recorded
    assert "batch 1000" in at.info[0].value
    at.selectbox(key="model").set_value("olmoe-1b-7b").run()
    assert not at.exception
    assert at.selectbox(key="rec").value == "h200-olmoe-1b-7b.json"
    assert at.title[0].value.startswith("OLMoE-1B-7B, decode at batch ")


def test_a_link_opens_the_same_case_and_its_numbers_are_those_of_the_join() -> None:
    at = page(rec=V2, rec_batch="4", rec_routing="zipf:1.0", rec_quantity="kernel launches")
    held = committed(V2)
    index = next(
        index
        for index, case_of_file in enumerate(held.cases)
        if (case_of_file.workload.batch, case_of_file.workload.routing) == (4, "zipf:1.0")
    )
    assert at.title[0].value == plain(sentence(compared(held, index)))
    frame = at.dataframe[0].value
    wanted = [
        row
        for row in join_case(held, index, GPUS).rows
        if row.path is None or row.quantity == "launches"
    ]
    assert len(frame) == len(wanted)
    graph = next(row for row in wanted if row.quantity == "graph_s")
    shown = frame[frame["Quantity"] == "time as a CUDA graph"].iloc[0]
    assert shown["Measured"] == pytest.approx((graph.measured or 0) * 1e6, rel=5e-4)
    assert shown["Ratio"] == pytest.approx(graph.ratio, rel=5e-4)
    at.toggle(key="rec_every").set_value(True).run()
    assert len(at.dataframe[0].value) == len(join_case(held, index, GPUS).rows)


def test_routers_are_marked_as_routing() -> None:
    """OLMoE's routers only choose; its experts sort and combine, which is more than choosing."""
    frame = page(rec=OLMOE, rec_quantity="kernel launches").dataframe[0].value
    marked = frame[frame["Routing"] == "yes"]
    assert set(marked["Operator"]) == {f"layers.{layer}.moe.router" for layer in range(16)}
    assert set(frame["Routing"]) == {"yes", ""}


def test_only_what_was_recorded_can_be_chosen() -> None:
    at = page(rec=V2, rec_batch="64")
    at.selectbox(key="rec_phase").set_value("prefill").run()
    assert not at.exception
    assert "rec_batch" not in [element.key for element in at.selectbox]  # the only one is 1
    assert ", batch 1, " in at.text[0].value
    assert at.selectbox(key="rec_new_tokens").options == ["512", "2048", "8192"]


@pytest.mark.parametrize(
    "query",
    [
        {"rec": "../../etc/passwd"},
        {"rec": "no.json", "rec_batch": "-1", "rec_phase": "train", "rec_quantity": HOSTILE},
        {"rec_chart": "pie", "rec_again": "/etc/passwd", "rec_context": "1e999"},
    ],
)
def test_a_link_with_values_that_are_not_offered_opens_the_usual_view(
    query: dict[str, str],
) -> None:
    at = page(**query)
    assert at.selectbox(key="rec").value == V2
    assert not at.error


@pytest.mark.parametrize("chart", ["ratios", "waterfall"])
def test_a_case_that_was_not_measured_says_why(chart: str) -> None:
    at = page(rec=V2, rec_batch="1024", rec_chart=chart)
    assert "not measured; predicted " in at.title[0].value
    assert [card.value for card in at.metric] == ["n/a"] * 8
    assert all("not measured" in card.help for card in at.metric)
    assert any(
        t.value.startswith("Time as a CUDA graph, ") and "not measured (does not fit" in t.value
        for t in at.text
    )


def test_the_repeat_of_a_recording_stands_beside_it_and_other_models_are_not_offered() -> None:
    at = page(rec=OLMOE)
    second = at.selectbox(key="rec_again")
    assert second.value == f"again/{OLMOE}"
    assert second.options == ["none", f"again/{OLMOE}", OLMOE]
    assert any("agrees within the stated spread in " in element.value for element in at.text)
    assert any("Largest change, %" in frame.value.columns for frame in at.dataframe)
    second.set_value("none").run()
    assert not any("Largest change, %" in frame.value.columns for frame in at.dataframe)


def test_a_repeat_of_the_same_model_is_offered_and_chosen() -> None:
    at = page(rec=V2)
    second = at.selectbox(key="rec_again")
    assert second.value == f"again/{V2}"
    assert not at.error


def test_a_second_recording_of_another_model_is_refused() -> None:
    at = page(rec=V2)
    other = recording(TINY, case(time=run({"graph_s": 0.5})))
    upload = at.file_uploader(key="rec_again_file")
    upload.set_value(("other.json", recording_text(other).encode(), "application/json")).run()
    assert not at.exception
    assert at.error[0].value.startswith("model")


def test_a_failed_self_check_is_told_at_the_top(here: Path) -> None:
    check = Check(name="copy: bytes read", known=100, measured=150, tolerance=0.01)
    made = recording(TINY, case(time=run({"graph_s": 1.0})), sessions=[session(H200, check)])
    written(made, here, "a.json")
    assert plain("self-check failed: copy: bytes read") in page().warning[0].value


def test_other_processes_on_the_gpu_are_told_at_the_top(here: Path) -> None:
    alone = run({"graph_s": 1.0})
    shared = replace(alone, conditions=replace(alone.conditions, other_processes=2))
    written(recording(TINY, case(time=shared)), here, "a.json")
    assert [says(each.value, "time", 2) for each in page().warning] == [True]


def test_reasons_and_names_from_a_file_are_never_markup(here: Path) -> None:
    model = tiny_model(name=HOSTILE)
    made = recording(
        model,
        case(time=run({"graph_s": HOSTILE}), lacking={"trace": HOSTILE}),
        paths=leaf_paths(model),
    )
    written(made, here, "a.json")
    at = page()
    assert at.text[0].value.startswith(HOSTILE)
    for element in (*at.title, *at.markdown, *at.caption, *at.error, *at.info):
        assert HOSTILE not in element.value
    for card in at.metric:
        assert HOSTILE not in (card.help or "")


def test_a_broken_recording_and_an_empty_folder_are_told(here: Path) -> None:
    at = page()
    assert at.title[0].value == "No recording yet"
    (here / "broken.json").write_text('{"schema_version": "x"}')
    at = page()
    assert at.title[0].value == "This recording cannot be read"
    assert "broken" in at.error[0].value
    written(recording(TINY), here, "broken.json")
    assert page().title[0].value == "This recording holds no case"


def test_an_upload_takes_the_place_of_the_chosen_recording() -> None:
    at = page()
    made = recording(TINY, case(time=run({"graph_s": 0.5})))
    upload = at.file_uploader(key="rec_file")
    upload.set_value(("mine.json", recording_text(made).encode(), "application/json")).run()
    assert not at.exception
    assert "measured 500 ms, " in at.title[0].value
    assert at.selectbox(key="rec").disabled
    at.file_uploader(key="rec_file").set_value(
        ("bad.json", b"PK\x03\x04", "application/json")
    ).run()
    assert not at.exception
    assert "is a ZIP archive" in at.error[0].value
