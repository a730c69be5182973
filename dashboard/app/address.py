"""The address: the one parser of what a link gives the controls, and the one way to say what fails.

A control that lives in the address is drawn with `**linked(key, rule, instead=...)`, in place of
`key` and `bind`. Where an address is opened, its text is held against the rule before Streamlit
reads it. Of text that breaks the rule, a warning at the top of the page names the key, the text,
the rule, what is like it and what is used instead: of a number out of range the nearest one, else
the control's usual value. Keys that no control of the page has are told in the same way. What was
not understood stays in the address under `unread`, so that the same link, copied, says the same.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Final, Literal, TypedDict

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner import get_script_run_ctx

from costmodel.errors import InputError, shown
from costmodel.inputs.parse import parse_choice, parse_count, parse_number
from dashboard.app.widgets import plain

STATE = "_address"  # where a session keeps what is wrong with its address
MAX_KEYS = 8  # unknown keys that a message lists
UNREAD = "unread"  # the key of what was not understood, each as `KEY:TEXT`
MAX_UNREAD_CHARS = 200  # of a text that the address keeps
TRUTH: Final = ("true", "false")


class Linked(TypedDict):
    """The arguments of a control whose value lives in the address."""

    key: str
    bind: Literal["query-params"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What the text of a key may be.

    Attributes:
        check: Takes the key and one text; raises `InputError` where the text breaks the rule.
        several: Whether the key may be given several times, each with another text.
        most: How many of them are taken.
        may_be_empty: Whether the control may be cleared.
        nearest: What is used in place of a text that breaks the rule; None: the usual value.
    """

    check: Callable[[str, str], object]
    several: bool = False
    most: int | None = None
    may_be_empty: bool = False
    nearest: Callable[[str], str | None] = lambda _: None


def whole(low: int, high: int, *, may_be_empty: bool = False) -> Rule:
    """A whole number from `low` to `high`."""
    return Rule(
        check=lambda key, text: parse_count(text, field=key, low=low, high=high),
        may_be_empty=may_be_empty,
        nearest=lambda text: _within(text, int, low, high),
    )


def number(low: float, high: float, *, may_be_empty: bool = False) -> Rule:
    """A decimal number from `low` to `high`."""
    return Rule(
        check=lambda key, text: parse_number(text, field=key, low=low, high=high),
        may_be_empty=may_be_empty,
        nearest=lambda text: _within(text, float, low, high),
    )


def _within(text: str, kind: type[int] | type[float], low: float, high: float) -> str | None:
    """The end of a range that is nearest to a number beyond it; None if the text is no number."""
    try:
        value = kind(text)
    except ValueError:
        return None
    if not isfinite(value) or low <= value <= high:
        return None
    return str(low if value < low else high)


def one_of(options: Iterable[object], *, formerly: Mapping[str, str] | None = None) -> Rule:
    """The text of one of the options; `formerly` has options by the names that older links give."""
    names = tuple(map(str, options))
    return Rule(
        check=lambda key, text: parse_choice(text, field=key, options=names),
        nearest=(formerly or {}).get,
    )


def some_of(
    options: Iterable[object],
    *,
    most: int | None = None,
    check: Callable[[str, str], object] | None = None,
) -> Rule:
    """The texts of different options, at most so many of them; none at all is a choice too.

    `check` may refuse a text first, with a reason of its own.
    """
    names = tuple(map(str, options))

    def one(key: str, text: str) -> None:
        if check is not None:
            check(key, text)
        parse_choice(text, field=key, options=names)

    return Rule(check=one, several=True, most=most, may_be_empty=True)


def switch() -> Rule:
    """True or false."""
    return Rule(check=lambda key, text: parse_choice(text.lower(), field=key, options=TRUTH))


def text_up_to(most: int) -> Rule:
    """Any text of at most so many characters; the page itself says what it must be."""

    def check(key: str, text: str) -> None:
        if len(text) > most:
            raise InputError(f"{key}={shown(text)}: is longer than {most:,} characters")

    return Rule(check=check, may_be_empty=True)


def checked(key: str, texts: Sequence[str], rule: Rule) -> tuple[list[str], list[str]]:
    """What is kept of the texts of one key, and what is wrong with the others.

    Returns:
        The texts that keep the rule in the order given, none where the control's usual value is to
        be used; and a message for each that breaks it.
    """
    if rule.may_be_empty and all(text == "" for text in texts):
        return ([""], []) if len(texts) == 1 else ([], [_twice(key, len(texts))])
    if not rule.several and len(texts) > 1:
        return [], [_twice(key, len(texts))]
    kept: list[str] = []
    wrong: list[str] = []
    for text in texts:
        try:
            rule.check(key, text)
        except InputError as error:
            wrong.append(str(error))
        else:
            if text in kept:
                wrong.append(f"{key}={shown(text)}: is listed twice")
            elif rule.most is not None and len(kept) == rule.most:
                wrong.append(f"{key}={shown(text)}: at most {rule.most} values are taken")
            else:
                kept.append(text)
    return kept, wrong


def _twice(key: str, times: int) -> str:
    return f"{key}: is given {times:,} times; it is taken once"


@dataclass(slots=True)
class _Address:
    """What is known of a session's address."""

    page: str
    box: DeltaGenerator  # of the run that draws
    wrong: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)  # that a control had at any time of the session
    button: bool = False  # whether this run has drawn it


