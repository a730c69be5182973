"""The twelve tasks of docs/tasks.md as a stranger does them, each within eight clicks.

Each begins on the first page, on an H200 and on a GPU without a calibration. A click into a field
counts, typing does not. Expected numbers are those of the command line.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from costmodel.inputs.catalog import load_model
from costmodel.questions.match import match
from tests.browser.page import Tab
from tests.browser.test_files import QWEN, downloaded
from tests.browser.test_profiling import RUN_MS
from tests.commands import output
from tests.told import told

CALIBRATED, BARE = "h200", "b200"
MOST_CLICKS = 8
MODEL = "ultramemv2-1b-7b"  # the first page's

Task = Callable[[Tab, str], None]


def predicted(gpu: str, *options: str) -> dict[str, Any]:
    """The prediction of the first page's step, by the command."""
    asked = ("predict", MODEL, "--batch", "64", "--hardware", gpu, *options, "--json")
    answer: dict[str, Any] = json.loads(output(*asked))
    return answer


def shows(tab: Tab, text: str) -> None:
    expect(tab.page.get_by_text(text).first).to_be_visible()


def paste_a_config(tab: Tab, gpu: str) -> None:
    tab.unfold("ex_own")
    tab.write("own_draft", QWEN.read_text())
    tab.write("own_name", "Qwen pasted")
    tab.press("own_use")
    assert tab.title().startswith("Qwen pasted: ")
    said = json.loads(output("predict", str(QWEN), "--batch", "64", "--hardware", gpu, "--json"))
    assert f"{1e3 * said['time']['floor_s']:.3g} ms roofline bound" in tab.title()


def match_and_compare(tab: Tab, gpu: str) -> None:
    del gpu
    tab.go("Trade-offs")
    tab.segment("to_what", "match")
    answer = match(load_model(MODEL), load_model("olmoe-1b-7b"))
    sizes = " and ".join(f"{name}={after:,}" for name, (_, after) in answer.fields.items())
    assert tab.title() == f"OLMoE-1B-7B matches {load_model(MODEL).name} with {sizes}"
    tab.press("to_match_pin")
    tab.change(tab.page.get_by_role("link", name="Compare now").first.click)
    assert answer.model.name in tab.title()
    assert load_model(MODEL).name in tab.title()


def crossover_and_truth(tab: Tab, gpu: str) -> None:
    tab.go("Compare")
    shows(tab, "is the faster from batch" if gpu == CALIBRATED else "is the faster")
    shows(tab, "measured with torch" if gpu == CALIBRATED else "not measured in this step")
    tab.go("Is it true?")
    assert "claims" in tab.title()


def where_the_prediction_misses(tab: Tab, gpu: str) -> None:
    del gpu
    tab.go("Is it true?")
    tab.segment("cl_part", "worst predictions")
    shows(tab, "the worst first")
    tab.go("Measured")
    assert "x the predicted" in tab.title()
    assert tab.at("rec_ratios").is_visible()


def export_a_comparison(tab: Tab, gpu: str) -> None:
    tab.go("Report")
    tab.page.locator("summary", has_text="What the report contains").click()
    tab.choose("rep_models", "olmoe-1b-7b")
    html = downloaded(tab, "html").decode()
    for name in (MODEL, "olmoe-1b-7b"):
        assert load_model(name).name in html
    assert ("roofline bound" if gpu == BARE else "predicted") in html


def share_a_link(tab: Tab, gpu: str) -> None:
    tab.choose("model", "qwen3-30b-a3b")
    tab.write("batch", "17")
    title, url, clicks = tab.title(), tab.page.url, tab.clicks()
    assert clicks <= MOST_CLICKS
    tab.clear({"width": 1280, "height": 900})
    tab.open_link(url)
    assert (tab.title(), tab.value("batch"), tab.value("gpu")) == (title, "17", gpu)


def profile_and_cancel(tab: Tab, gpu: str) -> None:
    tab.go("Profile")
    tab.choose("model", "ultramemv2-227m-1.2b")
    tab.segment("prof_dev", "cpu")
    if gpu == BARE:
        tab.at("prof_out").locator("input").fill("another.json")
    tab.at("prof_start").get_by_role("button").click()
    tab.at("prof_cancel").get_by_role("button").click()
    heading = tab.page.get_by_role("heading", level=3)
    expect(heading.filter(has_text="Cancelled")).to_be_visible(timeout=RUN_MS)


def how_many_fit(tab: Tab, gpu: str) -> None:
    tab.write("context", "32768")
    most = predicted(gpu, "--context", "32768")["memory"]["max_batch"]
    shows(tab, f"{most:,} sequences of 32,768 tokens fit on one GPU")


def a_gpu_of_my_own(tab: Tab, gpu: str) -> None:
    tab.unfold("gpu_own")
    tab.write("gpu_hbm_bytes_per_s", "1")
    tab.press("gpu_use")
    bytes_moved = predicted(gpu)["hbm_bytes"]["compulsory"]
    assert f"{bytes_moved / 1e12 * 1e3:.3g} ms roofline bound (memory)" in tab.title()
    assert tab.value("gpu") == "your own"


def keys_swept(tab: Tab, gpu: str) -> None:
    del gpu
    tab.go("Trade-offs")
    tab.page.locator("summary", has_text="What is swept").click()
    tab.write("to_knum", "256,512,1024")
    tab.choose("to_x", "knum")
    assert tab.title().startswith("knum=")
    axis = tab.at("to_scatter").locator(".g-xtitle")
    expect(axis).to_have_text("knum")


def a_second_recording(tab: Tab, gpu: str) -> None:
    tab.go("Measured")
    if gpu == BARE:
        shows(tab, "Not what the sidebar asks for")
    tab.choose("rec", "h200-olmoe-1b-7b.json")
    shows(tab, "The second run agrees within the stated spread")


def usd_a_million_tokens(tab: Tab, gpu: str) -> None:
    tab.write("ex_price", "3")
    asked = ("request", MODEL, "--prompt", "2048", "--output", "256", "--batch", "64")
    said = json.loads(output(*asked, "--price-per-hour", "3", "--hardware", gpu, "--json"))
    cost = said["cost"]
    name = "usd_per_million_output_tokens"
    value = cost[f"predicted_{name}"] or cost[f"floor_{name}"]
    card = tab.page.locator('[data-testid="stMetric"]', has_text="million output tokens")
    expect(card.filter(has_text="ost").first).to_contain_text(f"{told(said['latency'], value):g}")


TASKS: tuple[Task, ...] = (
    paste_a_config,
    match_and_compare,
    crossover_and_truth,
    where_the_prediction_misses,
    export_a_comparison,
    share_a_link,
    profile_and_cancel,
    how_many_fit,
    a_gpu_of_my_own,
    keys_swept,
    a_second_recording,
    usd_a_million_tokens,
)


@pytest.mark.parametrize("gpu", [CALIBRATED, BARE])
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.__name__)
def test_a_stranger_does_the_task(tab: Tab, task: Task, gpu: str) -> None:
    tab.open()
    if gpu != CALIBRATED:
        tab.choose("gpu", gpu)
    task(tab, gpu)
    assert tab.clicks() <= MOST_CLICKS
