"""The Explore page: its numbers are those of the command line, and its state is in the address."""

import hashlib
import json
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from costmodel import units
from costmodel.costs.quantities.requests import REQUEST_QUANTITIES
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.inputs.catalog import FOLDER, load_model
from costmodel.inputs.model_toml import model_toml
from costmodel.layers.formats import Storage, parse_formats
from costmodel.show.text import capitalised
from dashboard.app.own_model import MAX_LINK_CHARS, model_text, packed, read_model
from dashboard.app.selection import OWN
from dashboard.app.widgets import plain
from dashboard.pages.explore.own_form import editable, edited
from dashboard.pages.explore.served import CARDS
from tests.commands import output
from tests.dashboard.pages import chosen, page_at
from tests.sentences import says
from tests.steps import tiny_model
from tests.told import told

pytestmark = pytest.mark.slow  # most tests draw the page

HF = Path(__file__).parents[1] / "data" / "hf"
BOUND = capitalised(STEP_QUANTITIES["time.floor_s"].label)
SERVED = [capitalised(REQUEST_QUANTITIES[name].label) for name in CARDS]
ULTRAMEM = model_text(load_model("ultramemv2-1b-7b"))


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("streamlit").setLevel(logging.ERROR)


def page(opened: tuple[str, ...] = (), /, **query: str) -> AppTest:
    return page_of(query, opened)


def page_of(query: dict[str, str], opened: tuple[str, ...] = ()) -> AppTest:
    at = page_at("explore")
    for name, value in query.items():
        at.query_params[name] = value
    for key in opened:
        at.session_state[key] = True
    at.run()
    assert not at.exception
    return at


def metrics(at: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in at.metric}


def card(name: str) -> str:
    """The label of the card of a number of the step."""
    quantity = STEP_QUANTITIES[name]
    return capitalised(quantity.short or quantity.label)


def label_of(name: str) -> str:
    """The label of the card of a number of served requests."""
    return capitalised(REQUEST_QUANTITIES[name].label)


def title(at: AppTest) -> str:
    return str(at.title[0].value)


CASES: dict[str, tuple[list[str], dict[str, str]]] = {
    "the first page": (["ultramemv2-1b-7b", "--batch", "64"], {}),
    "experts": (
        ["qwen3-30b-a3b", "--batch", "7", "--context", "100", "--routing", "zipf:1.0"],
        {"model": "qwen3-30b-a3b", "batch": "7", "context": "100", "routing": "zipf"},
    ),
    "experts evenly and rows by Zipf's law": (
        ["ultramemv2-1b-7b", "--batch", "64", "--routing", "experts=uniform,rows=zipf:0.5"],
        {"batch": "64", "routing": "each its own", "exponent_rows": "0.5"},
    ),
    "a prefill of nothing cached": (
        ["olmoe-1b-7b", "--phase", "prefill", "--batch", "2", "--new-tokens", "300"],
        {"model": "olmoe-1b-7b", "phase": "prefill", "batch": "2", "new_tokens": "300"},
    ),
    "a prefill": (
        ["ultramemv2-1b-7b", "--phase", "prefill", "--batch", "64", "--context", "2048"],
        {"phase": "prefill", "context": "2048"},
    ),
    "tables of n-grams": (
        ["engram-227m-1.2b-reconstruction", "--batch", "64"],
        {"model": "engram-227m-1.2b-reconstruction", "batch": "64"},
    ),
    "another GPU and format": (
        ["llama-3.1-8b", "--batch", "64", "--hardware", "b200", "--dtype", "fp8"],
        {"model": "llama-3.1-8b", "gpu": "b200", "dtype": "fp8"},
    ),
    "per-layer embeddings, whose table stands beside the blocks": (
        ["gemma-4-e2b", "--batch", "64"],
        {"model": "gemma-4-e2b"},
    ),
    "n-gram tables at the input": (
        ["longcat-flash-lite", "--batch", "64", "--routing", "rows=zipf:0.9"],
        {
            "model": "longcat-flash-lite",
            "routing": "each its own",
            "exponent_rows": "0.9",
        },
    ),
    "a cache as wide as the weights": (
        ["llama-3.1-8b", "--batch", "64", "--dtype", "fp32"],
        {"model": "llama-3.1-8b", "dtype": "fp32"},
    ),
    "a cache of its own": (
        ["llama-3.1-8b", "--batch", "64", "--dtype", "fp32", "--kv-dtype", "fp8"],
        {"model": "llama-3.1-8b", "dtype": "fp32", "kv_dtype": "fp8"},
    ),
}


