"""The Profile page: what it asks for, what it runs, and where what was measured opens."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from costmodel.errors import install_command
from costmodel.inputs.catalog import load_model
from costmodel.recordings import folders
from dashboard.app.own_model import model_text, packed
from dashboard.app.widgets import plain
from dashboard.pages.profile import data as profiling
from dashboard.pages.profile import jobs as module
from dashboard.pages.profile.data import NO_TORCH, has_torch
from dashboard.pages.profile.jobs import Jobs
from tests.dashboard.pages import opened
from tests.recording_values import case, recording, run, written
from tests.steps import tiny_model

pytestmark = pytest.mark.slow  # each test draws the page

PATIENCE_S = 300.0  # a limit, not a wait
MEASURES = """
import shutil, sys
out = sys.argv[sys.argv.index("--out") + 1]
print("starting a worker for time", flush=True)
print("[1/1] m time decode batch=1: done in 0.1 s, about 0 s left", flush=True)
print("<script>alert(1)</script> **bold**", flush=True)
shutil.copy(SOURCE, out)
"""
LACKS = """
print("[1/4] m time decode batch=1: done in 3.0 s, about 0 s left", flush=True)
for at, run in enumerate(("trace", "counters", "energy"), start=2):
    print(f"[{at}/4] m {run} decode batch=1: lacking, needs an NVIDIA GPU", flush=True)
"""
WAITS = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
print("[1/4] m time decode batch=1: done in 3.0 s, about 90 s left", flush=True)
try:
    time.sleep(3600)
except KeyboardInterrupt:
    sys.exit(130)
"""

Fake = Callable[[str], None]

page = partial(opened, "profile")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of recordings of the test's own, and a machine that has torch."""
    logging.getLogger("streamlit").setLevel(logging.ERROR)
    folder = tmp_path / "recordings"
    folder.mkdir()
    monkeypatch.setenv(folders.VARIABLE, str(folder))
    monkeypatch.setattr(profiling, "has_torch", lambda: True)
    monkeypatch.setattr(module, "GRACE_S", PATIENCE_S)  # a slow machine may answer late
    return folder


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], list[Jobs]]]:
    """Makes the page run a script in place of the profiler; no process is left behind."""
    made: list[Jobs] = []

    def fake(script: str) -> list[Jobs]:
        def jobs() -> Jobs:
            made.append(Jobs((sys.executable, "-c", script)))
            return made[-1]

        monkeypatch.setattr(module, "Jobs", jobs)
        return made

    st.cache_resource.clear()
    yield fake
    st.cache_resource.clear()
    for jobs in made:
        if jobs.current is not None:
            jobs.current.process.kill()
            jobs.current.process.wait()
            jobs.current.finished.wait(PATIENCE_S)


def press(at: AppTest, key: str) -> None:
    at.button(key=key).click().run()
    assert not at.exception


