"""Profile: run the profiler on this machine, watch it, and open what it measured."""

import os
from pathlib import Path
from typing import Literal, cast

import streamlit as st

from costmodel.errors import InputError
from costmodel.quantities import RUNS
from dashboard.jobs import Jobs, command_line, recording_path
from dashboard.profiling import NO_TORCH, Asked, arguments, has_torch
from dashboard.selection import OWN
from dashboard.shell import LINK, OWN_TEXT, selection
from dashboard.widgets import Card, cards

FOLDER = Path(os.environ.get("SPARSECOST_RECORDINGS", "recordings"))
REFRESH_S = 1.0


@st.cache_resource
def jobs() -> Jobs:
    """The one of this server."""
    return Jobs()


def model_argument() -> str:
    """A preset's name, or a file that holds the user's own model."""
    if chosen.model_name != OWN:
        return chosen.model_name
    return str(jobs().model_file(str(st.session_state[OWN_TEXT])))


@st.fragment(run_every=REFRESH_S)
def watch() -> None:
    """How far the job is; drawn anew every second while it runs."""
    job = jobs().current
    if job is None:
        st.info("No profile has run since this app started.")
        return
    found = job.seen()
    st.subheader(
        {"running": "Running", "done": "Done", "cancelled": "Cancelled"}.get(
            found.state, f"Failed with exit code {found.exit_code}"
        )
    )
    share = found.done / found.total if found.total else 0.0
    st.progress(min(share, 1.0), text=f"{found.done} of {found.total} runs of cases")
    left = "unknown yet" if found.left_s is None else f"about {found.left_s:.0f} s"
    cards(
        [
            Card(label="Elapsed", value=f"{found.elapsed_s:.0f} s"),
            Card(label="Left", value=left if found.state == "running" else "-"),
            Card(label="Finished runs", value=f"{found.done:,} of {found.total:,}"),
        ],
        across=3,
    )
    st.code(job.command, language="bash")
    st.text_area(
        "Log, newest line last",
        "\n".join(job.lines),
        height=240,
        disabled=True,
        key=f"log_{len(job.lines)}",
    )
    if found.state == "running":
        st.button("Cancel", on_click=job.cancel, icon=":material/cancel:")
    elif job.out.exists():
        st.success(f"What was measured is in {job.out.name}: open it on the page Measured.")


chosen = selection()
st.title("What does it really cost on this machine?")
st.caption(
    "The reference model runs in processes of its own; what is measured becomes a recording, which"
    " the page Measured puts beside the prediction. Without an NVIDIA GPU only wall time, counted"
    " FLOPs, memory and choices can be had."
)
if not has_torch():
    st.error(NO_TORCH)
    st.stop()

left, right = st.columns(2)
with left:
    standard = st.toggle(
        "The whole standard plan", key="prof_standard", bind=LINK, help="About 100 cases."
    )
    batch = st.text_input("Batches", "1,16", key="prof_batch", bind=LINK, disabled=standard)
    context = st.text_input("Contexts", "512", key="prof_context", bind=LINK, disabled=standard)
    new_tokens = st.text_input(
        "New tokens of a prompt",
        "512",
        key="prof_new",
        bind=LINK,
        disabled=standard or chosen.workload.phase == "decode",
    )
with right:
    routing = st.multiselect(
        "Routings",
        ["uniform", "zipf:1.0", "scores"],
        default=["uniform"],
        key="prof_routing",
        bind=LINK,
        disabled=standard,
    )
    runs = st.multiselect("Runs", list(RUNS), default=list(RUNS), key="prof_runs", bind=LINK)
    device = st.segmented_control(
        "Device", ["auto", "cpu", "cuda"], default="auto", required=True, key="prof_dev", bind=LINK
    )
    default_name = f"{chosen.model_name if chosen.model_name != OWN else 'own-model'}.json"
    name = st.text_input(
        "File of the recording", default_name, key="prof_out", bind=LINK, max_chars=90
    )
    resume = st.toggle("Go on with that file", key="prof_resume", bind=LINK)
try:
    out = recording_path(FOLDER, name)
    asked = Asked(
        model=model_argument(),
        phase=chosen.workload.phase,
        batch=batch,
        context=context,
        new_tokens=new_tokens,
        routing=tuple(routing),
        runs=tuple(runs),
        device=cast('Literal["auto", "cpu", "cuda"]', device),
        standard=standard,
        resume=resume,
    )
    wanted = arguments(asked, out)
    st.code(command_line(wanted), language="bash")
    current = jobs().current
    busy = current is not None and current.seen().state == "running"
    if st.button("Start", type="primary", icon=":material/play_arrow:", disabled=busy):
        jobs().start(wanted, out)
except InputError as error:
    st.error(str(error))
watch()