ROUNDED = 5e-2  # two digits


def predicted(said: dict[str, Any], value: float, words: Callable[[float], str]) -> str:
    """A predicted value; where it is transferred, with a mark before it."""
    mark = "~" if value and "transferred_from" in said["time"] else ""
    return f"{mark}{words(told(said['time'], value) or 0.0)}"


@pytest.mark.parametrize(("arguments", "query"), CASES.values(), ids=CASES.keys())
def test_the_cards_are_predict_json(arguments: list[str], query: dict[str, str]) -> None:
    said: dict[str, Any] = json.loads(output("predict", *arguments, "--json"))
    at = page_of(query)
    found = metrics(at)
    time, kv, routing = said["time"], said["kv_cache"], said["routing"]
    parameters = said["parameters"]
    step = {name: value for name, value in found.items() if name not in SERVED}
    assert {name: value for name, value in step.items() if "istinct" not in name} == {
        card(name): value
        for name, value in {
            "time.predicted_s": f"\u2265 {units.seconds(time['floor_s'])}"
            if time["predicted_s"] is None
            else predicted(said, time["predicted_s"], units.seconds),
            "memory.max_batch": units.count(said["memory"]["max_batch"]),
            "time.floor_s": units.seconds(time["floor_s"]),
            "time.tokens_per_s": f"\u2264 {units.scaled(time['floor_tokens_per_s'], 'tok/s')}"
            if time["tokens_per_s"] is None
            else predicted(said, time["tokens_per_s"], lambda rate: units.scaled(rate, "tok/s")),
            "energy.j_per_token": units.scaled(told(time, said["energy"]["j_per_token"]), "J"),
            "hbm_bytes.compulsory": units.traffic(said["hbm_bytes"]["compulsory"]),
            "flops.per_token": units.flops(said["flops"]["per_token"]),
            "kv_cache.stored_bytes": units.traffic(kv["stored_bytes"]),
            "kv_cache.read_bytes": units.traffic(kv["read_bytes"]),
            "parameters.total": units.parameters(parameters["total"]),
            "parameters.active_without_embeddings": units.parameters(
                parameters["active_without_embeddings"]
            ),
            "routing.share_of_time": "n/a"
            if routing["share_of_time"] is None
            else predicted(said, 100 * routing["share_of_time"], lambda share: f"{share:g} %"),
        }.items()
    }
    distinct = {
        what: units.count(number)
        for what in ("experts", "rows")
        if (number := routing[f"expected_distinct_{what}"]) is not None
    }
    if distinct:
        assert found[f"Distinct {' and '.join(distinct)}"] == ", ".join(distinct.values())
    memory = said["memory"]
    text = at.get("progress")[0].proto.text
    assert f"largest batch at this context: {units.count(memory['max_batch'])};" in text
    assert (
        f"{units.capacity(memory['total_bytes'])} of {units.capacity(memory['capacity_bytes'])}"
        in text
    )
    operators = at.dataframe[0].value
    assert list(operators["Operator"]) == [each["path"] for each in said["operators"]]
    assert list(operators["HBM bytes, MB"]) == pytest.approx(
        [each["count"] * each["compulsory_bytes"] / 1e6 for each in said["operators"]], rel=1e-3
    )
    if time["predicted_s"] is None:
        assert plain(said["reasons"]["time.predicted_s"]) in at.caption[0].value
        assert "Predicted, us" not in operators
    else:
        assert sum(operators["Of predicted, %"]) == pytest.approx(100, abs=0.3)


def test_the_title_is_the_answer_and_the_line_below_it_the_question() -> None:
    at = page()
    assert title(at).startswith(plain("UltraMemV2-1B/7B (reconstruction): "))
    assert says(title(at), "predicted", 4.08, "bound", "memory")
    assert says(at.text[0].value, "decode", 64, 2048, "NVIDIA H200 SXM")
    other = page(gpu="b200")
    assert says(title(other), "UltraMemV2-1B/7B", 2.54, "bound", "memory")
    assert "transferred from h200" in title(other)
    assert other.text[0].value.endswith(" on NVIDIA B200 (HGX), bf16 (KV bf16)")
    prefill = page(phase="prefill").text[0].value
    assert says(prefill, "prefill", 64, 2048, "NVIDIA H200 SXM")
    assert "cached" not in prefill
    cached = page(phase="prefill", context="4096").text[0].value
    assert says(cached, "prefill", 64, 2048, 4096, "NVIDIA H200 SXM")