def until(at: AppTest, shown: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while shown not in [element.value for element in at.subheader]:
        assert time.monotonic() < end, f"the page never says {shown}"
        time.sleep(0.05)
        at.run()
        assert not at.exception


def codes(at: AppTest) -> list[str]:
    """What stands in the code blocks; a line that a backslash ends goes on, as in a shell."""
    return [element.value.replace(" \\\n  ", " ") for element in at.code]


def test_without_torch_the_page_says_what_to_install(
    here: Path, server: Callable[[str], list[Jobs]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert here.is_dir()
    made = server(WAITS)
    monkeypatch.setattr(profiling, "has_torch", lambda: False)
    at = page()
    assert [element.value for element in at.error] == [NO_TORCH]
    assert at.title
    assert codes(at) == [install_command("gpu")]
    assert made == []
    monkeypatch.setattr(profiling, "has_torch", lambda: True)  # once it was installed
    at.button(key="prof_again").click().run()
    assert not at.error
    assert at.button(key="prof_start")


def test_torch_that_is_installed_while_the_server_runs_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert not has_torch()
    (tmp_path / "torch.py").touch()
    assert has_torch()


def test_the_page_shows_the_command_that_it_would_run(
    here: Path, server: Callable[[str], list[Jobs]]
) -> None:
    server(WAITS)
    at = page(model="olmoe-1b-7b", prof_batch="1,4", prof_context="16", prof_dev="cpu")
    assert codes(at) == [
        (
            "sparsecost profile olmoe-1b-7b --phase decode --batch 1,4 --context 16"
            " --routing uniform --runs time,trace,counters,energy --device cpu"
            f" --out {here / 'olmoe-1b-7b.json'}"
        )
    ]


def test_prefill_is_taken_from_the_sidebar(here: Path, server: Callable[[str], list[Jobs]]) -> None:
    server(WAITS)
    (command,) = codes(page(phase="prefill", prof_new="64", prof_out="mine.json"))
    assert "--phase prefill" in command
    assert "--new-tokens 64" in command
    assert command.endswith(str(here / "mine.json"))


def test_a_profile_runs_and_leads_to_what_it_measured(
    here: Path, tmp_path: Path, server: Callable[[str], list[Jobs]]
) -> None:
    source = written(recording(tiny_model(), case(time=run({"graph_s": 0.5}))), tmp_path)
    server(f"SOURCE = {str(source)!r}\n{MEASURES}")
    at = page(prof_out="mine.json")
    press(at, "prof_start")
    until(at, "Done")
    assert (here / "mine.json").read_bytes() == source.read_bytes()
    assert {metric.label: metric.value for metric in at.metric}["Measured runs"] == "1 of 1"
    assert codes(at)[-1].splitlines() == [
        "starting a worker for time",
        "[1/1] m time decode batch=1: done in 0.1 s, about 0 s left",
        "<script>alert(1)</script> **bold**",
    ]
    link = at.get("page_link")[-1]  # behind those of the masthead
    assert link.proto.page.endswith("measured")
    assert link.proto.query_string == "rec=own%2Fmine.json"
    assert any("That file exists" in element.value for element in at.warning)
    assert at.button(key="prof_start").disabled  # the command would refuse to write over it
    at.toggle(key="prof_resume").set_value(True).run()
    assert not at.button(key="prof_start").disabled
    assert not at.warning
    measured = opened("measured", rec="own/mine.json")
    assert "measured 500 ms" in measured.title[0].value


def test_runs_that_this_machine_cannot_make_are_not_counted_as_measured(
    here: Path, server: Callable[[str], list[Jobs]]
) -> None:
    assert here.is_dir()
    server(LACKS)
    at = page()
    press(at, "prof_start")
    until(at, "Done: measured 1 of 4, 3 lacking")
    assert {metric.label: metric.value for metric in at.metric}["Measured runs"] == (
        "1 of 4, 3 lacking"
    )
    assert any(element.value.startswith("Lacking: ") for element in at.caption)


def test_a_running_profile_shows_how_far_it_is_and_is_cancelled(
    here: Path, server: Callable[[str], list[Jobs]]
) -> None:
    made = server(WAITS)
    at = page()
    press(at, "prof_start")
    (jobs,) = made
    assert jobs.current is not None
    end = time.monotonic() + PATIENCE_S
    while not jobs.current.lines:
        assert time.monotonic() < end
        time.sleep(0.02)
    at.run()
    assert at.subheader[0].value == "Running"
    assert at.button(key="prof_start").disabled
    told = {metric.label: metric.value for metric in at.metric}
    assert told["Measured runs"] == "1 of 4"
    assert told["Left"] == "about 90 s"
    reloaded = page(**at.query_params)  # its address is still that of who started it
    assert reloaded.subheader[0].value == "Running"
    press(reloaded, "prof_cancel")
    until(at, "Cancelled")
    assert jobs.current.progress().exit_code == 130
    assert not any(link.proto.query_string for link in at.get("page_link"))
    assert not (here / "ultramemv2-1b-7b.json").exists()


def test_a_profile_belongs_to_the_session_that_started_it(
    here: Path, server: Callable[[str], list[Jobs]]
) -> None:
    assert here.is_dir()
    made = server(WAITS)
    at = page(prof_out="secret.json")
    press(at, "prof_start")
    job = made[0].current
    assert job is not None
    for elsewhere in (page(), page(prof_job="another")):
        (busy,) = [info.value for info in elsewhere.info if "another session" in info.value]
        assert f"since {job.started:%H:%M} UTC" in busy
        assert elsewhere.button(key="prof_start").disabled
        assert "prof_cancel" not in [button.key for button in elsewhere.button]
        assert not any("secret" in element.value for element in elsewhere.code)
        assert not elsewhere.metric
    assert plain("prof_job='another'") in elsewhere.warning[0].value
    job.cancel()
    job.finished.wait(PATIENCE_S)
    after = page()
    assert not after.button(key="prof_start").disabled
    assert "No profile has run in this session." in [info.value for info in after.info]
    until(at, "Cancelled")


def test_a_lost_profile_says_with_which_code(
    here: Path, server: Callable[[str], list[Jobs]]
) -> None:
    assert here.is_dir()
    server("import sys; print('out of memory'); sys.exit(3)")
    at = page()
    press(at, "prof_start")
    until(at, "Failed with exit code 3")
    assert codes(at)[-1] == "out of memory"


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"prof_out": "../../etc/passwd.json"}, "out="),
        ({"prof_out": "/tmp/x.json"}, "out="),  # noqa: S108 - refused
        ({"prof_batch": "$(id)"}, "batch="),
        ({"prof_context": "-1"}, "context="),
    ],
)
def test_a_link_with_a_bad_value_starts_nothing(
    here: Path, server: Callable[[str], list[Jobs]], query: dict[str, str], told: str
) -> None:
    assert here.is_dir()
    server(WAITS)
    at = page(**query)
    (error,) = at.error
    assert error.value.startswith(told)
    assert at.title
    assert not at.button
    assert not codes(at)


def test_a_model_of_ones_own_is_profiled_from_a_file(
    here: Path, server: Callable[[str], list[Jobs]]
) -> None:
    made = server(WAITS)
    model = replace(tiny_model(), name="../My <Model> 1.5/")
    link = packed(model_text(model))
    assert link is not None
    at = page(own=link)
    shown = codes(at)[0].split()
    assert shown[:3] == ["sparsecost", "profile", "your-model.toml"]
    assert shown[-1] == str(here / "my-model-1-5.json")
    press(at, "prof_start")
    assert made[0].current is not None
    run = made[0].current.process.args
    assert isinstance(run, list)
    assert load_model(run[run.index("profile") + 1]) == model
    assert run[-1] == shown[-1]


@pytest.mark.parametrize("gpu", [True, False])
def test_a_machine_without_a_gpu_is_told_what_cannot_be_measured(
    here: Path, server: Callable[[str], list[Jobs]], monkeypatch: pytest.MonkeyPatch, *, gpu: bool
) -> None:
    assert here.is_dir()
    server(WAITS)
    monkeypatch.setattr(profiling, "has_gpu", lambda: gpu)
    told = [element.value for element in page().info if "no NVIDIA driver" in element.value]
    assert len(told) == (0 if gpu else 1)
