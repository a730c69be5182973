"""Profile: run the profiler on this machine, watch it, and open what it measured."""

from pathlib import Path

import streamlit as st

from costmodel.errors import InputError, install_command, shown
from costmodel.recordings.folders import OWN_PREFIX, own_folder, own_names
from costmodel.recordings.quantities import RUNS
from dashboard.app.address import drop, linked, one_of, some_of, switch, text_up_to, unbound
from dashboard.app.selection import OWN, OWN_FILE
from dashboard.app.shell import OWN_TEXT, current_selection
from dashboard.app.widgets import Card, cards, plain, prose
from dashboard.pages.profile.data import (
    CPU_INDEX,
    DEVICES,
    MAX_FILE_CHARS,
    MAX_LIST_CHARS,
    NO_TORCH,
    SCORES,
    ProfileForm,
    arguments,
    default_file_name,
    has_gpu,
    has_torch,
    run_rows,
)
from dashboard.pages.profile.jobs import (
    Job,
    Jobs,
    command_line,
    finished_words,
    recording_path,
)

MEASURED = Path(__file__).parents[1] / "measured" / "page.py"
REFRESH_S = 1.0
OWN_JOB = "_profile_job"  # where a session keeps the token of its job
JOB_PARAM = "prof_job"  # and where the address does: a reloaded page is still its owner's
ROUTINGS = ("uniform", "zipf:1.0", "experts=uniform,rows=zipf:1.0", SCORES)


@st.cache_resource
def jobs() -> Jobs:
    """The jobs of this server, shared by all sessions."""
    return Jobs()


def busy() -> bool:
    """Whether a profile runs on this machine, whoever started it."""
    job = jobs().current
    return job is not None and job.progress().state == "running"


def own_job() -> Job | None:
    """The latest job that this session started, or that its address names."""
    in_address = unbound(JOB_PARAM)
    tokens = {token for token in (st.session_state.get(OWN_JOB), in_address) if token}
    job = jobs().of(tokens)
    if job is not None:
        st.session_state[OWN_JOB] = job.token
        if in_address != job.token:
            st.query_params[JOB_PARAM] = job.token
    elif in_address is not None:
        drop(JOB_PARAM, f"{JOB_PARAM}={shown(in_address)}: is no run that this server knows")
    return job


def model_argument() -> str:
    """A preset's name, or the path of a file with the user's own model."""
    if selection.model_name != OWN:
        return selection.model_name
    return str(jobs().model_file(str(st.session_state[OWN_TEXT])))


def watch() -> None:
    """Draw how far this session's job is; called every second while one runs on this machine."""
    if running and not busy():
        st.rerun()  # the whole page, so that another profile can be started
    current = jobs().current
    if running and current is not None and current is not job:
        st.info(
            f"A profile of another session has been running since {current.started:%H:%M} UTC, for"
            f" {current.progress().elapsed_s:,.0f} s. Its log and its end are that session's."
        )
    if job is None:
        st.info("No profile has run in this session.")
        return
    progress = job.progress()
    finished = finished_words(progress)
    done = f"Done: measured {finished}" if progress.lacking else "Done"
    st.subheader(
        {"running": "Running", "done": done, "cancelled": "Cancelled"}.get(
            progress.state, f"Failed with exit code {progress.exit_code}"
        )
    )
    share = progress.done / progress.total if progress.total else 0.0
    st.progress(min(share, 1.0), text=f"Measured runs of cases: {finished}")
    if progress.lacking:
        st.caption("Lacking: this machine cannot make these runs; the log says why of each.")
    rest = "not known yet" if progress.left_s is None else f"about {progress.left_s:,.0f} s"
    cards(
        [
            Card(label="Elapsed", value=f"{progress.elapsed_s:,.0f} s"),
            Card(label="Left", value=rest if progress.state == "running" else "none"),
            Card(label="Measured runs", value=finished),
        ],
        across=3,
    )
    if progress.state == "running":
        st.button("Cancel", on_click=job.cancel, icon=":material/cancel:", key="prof_cancel")
    elif f"{OWN_PREFIX}{job.out.name}" in own_names():
        st.page_link(
            MEASURED,
            label="Open what was measured",
            icon=":material/speed:",
            query_params={"rec": f"{OWN_PREFIX}{job.out.name}"},
        )
    st.code(job.command, language="bash")
    st.caption("Log, newest line last")
    st.code("\n".join(job.lines) or "no line yet", language=None, height=240)