def test_the_other_phase_has_its_own_usual_context_and_keeps_a_given_one() -> None:
    """2048 cached tokens in decode and none in prefill unless given, as on the command line."""
    at = page()
    at.segmented_control(key="phase").set_value("prefill").run()
    assert at.number_input(key="context").value == 0
    at.segmented_control(key="phase").set_value("decode").run()
    assert at.number_input(key="context").value == 2048
    at.number_input(key="context").set_value(300).run()
    at.segmented_control(key="phase").set_value("prefill").run()
    assert at.number_input(key="context").value == 300
    assert not at.exception


@pytest.mark.parametrize(
    "view", ["explore", "compare", "tradeoffs", "measured", "claims", "profile", "report", "method"]
)
def test_every_page_has_its_heading_when_the_model_is_broken(view: str) -> None:
    at = page_at(view)
    at.session_state["own_text"] = "attention = 1"
    at.run()
    assert not at.exception
    assert len(at.title) == 1


def test_a_model_that_does_not_fit_says_so() -> None:
    at = page(model="deepseek-v3")
    assert ": does NOT fit; with enough memory " in at.title[0].value.replace("\\", "")
    assert "Does NOT fit" in at.get("progress")[0].proto.text
    assert at.warning


def test_a_request_of_one_token_takes_its_prefill() -> None:
    prefill = json.loads(
        output(
            *("predict", "olmoe-1b-7b", "--phase", "prefill", "--batch", "8"),
            *("--context", "0", "--new-tokens", "500", "--json"),
        )
    )
    at = page(model="olmoe-1b-7b", batch="8", ex_prompt="500", ex_output="1", ex_price="3.6")
    frame = next(d.value for d in at.dataframe if BOUND in d.value)
    rows = {row["Quantity"]: row for row in frame.to_dict("records")}
    first = rows[label_of("ttft.predicted_s")]
    assert first[BOUND] == units.seconds(prefill["time"]["floor_s"])
    assert first["Predicted"] == units.seconds(
        told(prefill["time"], prefill["time"]["predicted_s"])
    )
    assert not any(map(str.isdigit, rows[label_of("energy.j_per_request")][BOUND]))
    assert rows[label_of("latency.predicted_s")]["Predicted"] == first["Predicted"]
    cost = rows[label_of("cost.predicted_usd_per_request")]
    usd = 3.6 / 3600 * prefill["time"]["predicted_s"] / 8
    assert float(cost["Predicted"].split()[0]) == pytest.approx(usd, rel=ROUNDED)


def test_the_address_opens_the_same_view() -> None:
    at = page(ex_chart="roofline")
    assert [each.key for each in at.get("plotly_chart")] == ["ex_roofline"]
    assert "Roofline" in at.get("plotly_chart")[0].proto.alt
    at = page(ex_by="launches")
    assert "Bars of launches" in at.get("plotly_chart")[0].proto.alt
    at = page(model="peer-12l-1m", backend="fused", ex_by="launches")
    assert not at.get("plotly_chart")
    assert any("no kernels for an ungated feed-forward layer" in each.value for each in at.info)
    at = page(ex_how="true", ex_number="layers.{0-15}.attention.qkv")
    assert "\n= 2 * 64 * 2048 * (16 + 2 * 16) * 128\n= 1,610,612,736" in at.code[0].value


@pytest.mark.parametrize("label", SERVED)
def test_the_working_of_a_card_of_served_requests_reaches_what_the_card_shows(label: str) -> None:
    at = page(ex_how="true", ex_number=label, ex_prompt="500", ex_output="20", ex_price="3.6")
    assert at.selectbox(key="ex_number").value == label
    value, *unit = metrics(at)[label].split()
    *_, reached = [line for line in at.code[0].value.splitlines() if line.startswith("= ")]
    assert float(reached.split()[1]) == pytest.approx(float(value), rel=ROUNDED)
    assert reached.split()[2:] == unit


@pytest.mark.parametrize(
    "query",
    [
        {"ex_chart": "<script>", "ex_by": "' OR 1=1"},
        {"ex_prompt": "-1", "ex_output": "1e99", "ex_price": "nan"},
        {"ex_prompt": "99999999999999999999"},
        {"ex_price": "-5"},
        {"ex_number": "layers.999.none", "ex_how": "true"},
        {"own": "AAAA"},
        {"own": "A" * (MAX_LINK_CHARS + 1)},
        {"model": "../../etc/passwd"},
    ],
    ids=str,
)
def test_an_address_with_nonsense_opens_the_page(query: dict[str, str]) -> None:
    at = page_of(query)
    assert at.text[0].value.startswith("One step of decode at batch 64 ")


