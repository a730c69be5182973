"""The server's one job: started, watched, cancelled, lost; with small scripts in place of torch."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from dashboard.app.own_model import model_text, read_model
from dashboard.pages.profile import jobs as module
from dashboard.pages.profile.jobs import (
    Job,
    Jobs,
    Progress,
    State,
    command_line,
    progress,
    recording_path,
)
from tests.steps import tiny_model

ROOT = Path(__file__).parents[2]
PATIENCE_S = 300.0  # a limit, not a wait
SAYS = (
    "import sys, os; print('args', *sys.argv[1:]); print(os.environ.get('FORCE_COLOR'));"
    " print('[1/2] a: done in 1.0 s, about 30 s left', file=sys.stderr, flush=True)"
)
WAITS = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
print("ready", flush=True)
try:
    time.sleep(3600)
except KeyboardInterrupt:
    print("interrupted: what was measured is kept", flush=True)
    sys.exit(130)
"""
DEAF = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(3600)
"""
HF = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 100,
    "hidden_act": "silu",
}


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.01)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Starts a script as the server's job, and leaves none behind."""
    held: list[Job] = []

    def start(script: str, *arguments: str) -> Job:
        job = Jobs((sys.executable, "-c", script)).start(arguments, tmp_path / "made" / "x.json")
        held.append(job)
        return job

    yield start
    for job in held:
        job.process.kill()
        job.process.wait()


def ended(job: Job) -> Progress:
    until(lambda: job.progress().state != "running")
    until(job.finished.is_set)
    return job.progress()


