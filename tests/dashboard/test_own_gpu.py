"""A GPU of the user's own: by fields, by TOML, in a link; refused with the field and the rule."""

import pytest
from streamlit.testing.v1 import AppTest

from costmodel.costs.predict import Prediction
from costmodel.errors import InputError
from costmodel.inputs.hardware import hardware_names, load_hardware
from costmodel.show.prediction_json import prediction_json
from dashboard.app.own_gpu import TYPED, edited, gpu_text, read_gpu
from dashboard.app.own_model import packed
from dashboard.app.selection import OWN
from tests.dashboard.pages import chosen, opened

MINE = """\
name = "Mine"
hbm_bytes_per_s = 1e12
capacity_bytes = 80_000_000_000
l2_bytes = 50_000_000

[dense_peak_flops_per_s]
bf16 = 1e15

[sources]
hbm_bytes_per_s = "assumed"
capacity_bytes = "assumed"
l2_bytes = "assumed"
"dense_peak_flops_per_s.bf16" = "assumed"
"""


def step_on(text: str) -> Prediction:
    return chosen(hardware=OWN, own_gpu=text).predict()


def caption(at: AppTest) -> str:
    return str(at.caption[0].value)


@pytest.mark.parametrize("name", hardware_names())
def test_the_text_of_a_preset_reads_back_as_the_same_gpu(name: str) -> None:
    assert read_gpu(gpu_text(load_hardware(name))) == load_hardware(name)


def test_a_step_that_memory_bounds_takes_bytes_over_the_typed_bandwidth() -> None:
    step = step_on(MINE)
    assert step.bound_by == "memory"
    moved = prediction_json(step)["hbm_bytes"]["compulsory"]
    assert float(step.floor_s) == pytest.approx(moved / 1e12)
    twice = edited(MINE, ("hbm_bytes_per_s",), 2e12)
    assert float(step_on(twice).floor_s) == pytest.approx(float(step.floor_s) / 2)
    assert read_gpu(twice).sources["hbm_bytes_per_s"] == TYPED
    assert read_gpu(twice).sources["l2_bytes"] == "assumed"


def test_a_number_is_added_with_its_source_and_taken_out_with_it() -> None:
    place = ("dense_peak_flops_per_s", "fp8")
    added = read_gpu(edited(MINE, place, 2e15))
    assert (added.dense_peak_flops_per_s.fp8, added.sources[".".join(place)]) == (2e15, TYPED)
    assert read_gpu(edited(gpu_text(added), place, None)) == read_gpu(MINE)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (MINE.replace("1e12", "-1.0"), "hbm_bytes_per_s=-1.0"),
        (MINE.replace('l2_bytes = "assumed"\n', ""), "sources: has no entry for l2_bytes"),
        (MINE + "[extra]\nx = 1\n", "extra"),
        ("not toml", "gpu"),
        ("x" * 300_000, "gpu: is longer than 256 KiB"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_its_field_and_without_a_path(
    text: str, told: str
) -> None:
    with pytest.raises(InputError) as refusal:
        read_gpu(text)
    assert told in str(refusal.value)
    assert "/tmp" not in str(refusal.value)  # noqa: S108 - looked for, not used


def test_a_gpu_is_typed_in_fields_used_linked_and_forgotten() -> None:
    at = opened("explore", gpu_own="true")
    before = at.title[0].value
    at.number_input(key="gpu_hbm_bytes_per_s").set_value(2.4).run()  # an H200 has 4.8 TB/s
    at.text_input(key="gpu_name").set_value("Half an H200").run()
    assert at.title[0].value == before  # until it is used
    at.button(key="gpu_use").click().run()
    assert not at.exception
    assert at.selectbox(key="gpu").value == OWN
    assert "8.16 ms roofline bound" in at.title[0].value  # twice the 4.08 ms of an H200
    assert "on Half an H200" in at.text[0].value
    assert "transferred from h200" in at.title[0].value
    linked = opened("compare", own_gpu=str(at.query_params["own_gpu"]), gpu=OWN)
    assert "Half an H200" in linked.caption[0].value
    at.button(key="gpu_forget").click().run()
    assert at.selectbox(key="gpu").value == "h200"
    assert at.title[0].value == before


def test_a_pasted_toml_is_used_and_a_link_that_holds_no_gpu_is_told() -> None:
    at = opened("explore", gpu_own="true")
    at.text_area(key="gpu_draft").set_value("name = 7").run()
    assert at.button(key="gpu_use").disabled
    at.text_area(key="gpu_draft").set_value(MINE).run()
    at.button(key="gpu_use").click().run()
    assert "on Mine" in at.text[0].value
    wrong = opened("explore", own_gpu=str(packed("name = 7")), gpu=OWN)
    assert "name=7" in wrong.error[0].value