def test_numbers_of_an_address_below_their_range_become_the_least_allowed() -> None:
    at = page_of({"batch": "0", "context": "-3"})
    assert at.text[0].value.startswith("One step of decode at batch 1 and 0 cached tokens ")


def test_all_numbers_and_every_working_can_be_opened() -> None:
    at = page(("ex_all", "ex_how"))
    summary = next(each.value for each in at.dataframe if "What it counts" in each.value)
    assert len(summary) > 20
    for number in at.selectbox(key="ex_number").options[::5]:
        at.selectbox(key="ex_number").set_value(number).run()
        assert not at.exception
        assert at.code


def test_a_model_is_edited_used_linked_and_forgotten() -> None:
    at = page(("ex_own",))
    before = metrics(at)
    at.number_input(key="own_memory_0_knn").set_value(64).run()
    assert json.loads(str(at.text_area(key="own_draft").value))["memory"][0]["knn"] == 64
    assert metrics(at) == before  # until it is used
    at.button(key="own_use").click().run()
    assert not at.exception
    assert at.selectbox(key="model").value == "your own"
    link = at.query_params["own"]
    own = metrics(at)
    assert own["Distinct rows"] == "4,092.30"  # 2229049 (1 - (1 - 64/2229049)^64)
    again = page(own=str(link))
    assert metrics(again) == own
    at.button(key="own_forget").click().run()
    assert not at.exception
    assert metrics(at) == before
    assert "own" not in at.query_params


def test_a_real_config_is_uploaded_and_used() -> None:
    at = page(("ex_own",))
    at.file_uploader(key="own_file").upload("qwen.json", (HF / "qwen3-8b.json").read_bytes())
    at.run()
    at.button(key="own_use").click().run()
    assert not at.exception
    assert title(at).startswith("qwen\\: ")
    said = json.loads(output("predict", str(HF / "qwen3-8b.json"), "--batch", "64", "--json"))
    assert metrics(at)[card("hbm_bytes.compulsory")] == units.traffic(
        said["hbm_bytes"]["compulsory"]
    )


def test_an_upload_that_is_no_model_says_so_and_changes_nothing() -> None:
    at = page(("ex_own",))
    at.file_uploader(key="own_file").upload("a.json", b"PK\x03\x04\xff\xff").run()
    assert at.error[0].value == plain("file='a.json': is not UTF-8 text (byte 4)")
    at.file_uploader(key="own_file").upload("b.toml", b"hidden_size = 0").run()
    assert "hidden\\_size=0" in at.error[0].value
    assert at.button(key="own_use").disabled
    assert title(at).startswith("UltraMemV2-1B/7B")


def test_a_name_from_outside_is_shown_and_never_rendered() -> None:
    hostile = "<script>alert(1)</script> [x](http://y) $z$ :red[u] **b** =cmd()"
    text = ULTRAMEM.replace("UltraMemV2-1B/7B (reconstruction)", hostile)
    at = page(("ex_own", "ex_all"), own=str(packed(text)))
    assert title(at).startswith(plain(hostile))
    drawn = (*at.title, *at.markdown, *at.caption, *at.info, *at.warning, *at.error)
    for each in drawn:
        assert not re.search(r"(?<!\\)[<$*]|(?<!\\)\[x", each.value)


def test_a_link_with_a_broken_model_says_the_rule_and_lets_it_be_mended() -> None:
    broken = ULTRAMEM.replace('"knn": 128', '"knn": 65536').replace('"knum": 528', '"knum": 2')
    at = page(("ex_own",), own=str(packed(broken)))
    assert any("knn=65536" in plain(each.value).replace("\\", "") for each in at.error)
    assert not at.metric
    at.number_input(key="own_memory_0_knn").set_value(1).run()
    at.button(key="own_use").click().run()
    assert not at.exception
    assert at.metric


