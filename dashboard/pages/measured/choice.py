"""The controls of the Measured page: which recording and which case, kept in the address."""

import streamlit as st

from costmodel.errors import InputError
from costmodel.inputs.files import MAX_FILE_BYTES
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.recordings.folders import SHIPPED, own_folder
from costmodel.recordings.recording import Case, Recording
from dashboard.app.address import linked, one_of
from dashboard.app.recordings import from_upload, load, matching, recording_names
from dashboard.app.shell import refused
from dashboard.app.widgets import plain
from dashboard.pages.measured.data import FIELDS, offered, place

LABELS = {
    "phase": "Recorded phase",
    "routing": "Recorded routing",
    "dtype": "Recorded format",
    "placement": "Recorded place of tables",
    "context": "Recorded context, tokens",
    "new_tokens": "Recorded new tokens",
    "batch": "Recorded batch, sequences",
}


def upload(label: str, key: str) -> Recording | None:
    """An uploaded recording, read once; None where there is none or it is refused."""
    file = st.file_uploader(label, type="json", max_upload_size=MAX_FILE_BYTES // 2**20, key=key)
    if file is None:
        return None
    kept = st.session_state.get(f"_{key}")
    if kept is None or kept[0] != file.file_id:
        try:
            kept = file.file_id, from_upload(file.getvalue(), file.name)
        except InputError as error:
            st.error(plain(str(error)))
            return None
        st.session_state[f"_{key}"] = kept
    recording: Recording = kept[1]
    return recording


def opened(model: ModelConfig) -> Recording:
    """The uploaded recording, or the chosen one; the page ends here where there is none."""
    names = recording_names()
    of_model = matching(model)
    index = names.index(of_model[0]) if of_model else 0
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    with right, st.popover("Upload", width="stretch"):
        st.caption("It stays in this session; a link does not carry it.")
        uploaded = upload("JSON file of a recording, at most 16 MiB", "rec_file")
    with left:
        name = st.selectbox(
            "Recording",
            names,
            index=index,
            **linked("rec", one_of(names), instead=names[index] if names else ""),
            disabled=uploaded is not None,
            help="At first the recording of the sidebar's model, where there is one. Names with"
            " own/ are your own recordings; all others came with sparsecost.",
        )
    if uploaded is not None:
        return uploaded
    if name is None:
        st.title("No recording yet")
        st.info("Measure one on the page Profile, or upload one.")
        st.text(f"Looked in: {SHIPPED} and {own_folder().absolute()}")
        st.stop()
    try:
        return load(name)
    except InputError as error:
        refused("This recording cannot be read", str(error))
        st.stop()


def case_of(cases: tuple[Case, ...], sidebar: Workload) -> int:
    """The index of the case that the controls choose; they start at the sidebar's workload.

    A control offers the values of a field that are recorded; with one value it is not drawn.
    """
    if not cases:
        st.title("This recording holds no case")
        st.stop()
    preferred = {"phase": sidebar.phase, "batch": sidebar.batch, "context": sidebar.context}
    chosen: dict[str, object] = {}
    grid = st.grid(4, min_column_width=190, vertical_alignment="bottom")
    for field in FIELDS:
        values = offered(cases, field, chosen)
        if len(values) == 1:
            chosen[field] = values[0]
            continue
        value = preferred.get(field)
        index = values.index(value) if value in values else 0
        chosen[field] = grid.selectbox(
            LABELS[field],
            values,
            index=index,
            **linked(f"rec_{field}", one_of(values), instead=values[index]),
        )
    return place(cases, chosen)
