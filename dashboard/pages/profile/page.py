"""Profile: run the profiler on this machine, watch it, and open what it measured."""

import re
from pathlib import Path
from typing import Literal, cast

import streamlit as st

from costmodel.errors import InputError
from costmodel.recordings.quantities import RUNS
from dashboard.app.recordings import folder, recording_names
from dashboard.app.selection import OWN, OWN_FILE
from dashboard.app.shell import LINK, OWN_TEXT, selection
from dashboard.app.widgets import Card, cards, plain, prose
from dashboard.pages.profile.data import (
    NO_TORCH,
    SCORES,
    Asked,
    arguments,
    has_gpu,
    has_torch,
    run_rows,
)
from dashboard.pages.profile.jobs import Jobs, command_line, recording_path

MEASURED = Path(__file__).parents[1] / "measured" / "page.py"
REFRESH_S = 1.0
MAX_STEM = 60  # characters of a model's name in the name of its file


@st.cache_resource
def jobs() -> Jobs:
    """The one of this server."""
    return Jobs()


def busy() -> bool:
    """Whether a profile runs on this machine, whoever started it."""
    job = jobs().current
    return job is not None and job.seen().state == "running"


def model_argument() -> str:
    """A preset's name, or a file that holds the user's own model."""
    if chosen.model_name != OWN:
        return chosen.model_name
    return str(jobs().model_file(str(st.session_state[OWN_TEXT])))


def watch() -> None:
    """How far the job is; drawn anew every second while it runs."""
    job = jobs().current
    if job is None:
        st.info("No profile has run since this app started.")
        return
    found = job.seen()
    if running and found.state != "running":
        st.rerun()  # the whole page: it can start another one now
    st.subheader(
        {"running": "Running", "done": "Done", "cancelled": "Cancelled"}.get(
            found.state, f"Failed with exit code {found.exit_code}"
        )
    )
    share = found.done / found.total if found.total else 0.0
    finished = f"{found.done:,} of {found.total:,}" if found.total else "none yet"
    st.progress(min(share, 1.0), text=f"Finished runs of cases: {finished}")
    rest = "not known yet" if found.left_s is None else f"about {found.left_s:,.0f} s"
    cards(
        [
            Card(label="Elapsed", value=f"{found.elapsed_s:,.0f} s"),
            Card(label="Left", value=rest if found.state == "running" else "none"),
            Card(label="Finished runs", value=finished),
        ],
        across=3,
    )
    if found.state == "running":
        st.button("Cancel", on_click=job.cancel, icon=":material/cancel:", key="prof_cancel")
    elif job.out.name in recording_names():
        st.page_link(
            MEASURED,
            label="Open what was measured",
            icon=":material/speed:",
            query_params={"rec": job.out.name},
        )
    st.code(job.command, language="bash")
    st.caption("Log, newest line last")
    st.code("\n".join(job.lines) or "nothing said yet", language=None, height=240)


chosen = selection()
st.title(plain(f"What does {chosen.model.name} really cost on this machine?"))
st.caption(
    "The reference model runs in bf16, in processes of its own: model and phase are the sidebar's,"
    " all else stands below. What is measured becomes a recording, which the page Measured puts"
    " beside the prediction."
)
if not has_torch():
    st.error(NO_TORCH)
    st.stop()

if not has_gpu():
    st.info(
        "No NVIDIA driver is found here: the model runs on the CPU, and HBM bytes, energy and"
        " kernels cannot be measured; of each run the table below says what can."
    )
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
    routing = st.pills(
        "Routings",
        ["uniform", "zipf:1.0", SCORES],
        selection_mode="multi",
        wrap=True,
        default=["uniform"],
        key="prof_routing",
        bind=LINK,
        disabled=standard,
    )
    runs = st.pills(
        "Runs",
        RUNS,
        selection_mode="multi",
        default=list(RUNS),
        key="prof_runs",
        bind=LINK,
        wrap=True,
    )
    device = st.segmented_control(
        "Device", ["auto", "cpu", "cuda"], default="auto", required=True, key="prof_dev", bind=LINK
    )
    own = chosen.model_name == OWN
    stem = re.sub(r"[^a-z0-9_-]+", "-", chosen.model.name.lower()).strip("-_")[:MAX_STEM]
    default_name = f"{(stem or 'own-model') if own else chosen.model_name}.json"
    typed = st.text_input(
        "File of the recording",
        key="prof_out",
        bind=LINK,
        max_chars=90,
        placeholder=default_name,
        help="Within the folder of recordings; empty: the name shown.",
    )
    name = typed or default_name
    resume = st.toggle("Go on with that file", key="prof_resume", bind=LINK)
running = busy()
try:
    out = recording_path(folder(), name)
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
    told = tuple(OWN_FILE if own and word == asked.model else word for word in wanted)
    st.code(command_line(told), language="bash")
    if own:
        st.caption(f"{OWN_FILE} stands for the file of your own model.")
    taken = out.exists() and not resume
    if taken and not running:
        st.warning("That file exists: go on with it, or choose another name.")
    if st.button(
        "Start",
        type="primary",
        icon=":material/play_arrow:",
        disabled=running or taken,
        key="prof_start",
    ):
        jobs().start(wanted, out)
        st.rerun()  # with the button off, and the log below
except InputError as error:
    st.error(plain(str(error)))
st.fragment(watch, run_every=REFRESH_S if running else None)()
st.subheader("What each run measures")
prose(run_rows(RUNS), alt="What each run measures, and what of it on a CPU")