def test_a_model_too_long_for_a_link_is_used_and_said_to_be() -> None:
    notes = [f"{hash_of(i)}" for i in range(300)]
    text = json.dumps({**json.loads(ULTRAMEM), "notes": notes})
    at = page(("ex_own",))
    at.text_area(key="own_draft").set_value(text).run()
    at.button(key="own_use").click().run()
    assert not at.exception
    assert at.selectbox(key="model").value == "your own"
    assert "own" not in at.query_params
    assert [says(each.value, 6000) for each in at.warning] == [True]
    for view in ("compare", "report"):
        at.switch_page(f"dashboard/pages/{view}/page.py").run()
        assert at.selectbox(key="model").value == "your own"
        assert [says(each.value, 6000) for each in at.warning] == [True]


def hash_of(number: int) -> str:
    return hashlib.sha256(bytes(str(number), "ascii")).hexdigest()


def test_fields_are_those_that_the_model_has() -> None:
    toml = (FOLDER / "olmoe-1b-7b.toml").read_text(encoding="utf-8")
    assert {each.place[-1]: each.value for each in editable(toml)} == {
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_experts": 64,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 1024,
    }
    model = read_model(edited(toml, ("ffn", "num_experts"), 128))
    assert model == replace(
        load_model("olmoe-1b-7b"),
        ffn=replace(load_model("olmoe-1b-7b").ffn, num_experts=128),  # type: ignore[type-var]
    )


@pytest.mark.parametrize(
    "text",
    ["", "[[[", '{"attention": 1', '{"attention": [], "hidden_size": "8", "ffn": 3, "memory": {}}'],
)
def test_a_text_that_is_no_model_has_no_fields(text: str) -> None:
    assert editable(text) == []


def test_a_number_beyond_what_a_field_holds_has_no_field() -> None:
    text = json.dumps({**json.loads(ULTRAMEM), "hidden_size": 10**30, "num_hidden_layers": True})
    assert not {("hidden_size",), ("num_hidden_layers",)} & {each.place for each in editable(text)}


def test_the_cards_of_served_requests_are_those_of_the_command() -> None:
    said = json.loads(
        output(
            *("request", "olmoe-1b-7b", "--prompt", "500", "--output", "20", "--batch", "8"),
            *("--price-per-hour", "3.6", "--json"),
        )
    )
    found = metrics(
        page(model="olmoe-1b-7b", batch="8", ex_prompt="500", ex_output="20", ex_price="3.6")
    )
    for name in ("ttft", "tpot", "latency"):
        shown = found[label_of(f"{name}.predicted_s")]
        assert shown == units.seconds(told(said[name], said[name]["predicted_s"]))
    speed = said["throughput"]["predicted_tokens_per_s"]
    shown = found[label_of("throughput.predicted_tokens_per_s")]
    assert shown == units.formatted(told(said["latency"], speed), "tokens_per_s")
    energy = said["energy"]["j_per_million_output_tokens"]
    shown = found[label_of("energy.j_per_million_output_tokens")]
    assert shown == units.scaled(told(said["latency"], energy), "J")
    usd = float(found[label_of("cost.predicted_usd_per_million_output_tokens")].split()[0])
    assert usd == pytest.approx(
        said["cost"]["predicted_usd_per_million_output_tokens"], rel=ROUNDED
    )


def test_a_release_is_costed_where_the_model_states_how_it_is_stored() -> None:
    shipped = page(model="gpt-oss-20b", gpu="rtx-4090", batch="1", dtype="checkpoint")
    assert "checkpoint experts=mxfp4 (KV bf16)" in shipped.text[0].value
    assert not shipped.warning
    wide = page(model="gpt-oss-20b", gpu="rtx-4090", batch="1")
    assert "bf16 (KV bf16)" in wide.text[0].value
    assert says(wide.warning[0].value, "not fit", "mxfp4", "checkpoint")
    assert "checkpoint" not in page(model="olmoe-1b-7b").selectbox(key="dtype").options


def test_the_users_own_model_is_costed_as_it_is_stored() -> None:
    stored = replace(
        tiny_model(),
        storage=Storage(weights=parse_formats("fp8:128x128", field="dtype"), origin="mine"),
    )
    usual = chosen(model=OWN, own=model_toml(stored), dtype=None).predict()
    assert usual.workload.dtype_label == "checkpoint"
    assert usual.workload.formats.label == "fp8:128x128"
    told = chosen(model=OWN, own=model_toml(stored), dtype="bf16").predict()
    assert told.workload.dtype_label == "bf16"


def test_the_page_says_from_which_context_chosen_attention_pays() -> None:
    at = page(model="deepseek-v3.2", batch="64")
    told = " ".join(info.value for info in at.info)
    assert "than dense attention from about 3,120 cached tokens up" in told
