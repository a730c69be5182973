"""Designs pinned on the page Trade-offs, which the page Compare offers and its links carry."""

from collections.abc import Sequence

import streamlit as st

from costmodel.errors import InputError, shown
from costmodel.inputs.model import ModelConfig
from dashboard.app.address import claim, drop
from dashboard.app.own_model import MAX_LINK_CHARS, model_text, packed, read_model, unpacked

PINNED = "pinned"
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