def opened(page: str) -> None:
    """Make room for what is wrong with the address; call it before any control is drawn."""
    address = _Address(page=page, box=st.container())
    before = st.session_state.get(STATE)
    st.session_state[STATE] = address
    address.keys.add(UNREAD)
    if before is None:
        _reread()
    if isinstance(before, _Address):
        address.keys = before.keys
        if before.page == page and not _by_history():
            for message in before.wrong:
                tell(message)


def tell(message: str) -> None:
    """Show what is wrong with the address, until the user has read it or leaves the page."""
    address = _address()
    if message in address.wrong:
        return
    if not address.button:
        address.button = True
        top = address.box.container()
        address.box.button("Understood", key="address_read", on_click=_read)
        address.box = top
    address.wrong.append(message)
    address.box.warning(plain(f"In the address: {message}."))


def linked(key: str, rule: Rule, *, instead: object) -> Linked:
    """The arguments `key` and `bind` of a control whose value lives in the address.

    Args:
        key: The control's key, which is its name in the address.
        rule: What its text in the address may be.
        instead: The value that the control has without the address, for the message.
    """
    _address().keys.add(key)
    texts = st.query_params.get_all(key)
    if texts and (key not in st.session_state or _by_history()):
        kept, wrong = checked(key, texts, rule)
        nearest = rule.nearest(texts[0]) if wrong and len(texts) == 1 else None
        if wrong:
            _keep_unread({key: [text for text in texts if text not in kept]})
            _replace({key: kept if nearest is None else [nearest]})
        for message in wrong:
            if nearest is not None:
                tell(f"{message}; {nearest}, the nearest, is used instead")
            else:
                tell(f"{message}; {_usual(instead)}" if not kept else f"{message}; it is left out")
    return {"key": key, "bind": "query-params"}


def claim(key: str) -> None:
    """Let the page have a key that belongs to no control."""
    _address().keys.add(key)


def unbound(key: str) -> str | None:
    """The text of a key that belongs to no control; None where there is none, or several."""
    claim(key)
    texts = st.query_params.get_all(key)
    if len(texts) > 1:
        drop(key, _twice(key, len(texts)))
        return None
    return texts[0] if texts else None


def forget(*keys: str) -> None:
    """Let controls that are not drawn yet start anew, as if nobody had set them."""
    for key in keys:
        st.session_state.pop(key, None)
    _replace({key: [] for key in keys})


def drop(key: str, reason: str) -> None:
    """Take a key out of the address, but for what was not understood, and say why."""
    _keep_unread({key: st.query_params.get_all(key)})
    _replace({key: []})
    tell(f"{reason}; it is left out")


def finished() -> None:
    """Tell and drop the keys that no control has; call it when all controls are drawn."""
    address = _address()
    unknown = [key for key in st.query_params if key not in address.keys]
    if not unknown:
        return
    _keep_unread({key: st.query_params.get_all(key) for key in unknown[:MAX_KEYS]})
    _replace({key: [] for key in unknown})
    named = ", ".join(map(shown, unknown[:MAX_KEYS]))
    more = f" and {len(unknown) - MAX_KEYS:,} more" if len(unknown) > MAX_KEYS else ""
    kind = "is no key" if len(unknown) == 1 else "are no keys"
    tell(f"{named}{more} {kind} of this page as it is set; left out")


def _usual(value: object) -> str:
    """What a control uses that the address gives nothing."""
    if value is None or value in ("", (), []):
        return "the field is left empty"
    if isinstance(value, bool):
        value = str(value).lower()
    words = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"{words} is used instead"


def _address() -> _Address:
    address = st.session_state[STATE]
    assert isinstance(address, _Address)
    return address


def _by_history() -> bool:
    """Whether the user went back or forward: the address then counts more than the controls do."""
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation


def _replace(texts: dict[str, list[str]]) -> None:
    """Give keys other texts in the address, or none, before Streamlit reads them for a control.

    `st.query_params` refuses keys of controls, which the address of a browser's history may give.
    """
    context = get_script_run_ctx()
    assert context is not None
    with context.session_state.query_params() as params:
        for key, values in texts.items():
            params.remove_param(key)
            if values:
                params.set_corrected_value(key, values, "string_array_value")
        params.set_initial_query_params_from_current()


def _keep_unread(texts: dict[str, list[str]]) -> None:
    """Keep in the address what was not understood, as far as it is short."""
    parked = st.query_params.get_all(UNREAD)
    for key, values in texts.items():
        parked += [f"{key}:{text}" for text in values if len(text) <= MAX_UNREAD_CHARS]
    parked = [*dict.fromkeys(parked)][:MAX_KEYS]
    if parked:
        _replace({UNREAD: parked})


def _reread() -> None:
    """Give a new session what an address keeps of an earlier one, of keys without a value since."""
    parked = st.query_params.get_all(UNREAD)
    texts: dict[str, list[str]] = {}
    for entry in parked[:MAX_KEYS]:
        key, colon, text = entry.partition(":")
        if colon and key not in {"", UNREAD} and key not in st.query_params:
            texts.setdefault(key, []).append(text)
    if parked:
        _replace({UNREAD: [], **texts})


def _read() -> None:
    _address().wrong.clear()
    _replace({UNREAD: []})
