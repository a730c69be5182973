"""The user's own GPU: as TOML, within a link, and the sidebar's form of its main numbers.

The fields write into the text, as those of the user's own model do. Every number of a GPU names its
source: that of a field says that it was typed here.
"""

from dataclasses import asdict
from typing import Any

import streamlit as st
import tomli_w

from costmodel.errors import InputError
from costmodel.inputs.files import read_toml
from costmodel.inputs.hardware import Hardware, load_hardware
from dashboard.app.address import linked, switch
from dashboard.app.given_file import read_given
from dashboard.app.own_model import encoded, packed
from dashboard.app.widgets import plain

GPU_TEXT, GPU_PARAM = "own_gpu_text", "own_gpu"  # where a session and a link keep it
GPU_FILE = "your-gpu.toml"  # its file in the command lines that are shown, and for its readers
DRAFT, BASIS, REFUSED = "gpu_draft", "gpu_basis", "gpu_refused"  # kept for a session
NAME = "gpu_name"
TYPED = "typed in the dashboard"
MOST = 1e9  # of a field, in its unit; the GPU's own rules are narrower

Place = tuple[str, ...]
FIELDS: tuple[tuple[Place, str, float], ...] = (  # where it stands, its label, its unit in SI
    (("hbm_bytes_per_s",), "Memory bandwidth, TB/s", 1e12),
    (("capacity_bytes",), "Memory, GB", 1e9),
    (("l2_bytes",), "L2 cache, MB", 1e6),
    (("dense_peak_flops_per_s", "bf16"), "Dense bf16 peak, TFLOP/s", 1e12),
    (("dense_peak_flops_per_s", "fp8"), "Dense fp8 peak, TFLOP/s", 1e12),
)


def read_gpu(text: str) -> Hardware:
    """The GPU that a text describes, checked like a file of the user's own.

    Raises:
        InputError: The text is too long, no TOML, or no valid GPU.
    """
    return read_given(encoded(text, "gpu"), GPU_FILE, "gpu", lambda path: load_hardware(str(path)))


def gpu_text(hardware: Hardware) -> str:
    """The GPU as TOML that `read_gpu` reads back as the same GPU."""
    return tomli_w.dumps(_given(asdict(hardware)))


def edited(text: str, place: Place, value: str | float | None) -> str:
    """The text with another name or number, whose source is then the user; None takes it out.

    Raises:
        InputError: The text is too long, or no TOML.
    """
    table = read_given(encoded(text, "gpu"), GPU_FILE, "gpu", read_toml)
    holder = table
    for key in place[:-1]:
        holder = holder.setdefault(key, {})
    sources, path = table.setdefault("sources", {}), ".".join(place)
    if not isinstance(holder, dict) or not isinstance(sources, dict):
        raise InputError(f"gpu: {path} and sources are tables")
    holder.pop(place[-1], None)
    sources.pop(path, None)
    if value is not None:
        holder[place[-1]] = value
        if not isinstance(value, str):
            sources[path] = TYPED
    return tomli_w.dumps(table)


def _given(table: dict[str, Any]) -> dict[str, Any]:
    """A table without what is None, which TOML cannot say."""
    return {
        key: _given(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if value is not None
    }


def gpu_form(basis: Hardware, own: str, *, entry: str, preset: str) -> None:
    """Draw the form.

    Args:
        basis: The chosen GPU, with which the form begins.
        own: The text of the user's own GPU if that is chosen, else empty.
        entry: The user's own GPU in the sidebar's list.
        preset: The GPU that is chosen when the user's own one is forgotten.
    """
    box = st.expander(
        "A GPU of your own", **linked("gpu_own", switch(), instead=False), on_change="rerun"
    )
    if not box.open:
        return
    if st.session_state.get(BASIS) != basis or DRAFT not in st.session_state:
        st.session_state[BASIS], st.session_state[DRAFT] = basis, own or gpu_text(basis)
    with box:
        if refused := st.session_state.pop(REFUSED, None):
            st.error(plain(refused))
        _fields(st.session_state[DRAFT])
        st.text_area(
            "As TOML; the fields above write into it",
            height=160,
            key=DRAFT,
            persist_state="session",
        )
        try:
            read_gpu(st.session_state[DRAFT])
        except InputError as error:
            st.error(plain(str(error)))
            valid = False
        else:
            valid = True
        with st.container(horizontal=True):
            st.button(
                "Use this GPU",
                key="gpu_use",
                type="primary",
                disabled=not valid,
                on_click=_use,
                args=(entry,),
            )
            st.button(
                "Forget it", key="gpu_forget", disabled=not own, on_click=_forget, args=(preset,)
            )


def _fields(text: str) -> None:
    try:
        hardware = read_gpu(text)
    except InputError:
        return
    numbers = hardware.numbers()
    st.session_state[NAME] = hardware.name
    st.text_input("Name", key=NAME, on_change=_edit, args=(("name",), NAME))
    for place, label, unit in FIELDS:
        value, key = numbers.get(".".join(place)), f"gpu_{place[-1]}"
        st.session_state[key] = None if value is None else value / unit
        st.number_input(
            label,
            min_value=0.0,
            max_value=MOST,
            key=key,
            placeholder="not known",
            on_change=_edit,
            args=(place, key, unit),
        )


def _edit(place: Place, key: str, unit: float = 1) -> None:
    value = st.session_state[key]
    if isinstance(value, int | float):
        value = round(value * unit) if key.endswith("_bytes") else value * unit
    try:
        st.session_state[DRAFT] = edited(st.session_state[DRAFT], place, value)
    except InputError as error:
        st.session_state[REFUSED] = str(error)


def _use(entry: str) -> None:
    text = st.session_state[DRAFT]
    try:
        st.session_state[BASIS] = read_gpu(text)  # the draft stays as it was typed
    except InputError as error:
        st.session_state[REFUSED] = str(error)
        return
    st.session_state[GPU_TEXT] = text
    link = packed(text)
    if link is None:
        st.query_params.pop(GPU_PARAM, None)
    else:
        st.query_params[GPU_PARAM] = link
    st.session_state["gpu"] = entry


def _forget(preset: str) -> None:
    st.session_state.pop(GPU_TEXT, None)
    st.query_params.pop(GPU_PARAM, None)
    st.session_state["gpu"] = preset
