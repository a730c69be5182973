"""Designs pinned on the page Trade-offs, kept for a session as text, for the page Compare."""

import streamlit as st

from costmodel.errors import InputError
from costmodel.inputs.model import ModelConfig
from dashboard.app.own_model import model_text

PINNED = "pinned"
MOST = 16


def pinned() -> dict[str, str]:
    """The texts of pinned designs by name, in the order in which they were pinned."""
    return dict(st.session_state.get(PINNED, {}))


def pin(models: list[ModelConfig]) -> None:
    """Pin designs; one of the same name is replaced.

    Raises:
        InputError: More than `MOST` would be pinned.
    """
    found = pinned() | {f"pinned: {model.name}": model_text(model) for model in models}
    if len(found) > MOST:
        raise InputError(f"pinned={len(found)}: at most {MOST} designs are pinned; remove some")
    st.session_state[PINNED] = found


def unpin() -> None:
    """Forget all of them."""
    st.session_state.pop(PINNED, None)
