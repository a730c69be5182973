"""The controls of the Measured page: which recording, which case; the address keeps them."""

import streamlit as st

from costmodel.errors import InputError
from costmodel.inputs.files import MAX_FILE_BYTES
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.recordings.recording import Case, Recording
from dashboard.app.recordings import folder, from_upload, load, matching, recording_names
from dashboard.app.shell import LINK, refused
from dashboard.app.widgets import plain
from dashboard.pages.measured.data import FIELDS, offered, place

LABELS = {
    "phase": "Recorded phase",
    "routing": "Recorded routing",
    "dtype": "Recorded format",
    "context": "Recorded context, tokens",
    "new_tokens": "Recorded new tokens",
    "batch": "Recorded batch, sequences",
}


def upload(label: str, key: str) -> Recording | None:
    """An uploaded recording, read once; None without one, or with one that is refused."""
    given = st.file_uploader(label, type="json", max_upload_size=MAX_FILE_BYTES // 2**20, key=key)
    if given is None:
        return None
    kept = st.session_state.get(f"_{key}")
    if kept is None or kept[0] != given.file_id:
        try:
            kept = given.file_id, from_upload(given.getvalue(), given.name)
        except InputError as error:
            st.error(plain(str(error)))
            return None
        st.session_state[f"_{key}"] = kept
    found: Recording = kept[1]
    return found


def opened(model: ModelConfig) -> Recording:
    """The uploaded recording, or the chosen one; the end of the page where there is none."""
    names = recording_names()
    fitting = matching(model)
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    with right, st.popover("Upload", width="stretch"):
        st.caption("It stays in this session; a link does not carry it.")
        given = upload("JSON file of a recording, at most 16 MiB", "rec_file")
    with left:
        name = st.selectbox(
            "Recording",
            names,
            index=names.index(fitting[0]) if fitting else 0,
            key="rec",
            bind=LINK,
            disabled=given is not None,
            help="First that of the sidebar's model, where there is one.",
        )
    if given is not None:
        return given
    if name is None:
        st.title("No recording yet")
        st.info("Measure one on the page Profile, or upload one.")
        st.text(f"Looked in: {folder().absolute()}")
        st.stop()
    try:
        return load(name)
    except InputError as error:
        refused("This recording cannot be read", str(error))
        st.stop()


def case_of(cases: tuple[Case, ...], asked: Workload) -> int:
    """Selects that offer what is recorded; they start at the sidebar's workload.

    A field of which there is but one value is no choice and has none.
    """
    if not cases:
        st.title("This recording holds no case")
        st.stop()
    wished = {"phase": asked.phase, "batch": asked.batch, "context": asked.context}
    picked: dict[str, object] = {}
    grid = st.grid(4, min_column_width=190, vertical_alignment="bottom")
    for field in FIELDS:
        values = offered(cases, field, picked)
        if len(values) == 1:
            picked[field] = values[0]
            continue
        wish = wished.get(field)
        picked[field] = grid.selectbox(
            LABELS[field],
            values,
            index=values.index(wish) if wish in values else 0,
            key=f"rec_{field}",
            bind=LINK,
        )
    return place(cases, picked)
