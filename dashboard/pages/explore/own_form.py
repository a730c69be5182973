"""The form for the user's own model: upload, paste, edit, use, forget.

The model is a text, and the number fields write into that text. Callbacks run before the page is
drawn again, so that a change reaches the sidebar, the address and all numbers at once.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import streamlit as st

from costmodel.errors import InputError
from costmodel.inputs.model import MAX_NAME
from costmodel.layers.base import FfnKind, LayerKind, MemoryKind, MixerKind, sizes_of
from dashboard.app.address import linked, switch
from dashboard.app.own_model import model_text, packed, read_model, uploaded
from dashboard.app.selection import OWN
from dashboard.app.shell import DEFAULT_MODEL, OWN_PARAM, OWN_TEXT
from dashboard.app.widgets import plain

OPEN, FILE = "ex_own", "own_file"
NAME = "own_name"
DRAFT, BASIS, REFUSED = "own_draft", "own_basis", "own_refused"  # kept for a session
MAX_UPLOAD_MB = 1
MAX_NUMBER = 2**31  # of a number field; the model's own rules are narrower
ACROSS = 4

Place = tuple[str | int, ...]
MODEL_FIELDS: tuple[tuple[Place, str], ...] = (
    (("hidden_size",), "Hidden size"),
    (("num_hidden_layers",), "Layers"),
)
LAYERS: tuple[tuple[Place, type[LayerKind]], ...] = (  # where they stand, and what they derive from
    (("ffn",), FfnKind),
    (("memory", 0), MemoryKind),
    (("attention",), MixerKind),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EditableNumber:
    """A number of a model, with its place in the model's JSON and the label of its field."""

    place: Place
    label: str
    value: int


def editable(text: str) -> list[EditableNumber]:
    """The main sizes of the model in a text; empty where the text is no model."""
    try:
        table = _table(text)
    except InputError:
        return []
    numbers = []
    for place, label in (*MODEL_FIELDS, *_layer_fields(table)):
        value = _at(table, place)
        if type(value) is int and 0 <= value <= MAX_NUMBER:
            numbers.append(EditableNumber(place=place, label=label, value=value))
    return numbers


def _layer_fields(table: dict[str, Any]) -> Iterator[tuple[Place, str]]:
    """The sizes of the layers of a model, as their kinds state them: places and labels."""
    for place, base in LAYERS:
        layer = _at(table, place)
        for kind in base.__subclasses__():
            if isinstance(layer, dict) and layer.get("kind") == getattr(kind, "kind", None):
                for name, size in sizes_of(kind).items():
                    yield (*place, name), size.label


def edited(text: str, place: Place, value: int | str) -> str:
    """The model's text with another number or name, as JSON; the new model may break a rule.

    Raises:
        InputError: The text is no model.
    """
    table = _table(text)
    *parents, last = place
    _at(table, tuple(parents))[last] = value
    return json.dumps(table, indent=2, ensure_ascii=False)


def _table(text: str) -> dict[str, Any]:
    """The fields of a model: of our own JSON even where it breaks a rule, else of a valid text."""
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict) or "attention" not in table:
        table = json.loads(model_text(read_model(text)))
    return dict(table)


def _at(table: Any, place: Place) -> Any:  # noqa: ANN401 - JSON
    for key in place:
        try:
            table = table[key]
        except (LookupError, TypeError):
            return None
    return table


def draw_form(basis: str) -> None:
    """Draw the form; it begins with `basis`, the text of the chosen model."""
    box = st.expander(
        "Use a model of your own: a config.json, TOML or JSON",
        **linked(OPEN, switch(), instead=False),
        on_change="rerun",
    )
    if not box.open:
        return
    if st.session_state.get(BASIS) != basis or DRAFT not in st.session_state:
        st.session_state[BASIS] = st.session_state[DRAFT] = basis
    with box:
        st.file_uploader(
            "A Hugging Face config.json, or a model as TOML or JSON",
            type=["json", "toml"],
            key=FILE,
            max_upload_size=MAX_UPLOAD_MB,
            on_change=_upload,
        )
        if refused := st.session_state.pop(REFUSED, None):
            st.error(plain(refused))
        _fields(st.session_state[DRAFT])
        st.text_area(
            "The model as text: JSON, TOML or a config.json; the fields above write into it",
            height=320,
            key=DRAFT,
            persist_state="session",
        )
        _buttons(st.session_state[DRAFT])


def _fields(text: str) -> None:
    """The name and the main sizes of the model; none where the text is no model."""
    try:
        name = str(_table(text).get("name", ""))
    except InputError:
        return
    st.session_state[NAME] = name
    st.text_input("Name", key=NAME, max_chars=MAX_NAME, on_change=_edit, args=(("name",), NAME))
    for index, number in enumerate(editable(text)):
        if index % ACROSS == 0:
            columns = st.columns(ACROSS)
        key = f"own_{'_'.join(map(str, number.place))}"
        st.session_state[key] = number.value  # that of the text, whatever the field held
        columns[index % ACROSS].number_input(
            number.label,
            min_value=0,
            max_value=MAX_NUMBER,
            step=1,
            key=key,
            help=".".join(map(str, number.place)),
            on_change=_edit,
            args=(number.place, key),
        )


def _buttons(text: str) -> None:
    own = st.session_state.get(OWN_TEXT, "")
    try:
        read_model(text)
    except InputError as error:
        st.error(plain(str(error)))
        valid = False
    else:
        valid = True
    with st.container(horizontal=True):
        st.button(
            "Use this model", key="own_use", type="primary", disabled=not valid, on_click=_use
        )
        st.button("Forget it", key="own_forget", disabled=not own, on_click=_forget)


def _upload() -> None:
    file = st.session_state[FILE]
    if file is None:
        return
    try:
        st.session_state[DRAFT] = uploaded(file.name, file.getvalue())
    except InputError as error:
        st.session_state[REFUSED] = str(error)


def _edit(place: Place, key: str) -> None:
    try:
        st.session_state[DRAFT] = edited(st.session_state[DRAFT], place, st.session_state[key])
    except InputError as error:
        st.session_state[REFUSED] = str(error)


def _use() -> None:
    text = st.session_state[DRAFT]
    try:
        read_model(text)
    except InputError as error:
        st.session_state[REFUSED] = str(error)
        return
    st.session_state[OWN_TEXT] = text
    link = packed(text)
    if link is None:
        st.query_params.pop(OWN_PARAM, None)
    else:
        st.query_params[OWN_PARAM] = link
    st.session_state["model"] = OWN


def _forget() -> None:
    st.session_state.pop(OWN_TEXT, None)
    st.query_params.pop(OWN_PARAM, None)
    if st.session_state.get("model") == OWN:
        st.session_state["model"] = DEFAULT_MODEL
