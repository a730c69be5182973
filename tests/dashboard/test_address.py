"""The address: each text is held against its control's rule, and what breaks one is told."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from costmodel.inputs.catalog import load_model
from dashboard.app.address import (
    Rule,
    checked,
    number,
    one_of,
    some_of,
    switch,
    text_up_to,
    whole,
)
from dashboard.app.own_model import MAX_LINK_CHARS, model_text
from dashboard.app.pins import PINNED, PREFIX
from dashboard.app.widgets import plain
from tests.dashboard.pages import opened, page_at

DASHBOARD = Path(__file__).parents[2] / "dashboard"
NUMBERS = ["", "inf", "-inf", "nan", "1e400", "0x10", "1,5", "--1", "²", "1" * 5000, " ", "None"]
COUNT, PRICE, CHOICE = whole(1, 64), number(0, 10), one_of(["decode", "prefill"])
SOME = some_of(["a", "b", "c"], most=2)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (COUNT, "1"), (COUNT, "64"), (COUNT, "1_0"), (COUNT, " 7 "),
        (PRICE, "0"), (PRICE, "10"), (PRICE, "0.5"), (PRICE, "1e-3"), (PRICE, "-0"),
        (number(0, 10, may_be_empty=True), ""),
        (CHOICE, "prefill"), (SOME, "c"), (SOME, ""),
        (switch(), "true"), (switch(), "False"),
        (text_up_to(3), ""), (text_up_to(3), "abc"),
    ],
)  # fmt: skip
def test_a_text_that_keeps_the_rule_is_kept(rule: Rule, text: str) -> None:
    assert checked("key", [text], rule) == ([text], [])


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        *((rule, text) for rule in (COUNT, PRICE) for text in NUMBERS),
        (COUNT, "0"), (COUNT, "65"), (COUNT, "-5"), (COUNT, "1.9"), (COUNT, "1.0"), (COUNT, "1e1"),
        (PRICE, "10.1"), (PRICE, "-0.1"),
        (CHOICE, ""), (CHOICE, "Decode"), (CHOICE, "decode "), (CHOICE, "x" * 5000),
        (one_of([]), ""),
        (switch(), ""), (switch(), "1"), (switch(), "yes"),
        (text_up_to(3), "abcd"),
    ],
)  # fmt: skip
def test_a_text_that_breaks_the_rule_is_told_by_key_and_value(rule: Rule, text: str) -> None:
    kept, (wrong,) = checked("key", [text], rule)
    assert kept == []
    assert wrong.startswith(f"key={text!r}: " if len(text) < 80 else f"key='{text[:20]}")
    assert len(wrong) < 300


@pytest.mark.parametrize(
    ("rule", "texts", "kept", "wrong"),
    [
        (COUNT, ["1", "2"], [], ["key: is given 2 times; it is taken once"]),
        (CHOICE, ["decode"] * 3, [], ["key: is given 3 times; it is taken once"]),
        (text_up_to(3), ["", ""], [], ["key: is given 2 times; it is taken once"]),
        (SOME, ["b", "a"], ["b", "a"], []),
        (SOME, ["a", "x", "b"], ["a", "b"], ["key='x': is not one of a, b, c"]),
        (SOME, ["a", "a"], ["a"], ["key='a': is listed twice"]),
        (SOME, ["a", "b", "c"], ["a", "b"], ["key='c': at most 2 values are taken"]),
        (SOME, ["a", ""], ["a"], ["key='': is not one of a, b, c"]),
    ],
)
def test_a_key_given_several_times(
    rule: Rule, texts: list[str], kept: list[str], wrong: list[str]
) -> None:
    assert checked("key", texts, rule) == (kept, wrong)


def test_every_control_in_the_address_is_drawn_by_this_parser() -> None:
    files = [path for path in DASHBOARD.rglob("*.py") if path.name != "address.py"]
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.keyword) and node.arg == "bind"), path


WRONG: dict[str, dict[str, tuple[str | list[str], str]]] = {  # by page and key: text, message
    "explore": {
        "batch": (
            "-5",
            "batch='-5': must be a whole number from 1 to 1,048,576; 1, the nearest, is",
        ),
        "context": ("1e400", "context='1e400': must be a whole number from 0 to 134,217,728; 2048"),
        "phase": ("", "phase='': is not one of decode, prefill; decode is used instead"),
        "backend": ("x", "backend='x': is not one of torch, fused; torch is used instead"),
        "attention": ("x", "attention='x': is not one of causal, full; causal is used instead"),
        "logits": ("x", "logits='x': is not one of last, all; last is used instead"),
        "exponent": ("inf", "exponent='inf': must be a number from 0 to 10; 1.0 is used instead"),
        "ex_price": ("1e400", "ex_price='1e400': must be a number from 0 to"),
        "model": ("olmoe-1b-7x", " choices (did you mean olmoe-1b-7b"),
        "own": ("A" * (MAX_LINK_CHARS + 1), "own: is not what this app wrote into a link"),
        "new_tokens": ("7", "'new_tokens', 'a' are no keys of this page as it is set; left out"),
        "a": ("", "'new_tokens', 'a' are no keys of this page as it is set; left out"),
    },
    "compare": {
        "batch": (["1", "2"], "batch: is given 2 times; it is taken once; 64 is used instead"),
        "own": (["A", "B"], "own: is given 2 times; it is taken once; it is left out"),
        "cmp_by": ("", "cmp_by='': is not one of HBM bytes, "),
        "cmp_models": (
            f"{PREFIX}x",
            "cmp_models='pinned: x': was pinned elsewhere, and the link does not",
        ),
    },
    "tradeoffs": {
        "to_knum": ("9" * 401, "is longer than 400 characters; "),
        "to_gib": ("7", "to_gib='7': is none of 15 choices; no limit is used instead"),
        "to_y": ("floor", " choices; roofline bound, the nearest, is used instead"),
    },
    "measured": {"rec": ("../../etc/passwd", "rec='../../etc/passwd': is none of 14 choices")},
    "method": {"me_part": ("x", "me_part='x': is not one of ")},
    "report": {
        "batch": ("1.9", "batch='1.9': must be a whole number from 1 to 1,048,576; 64 is used"),
        "rep_price": ("nan", "rep_price='nan': must be a number from 0 to"),
        "rep_models": (["a"] * 20, "rep_models='a': is none of "),
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("view", WRONG)
def test_a_page_says_what_is_wrong_and_what_is_used(view: str) -> None:
    query = {key: text for key, (text, _) in WRONG[view].items()}
    at = opened(view, **query, routing="zipf")
    told = [warning.value for warning in at.warning]
    messages = {message for _, message in WRONG[view].values()}
    assert len(told) == len(messages)
    for message in messages:
        assert any(plain(message) in each for each in told), (message, told)
    assert not at.error
    nearest = {"explore": {"batch"}, "tradeoffs": {"to_y"}}.get(view, set())
    assert set(at.query_params) == {"routing", "unread"} | nearest


@pytest.mark.slow
def test_the_address_keeps_what_was_not_understood_until_it_is_read() -> None:
    at = opened("explore", gpu="h300", batch="0", foo="bar")
    assert at.query_params["unread"] == ["batch:0", "gpu:h300", "foo:bar"]
    assert at.number_input(key="batch").value == 1
    told = [warning.value for warning in at.warning]
    assert "1, the nearest, is used instead" in told[0]
    assert "h200 is used instead" in told[1]
    copied = opened("explore", unread=at.query_params["unread"])
    assert [warning.value for warning in copied.warning] == told
    assert copied.query_params["unread"] == at.query_params["unread"]
    chosen_since = opened("explore", unread=["gpu:h300", "batch:7"], gpu="b200")
    assert not chosen_since.warning
    assert chosen_since.selectbox(key="gpu").value == "b200"
    assert chosen_since.number_input(key="batch").value == 7
    assert "unread" not in chosen_since.query_params
    copied.button(key="address_read").click().run()
    assert not copied.warning
    assert "unread" not in copied.query_params


@pytest.mark.slow
@pytest.mark.parametrize("entry", ["", ":x", "unread:unread:x", "gpu", "own:" + "A" * 7000])
def test_what_an_address_keeps_may_be_anything(entry: str) -> None:
    assert opened("explore", unread=entry).title


@pytest.mark.slow
def test_a_link_carries_the_pinned_designs_that_are_compared() -> None:
    design = replace(load_model("olmoe-1b-7b"), name="Mine", hidden_size=1024)
    other = replace(design, name="Other")
    names = [f"{PREFIX}Mine", "olmoe-1b-7b"]
    at = page_at("compare")
    at.session_state[PINNED] = {f"{PREFIX}{one.name}": model_text(one) for one in (design, other)}
    at.query_params.update(cmp_models=names, cmp_add="false")
    at.run()
    assert isinstance(at.query_params["pin"], str)  # one alone
    query: dict[str, str | list[str]] = {
        "pin": at.query_params["pin"],
        "cmp_models": names,
        "cmp_add": "false",
    }
    elsewhere = opened("compare", **query)
    assert not elsewhere.warning
    assert [card.label for card in elsewhere.metric] == ["Mine", "OLMoE-1B-7B"]
    assert [card.value for card in elsewhere.metric] == [card.value for card in at.metric]
    refused = opened("compare", pin="AAAA")
    assert plain("pin: is not what this app wrote") in refused.warning[0].value


@pytest.mark.slow
def test_a_warning_stays_until_it_is_read() -> None:
    at = opened("explore", batch="1.9", context="512")
    at.number_input(key="context").set_value(256).run()
    assert len(at.warning) == 1
    at.button(key="address_read").click().run()
    assert not at.exception
    assert not at.warning
    assert at.number_input(key="context").value == 256


@pytest.mark.slow
def test_a_good_address_has_no_warning() -> None:
    at = opened("method", batch="17", context="512", phase="decode", gpu="b200", routing="zipf")
    assert not at.warning
    assert "address_read" not in [button.key for button in at.button]
    assert at.number_input(key="batch").value == 17
