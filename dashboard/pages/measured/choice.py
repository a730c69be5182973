"""The controls of the Measured page: which recording and which case, kept in the address."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from costmodel.errors import InputError
from costmodel.inputs.files import MAX_FILE_BYTES
from costmodel.inputs.workload import Workload
from costmodel.recordings.folders import SHIPPED, own_folder
from costmodel.recordings.recording import Case, Recording
from costmodel.validation.machines import PRESETS, backend_of, device_of
from costmodel.validation.measured_model import measured_alike
from dashboard.app.address import forget, linked, one_of
from dashboard.app.recordings import from_upload, load, matching, recording_names
from dashboard.app.selection import Selection
from dashboard.app.shell import refused
from dashboard.app.widgets import plain
from dashboard.pages.measured.data import FIELDS, offered, place

SIDEBAR = "_measured_sidebar"  # where a session keeps the sidebar's values that this page has seen
WORDS = {
    "phase": "phase",
    "routing": "routing",
    "dtype": "format",
    "placement": "placement",
    "context": "context",
    "new_tokens": "new tokens",
    "batch": "batch",
}
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


def opened(selection: Selection) -> Recording:
    """The uploaded recording, or the chosen one; the page ends here where there is none."""
    model, backend = selection.model, selection.workload.backend
    names = recording_names()
    of_model = matching(model, backend=backend) or matching(model)
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


def follow(selection: Selection) -> None:
    """Let the controls start anew at the sidebar's values where these changed on this page."""
    sidebar = (selection.model, selection.workload, selection.hardware_name)
    before = st.session_state.get(SIDEBAR)
    st.session_state[SIDEBAR] = sidebar
    if before is not None and before != sidebar:
        forget("rec", *(f"rec_{field}" for field in FIELDS))


def unlike_sidebar(selection: Selection, recording: Recording, case: Case) -> str | None:
    """What the sidebar asks for and the shown case is not, and why; None where it is all of it."""
    asked, shown = selection.workload, case.workload
    device = device_of(recording, case, "time")
    of_model = measured_alike(recording.model, selection.model)
    step = asked_of(asked)
    other = [name for name, value in step.items() if getattr(shown, name) != value]
    wanted = [*([] if of_model else [selection.model.name])]
    wanted += [f"{WORDS[name]} {step[name]}" for name in other]
    on_gpu = PRESETS.get(device) == selection.hardware_name
    by_backend = backend_of(case, "time") == asked.backend
    wanted += [] if on_gpu else [selection.hardware.name]
    wanted += [] if by_backend else [f"kernels of {asked.backend}"]
    if not wanted:
        return None
    reasons = []
    if not of_model:
        chosen = "another recording is chosen here" if matching(selection.model) else ""
        reasons.append(chosen or f"nothing is recorded of {selection.model.name}")
    if other:
        held = any(
            all(getattr(each.workload, name) == value for name, value in step.items())
            for each in recording.cases
        )
        reasons.append("another step is chosen here" if held else "it holds no such step")
    reasons += [] if on_gpu else [f"it was made on {device}"]
    reasons += [] if by_backend else [f"its kernels are those of {backend_of(case, 'time')}"]
    return (
        f"Not what the sidebar asks for ({', '.join(wanted)}), but a recording of"
        f" {recording.model.name}: {', '.join(reasons)}."
    )


def asked_of(workload: Workload) -> dict[str, object]:
    """The sidebar's workload by the fields of a recorded one."""
    return {
        "phase": workload.phase,
        "routing": workload.routing.label,
        "dtype": workload.dtype_label,
        "placement": workload.placement.label,
        "context": workload.context,
        "new_tokens": workload.new_tokens,
        "batch": workload.batch,
    }


def start_of(values: Sequence[Any], value: object) -> int:
    """The index of a value among those that are recorded; of a number, that of the nearest one."""
    if value in values:
        return values.index(value)
    if isinstance(value, int):
        return min(range(len(values)), key=lambda index: abs(values[index] - value))
    return 0


def case_of(cases: tuple[Case, ...], sidebar: Workload) -> int:
    """The index of the case that the controls choose; they start at the sidebar's workload.

    A control offers the values of a field that are recorded; with one value it is not drawn.
    """
    if not cases:
        st.title("This recording holds no case")
        st.stop()
    preferred = asked_of(sidebar)
    chosen: dict[str, object] = {}
    grid = st.grid(4, min_column_width=190, vertical_alignment="bottom")
    for field in FIELDS:
        values = offered(cases, field, chosen)
        if len(values) == 1:
            chosen[field] = values[0]
            continue
        index = start_of(values, preferred[field])
        chosen[field] = grid.selectbox(
            LABELS[field],
            values,
            index=index,
            **linked(f"rec_{field}", one_of(values), instead=values[index]),
        )
    return place(cases, chosen)