def test_a_job_gets_its_arguments_and_both_its_streams_are_heard(
    started: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # under it rich draws a bar in place of lines
    job = started(SAYS, "profile", "a b", "$(id)")
    last = ended(job)
    assert set(job.lines) == {
        "args profile a b $(id)",
        "None",
        "[1/2] a: done in 1.0 s, about 30 s left",
    }
    assert (last.state, last.exit_code) == ("done", 0)
    assert (last.done, last.total, last.left_s) == (1, 2, 30)
    assert job.out.parent.is_dir()


def test_a_cancelled_job_is_interrupted_as_by_ctrl_c(
    started: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE_S", PATIENCE_S)  # a slow machine may answer late
    job = started(WAITS)
    until(lambda: "ready" in job.lines)
    assert job.progress().state == "running"
    job.cancel()
    last = ended(job)
    assert (last.state, last.exit_code) == ("cancelled", 130)
    assert last.last == "interrupted: what was measured is kept"


def test_a_job_that_does_not_listen_is_ended(
    started: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.1)
    job = started(DEAF)
    until(lambda: "ready" in job.lines)
    job.cancel()
    last = ended(job)
    assert (last.state, last.exit_code) == ("cancelled", -signal.SIGKILL)


def test_a_killed_process_has_failed(started: Callable[..., Job]) -> None:
    job = started(WAITS)
    until(lambda: "ready" in job.lines)
    os.kill(job.process.pid, signal.SIGKILL)
    last = ended(job)
    assert (last.state, last.exit_code) == ("failed", -signal.SIGKILL)
    stopped = last.elapsed_s
    time.sleep(0.05)
    assert job.progress().elapsed_s == stopped


def test_the_command_line_listens_to_ctrl_c_under_a_server_that_does_not() -> None:
    """A shell script starts what it puts into the background with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        told = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
        ignoring = Jobs((sys.executable, "-c", told)).start((), Path("x.json"))
        program = module.PROGRAM.partition("from costmodel")[0] + told
        listening = Jobs((sys.executable, "-c", program)).start((), Path("x.json"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended(ignoring).last == "True"
    assert ended(listening).last == "False"


def test_two_jobs_at_once_are_refused_and_the_next_one_may_follow(tmp_path: Path) -> None:
    server = Jobs((sys.executable, "-c", WAITS))
    out = tmp_path / "x.json"
    first = server.start((), out)
    until(lambda: "ready" in first.lines)
    with pytest.raises(InputError, match="one is running on this machine"):
        server.start((), out)
    assert server.current is first
    first.cancel()
    ended(first)
    second = server.start((), out)
    assert server.current is second
    second.process.kill()
    assert ended(second).state == "failed"


def test_a_folder_that_cannot_be_made_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^out=.*file/x\.json"):
        Jobs(("true",)).start((), tmp_path / "file" / "x.json")


LOG = (
    "starting a worker for time",
    "[1/4] m time decode batch=1: done in 3.2 s, about 140 s left",
    "[2/4] m time decode batch=64: lacking, out of memory",
    "building m for trace [9/9]",
)


@pytest.mark.parametrize(
    ("exit_code", "cancelled", "state"),
    [
        (None, False, "running"),
        (None, True, "running"),
        (0, False, "done"),
        (0, True, "done"),  # it ended before it was told
        (130, True, "cancelled"),
        (-9, True, "cancelled"),
        (1, False, "failed"),
        (-9, False, "failed"),
    ],
)
def test_lines_and_the_exit_code_say_how_far_it_is(
    exit_code: int | None, *, cancelled: bool, state: State
) -> None:
    assert progress(LOG, exit_code=exit_code, cancelled=cancelled, elapsed_s=5.0) == Progress(
        state=state,
        done=2,
        lacking=0,
        total=4,
        left_s=140.0,
        last="building m for trace [9/9]",
        elapsed_s=5.0,
        exit_code=exit_code,
    )


def test_before_it_says_anything_nothing_is_known() -> None:
    start = progress((), exit_code=None, cancelled=False, elapsed_s=0.0)
    assert (start.done, start.total, start.left_s, start.last) == (0, 0, None, "")


def test_the_command_line_can_be_pasted_into_a_shell() -> None:
    arguments = ("profile", "my model.toml", "--out", "it's; rm -rf $HOME.json")
    command = command_line(arguments)
    script = f"sparsecost() {{ printf '%s\\0' \"$@\"; }}\n{command}\n"
    said = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)
    assert tuple(said.stdout.split("\0")[:-1]) == arguments


def test_a_long_command_breaks_between_options_and_not_within_a_name() -> None:
    name = f"recordings/{'n' * 60}.json"
    lines = command_line(("profile", "m", "--batch", "1", "--runs", "time", "--out", name))
    assert lines.splitlines() == [
        "sparsecost profile m --batch 1 --runs time \\",
        f"  --out {name}",
    ]


@pytest.mark.parametrize("name", ["a.json", "h200-olmoe-1b-7b.json", "0_a.b.json"])
def test_a_recordings_file_lies_in_the_folder(name: str) -> None:
    assert recording_path(Path("folder"), name) == Path("folder") / name


@pytest.mark.parametrize(
    "name",
    [
        "../a.json",
        "a/b.json",
        "/etc/a.json",
        "a\\b.json",
        "a..json",
        ".json",
        "-a.json",
        "a.json\n",
        "a.json\0",
        "a.toml",
        "A.json",
        "a b.json",
        "\N{LATIN SMALL LETTER E WITH ACUTE}.json",
        "",
        "a" * 200 + ".json",
    ],
)
def test_any_other_name_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"^out=.*ends in \.json$"):
        recording_path(Path("folder"), name)


def test_a_pasted_model_becomes_a_file_that_the_command_line_reads_as_the_same_model() -> None:
    server = Jobs()
    preset = load_model("ultramemv2-1b-7b")
    for text in (model_text(preset), model_text(tiny_model()), json.dumps(HF)):
        path = server.model_file(text)
        assert load_model(str(path)) == read_model(text)
        assert server.model_file(text) == path
    other = replace(tiny_model(), name="other")
    assert server.model_file(model_text(other)) != path


def test_pasted_toml_stays_as_it_is() -> None:
    text = (ROOT / "costmodel/presets/models/olmoe-1b-7b.toml").read_text(encoding="utf-8")
    server = Jobs()
    path = server.model_file(text)
    assert path.read_text() == text
    assert load_model(str(path)) == load_model("olmoe-1b-7b")


def test_text_that_is_no_model_becomes_no_file() -> None:
    with pytest.raises(InputError):
        Jobs().model_file('{"hidden_size": 3}')
