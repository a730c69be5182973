"""Designs pinned on the page Trade-offs, which the page Compare offers and its links carry."""

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from costmodel.errors import InputError, shown
from costmodel.inputs.catalog import model_names
from costmodel.inputs.model import ModelConfig
from dashboard.app.address import claim, drop, forget
from dashboard.app.own_model import MAX_LINK_CHARS, model_text, packed, read_model, unpacked
from dashboard.app.widgets import plain

PINNED = "pinned"
LANDING = "_pins_landing"  # where a session keeps what Compare is to open with
COMPARE = Path(__file__).parents[1] / "pages" / "compare" / "page.py"
MOST_COMPARED = 4
MOST = 16
PREFIX = "pinned: "
PARAM = "pin"  # where a link keeps a design
TOO_LONG = "The pinned designs are too long for a link: one that is copied opens without them."


def pinned() -> dict[str, str]:
    """The pinned designs as text, by name, in the order in which they were pinned."""
    return dict(st.session_state.get(PINNED, {}))


def pin(models: list[ModelConfig]) -> None:
    """Pin designs; a design of the same name is replaced.

    Raises:
        InputError: More than `MOST` would be pinned.
    """
    texts = pinned() | {f"{PREFIX}{model.name}": model_text(model) for model in models}
    if len(texts) > MOST:
        raise InputError(f"pinned={len(texts)}: at most {MOST} designs are pinned; remove some")
    st.session_state[PINNED] = texts


def pin_to_compare(models: list[ModelConfig], against: str) -> None:
    """Pin designs so that the page Compare opens with them, and say so with a way there.

    `against` is the preset that they are compared with, first; what is no preset stands in the
    sidebar, whose model Compare adds by itself.
    """
    try:
        pin(models)
    except InputError as error:
        st.error(plain(str(error)))
        return
    names = [f"{PREFIX}{model.name}" for model in models]
    before = [name for name in st.session_state.get(LANDING, ()) if name not in {*names, against}]
    first = [against] if against in model_names() else []
    st.session_state[LANDING] = first + [*before, *names][-(MOST_COMPARED - 1) :]
    st.success("Pinned: the page Compare opens with it.")
    st.page_link(COMPARE, label="Compare now", icon=":material/arrow_forward:")


def land(key: str) -> None:
    """Let the list of models of a key be that of the latest pins; call it before it is drawn."""
    names = st.session_state.pop(LANDING, None)
    if names is not None and all(name in pinned() or name in model_names() for name in names):
        forget(key)
        st.session_state[key] = names


def kept_elsewhere(key: str, text: str) -> None:
    """Pass unless a link names a design that this session has not pinned.

    Raises:
        InputError: It does; the message says that pins stay in their session.
    """
    if text.startswith(PREFIX) and text not in pinned():
        raise InputError(
            f"{key}={shown(text)}: was pinned elsewhere, and the link does not carry it"
        )


def take_linked() -> None:
    """Pin the designs that the address carries; says what is wrong with one that is refused."""
    claim(PARAM)
    for link in st.query_params.get_all(PARAM):
        try:
            model = read_model(unpacked(link, field=PARAM))
            if f"{PREFIX}{model.name}" not in pinned():
                pin([model])
        except InputError as error:
            drop(PARAM, str(error))
            return


def link(names: Sequence[str]) -> None:
    """Carry these pinned designs in the address; a warning where they are too long for it."""
    links = [packed(pinned()[name]) for name in names]
    carried = [each for each in links if each is not None]
    if len(carried) < len(links) or sum(map(len, carried)) > MAX_LINK_CHARS:
        st.warning(TOO_LONG)
        carried = []
    if st.query_params.get_all(PARAM) == carried:
        return
    if carried:
        st.query_params[PARAM] = carried
    else:
        del st.query_params[PARAM]


def unpin() -> None:
    """Remove all pinned designs."""
    st.session_state.pop(PINNED, None)
