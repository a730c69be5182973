"""Designs pinned on the page Trade-offs, which the page Compare offers; kept for a session."""

import streamlit as st

from costmodel.errors import InputError, shown
from costmodel.inputs.model import ModelConfig
from dashboard.app.own_model import model_text

PINNED = "pinned"
MOST = 16
PREFIX = "pinned: "


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
        raise InputError(f"{key}={shown(text)}: was pinned in another session; links carry no pins")


def unpin() -> None:
    """Remove all pinned designs."""
    st.session_state.pop(PINNED, None)