selection = current_selection()
st.title(plain(f"What does {selection.model.name} really cost on this machine?"))
st.caption(
    "The reference model runs in bf16, in separate processes. Model, phase and kernels are those of"
    " the sidebar; all other settings are below. The measurements become a recording, which the"
    " page Measured compares with the prediction."
)
if not has_torch():
    st.error(NO_TORCH, icon=":material/download:")
    st.markdown("Install it where sparsecost is, and press **Look again**:")
    st.code(install_command("gpu"), language="bash")
    if not has_gpu():
        st.caption(
            f"This machine has no NVIDIA driver: for a CPU alone, PyTorch's smaller build is"
            f" enough. Add to the command: {CPU_INDEX}"
        )
    st.button("Look again", icon=":material/refresh:", key="prof_again")
    st.stop()

places = st.container(), st.container()  # of the settings, and of the button
if not has_gpu():
    st.info(
        "This machine has no NVIDIA driver: the model runs on the CPU, where HBM bytes, energy and"
        " kernels cannot be measured. The table below says what each run can measure."
    )
left, right = places[0].columns(2)
with left:
    standard = st.toggle(
        "The whole standard plan",
        **linked("prof_standard", switch(), instead=False),
        help="About 100 cases.",
    )
    batch = st.text_input(
        "Batches",
        "1,16",
        max_chars=MAX_LIST_CHARS,
        **linked("prof_batch", text_up_to(MAX_LIST_CHARS), instead="1,16"),
        disabled=standard,
    )
    context = st.text_input(
        "Contexts",
        "512",
        max_chars=MAX_LIST_CHARS,
        **linked("prof_context", text_up_to(MAX_LIST_CHARS), instead="512"),
        disabled=standard,
    )
    new_tokens = st.text_input(
        "New tokens of a prompt",
        "512",
        max_chars=MAX_LIST_CHARS,
        **linked("prof_new", text_up_to(MAX_LIST_CHARS), instead="512"),
        disabled=standard or selection.workload.phase == "decode",
    )
with right:
    routing = st.pills(
        "Routings",
        ROUTINGS,
        selection_mode="multi",
        wrap=True,
        default=["uniform"],
        **linked("prof_routing", some_of(ROUTINGS), instead=("uniform",)),
        disabled=standard,
    )
    runs = st.pills(
        "Runs",
        RUNS,
        selection_mode="multi",
        default=list(RUNS),
        **linked("prof_runs", some_of(RUNS), instead=RUNS),
        wrap=True,
    )
    device = st.segmented_control(
        "Device",
        DEVICES,
        default="auto",
        required=True,
        **linked("prof_dev", one_of(DEVICES), instead="auto"),
    )
    own = selection.model_name == OWN
    default_name = default_file_name(selection)
    typed = st.text_input(
        "File of the recording",
        **linked("prof_out", text_up_to(MAX_FILE_CHARS), instead=""),
        max_chars=MAX_FILE_CHARS,
        placeholder=default_name,
        help="A file in the folder of your own recordings (SPARSECOST_RECORDINGS, else"
        " ./recordings). Empty: the name shown.",
    )
    name = typed or default_name
    resume = st.toggle("Continue that file", **linked("prof_resume", switch(), instead=False))
running, job = busy(), own_job()
try:
    out = recording_path(own_folder(), name)
    form = ProfileForm(
        model=model_argument(),
        phase=selection.workload.phase,
        batch=batch,
        context=context,
        new_tokens=new_tokens,
        routing=tuple(routing),
        runs=tuple(runs),
        device=device,
        backend=selection.workload.backend,
        standard=standard,
        resume=resume,
    )
    words = arguments(form, out)
    typed_words = tuple(OWN_FILE if own and word == form.model else word for word in words)
    st.code(command_line(typed_words), language="bash")
    if own:
        st.caption(f"{OWN_FILE} stands for the file of your own model.")
    taken = out.exists() and not resume
    if taken and not running:
        st.warning("That file exists: continue it, or choose another name.")
    if places[1].button(
        "Start",
        type="primary",
        icon=":material/play_arrow:",
        disabled=running or taken,
        key="prof_start",
    ):
        st.session_state[OWN_JOB] = jobs().start(words, out).token
        st.rerun()  # with the button disabled and the log below
except InputError as error:
    st.error(plain(str(error)))
st.fragment(watch, run_every=REFRESH_S if running else None)()
st.subheader("What each run measures")
prose(run_rows(RUNS), alt="What each run measures on a GPU, and what on a CPU")
