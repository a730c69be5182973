"""A profile by workers that crash, hang, lie and run out of memory: only one case is lost."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from costmodel.errors import InputError, WorkError
from costmodel.recordings.recording import load_recording
from profiler.instruments import process as process_module
from profiler.session import profile as profile_module
from profiler.session.child import Child
from profiler.session.profile import run_profile
from profiler.session.progress import ProfileProgress
from profiler.session.protocol import Began, Event
from profiler.session.session import slug
from tests.profiler.session import fake_worker
from tests.profiler.session.profiles import (
    ALL,
    lacking,
    measured,
    profiled,
    request,
    run_texts,
    target,
    workload,
)

pytestmark = pytest.mark.slow  # each test starts workers

RUNS_OF_3 = {(batch, run) for batch in (1, 2, 3) for run in ALL}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "a.json"


def begun(log: Path) -> list[list[str]]:
    """What workers began to measure: process, model, run, batch, seed."""
    return [line.split() for line in log.read_text().splitlines()]


def test_all_goes_well(out: Path) -> None:
    log = out.with_name("begun")
    (outcome,), lines = profiled(request(out, target(runs=ALL)), f"{log}@log")
    recording = load_recording(out)
    assert measured(recording) == RUNS_OF_3
    assert lacking(recording) == {}
    assert (outcome.path, outcome.measured, outcome.lacking) == (out, 9, 0)
    (session,) = recording.sessions
    assert [check.name for check in session.self_check] == [f"{run}: copy" for run in ALL]
    counted = [line for line in lines if line.startswith("[")]
    assert [line.partition(" ")[0] for line in counted] == [f"[{n}/9]" for n in range(1, 10)]
    form = (
        r"\[1/9\] tiny time decode batch=1 context=16 routing=uniform:"
        r" done in \d+\.\d s, about \d+ s left"
    )
    assert re.fullmatch(form, counted[0])
    processes = {run: {line[0] for line in begun(log) if line[2] == run} for run in ALL}
    assert [len(each) for each in processes.values()] == [1, 1, 1]
    assert len(set.union(*processes.values())) == 3
    seeds = {(str(case.workload.batch), str(case.seed)) for case in recording.cases}
    assert {(line[3], line[4]) for line in begun(log)} == seeds


def test_other_processes_on_the_gpu_are_recorded_and_told(out: Path) -> None:
    _, lines = profiled(request(out, target()), "shared@2")
    others_by_batch = {
        each.workload.batch: each.runs["time"].conditions.other_processes
        for each in load_recording(out).cases
    }
    assert others_by_batch == {1: 0, 2: 2, 3: 0}
    (told,) = [place for place, line in enumerate(lines) if "other process" in line]
    assert lines[told] == "2 other processes used the GPU meanwhile"
    assert lines[told - 1].startswith("[2/3] ")


def test_several_models_share_the_workers_and_have_files_of_their_own(tmp_path: Path) -> None:
    log = tmp_path / "begun"
    targets = (target("a", runs=ALL), target("b", batches=(5,), runs=("time",)))
    outcomes, _ = profiled(request(tmp_path / "out", *targets), f"{log}@log")
    paths = [tmp_path / "out" / f"fake-1-{name}.json" for name in ("a", "b")]
    assert [each.path for each in outcomes] == paths
    assert measured(load_recording(paths[0])) == RUNS_OF_3
    assert measured(load_recording(paths[1])) == {(5, "time")}
    assert len({line[0] for line in begun(log)}) == 3


def test_fused_kernels_have_a_file_and_regions_of_their_own(tmp_path: Path) -> None:
    (outcome,), _ = profiled(request(tmp_path, target(batches=(1,), backend="fused")))
    assert outcome.path == tmp_path / "fake-1-tiny-fused.json"
    made = load_recording(outcome.path)
    assert made.paths == ("embed", "head", "{embed,head}")
    assert {run.backend for case in made.cases for run in case.runs.values()} == {"fused"}


def test_both_backends_share_the_workers_and_have_files_of_their_own(tmp_path: Path) -> None:
    log = tmp_path / "begun"
    targets = (target(runs=ALL), target(batches=(1, 2), runs=ALL, backend="fused"))
    outcomes, lines = profiled(request(tmp_path / "out", *targets), f"{log}@log")
    torch, fused = (load_recording(each.path) for each in outcomes)
    assert [each.path.name for each in outcomes] == ["fake-1-tiny.json", "fake-1-tiny-fused.json"]
    assert {run.backend for case in torch.cases for run in case.runs.values()} == {"torch"}
    assert {run.backend for case in fused.cases for run in case.runs.values()} == {"fused"}
    assert [case.seed for case in torch.cases[:2]] == [case.seed for case in fused.cases]
    assert len({line[0] for line in begun(log)}) == 3
    assert "building tiny-fused for time" in lines


def test_when_the_time_is_up_the_case_in_hand_is_left_for_another_time(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock jumps to the end as soon as the first case is on disk; the second never ends."""
    monkeypatch.setattr(process_module, "monotonic", lambda: 200.0 if out.exists() else 0.0)
    (outcome,), lines = profiled(request(out, target(runs=ALL), ends_s=100.0), "hang@2")
    recording = load_recording(out)
    assert (measured(recording), lacking(recording)) == ({(1, "time")}, {})
    assert (outcome.measured, outcome.lacking, outcome.lost) == (1, 0, 0)
    assert lines[-1] == "the time is up, 8 runs are left: --resume measures them"
    profiled(request(out, target(runs=ALL), resume=True))
    assert measured(load_recording(out)) == RUNS_OF_3


def test_the_file_is_named_after_what_measured(tmp_path: Path) -> None:
    (outcome,), lines = profiled(request(tmp_path, target(runs=ALL), device="cpu"))
    assert outcome.path == tmp_path / "cpu-tiny.json"
    reason = "not measured (no NVIDIA GPU)"
    recording = load_recording(outcome.path)
    assert measured(recording) == {(1, "time"), (2, "time"), (3, "time")}
    assert set(lacking(recording).values()) == {reason}
    assert (outcome.measured, outcome.lacking) == (3, 6)
    assert [line for line in lines if "starting" in line] == ["starting a worker for time"]


@pytest.mark.parametrize(
    ("trick", "reason"),
    [
        (
            "exit",
            "the worker ended with exit status 7: first words | terminate called | last words",
        ),
        ("kill", "the worker was killed by SIGKILL"),
        ("garbage", "the worker said what is no event: the line"),
        ("stranger", "the worker said what is no event: the worker's line: event.done.result"),
        ("other", "the worker said what is no event: an outcome of case 0, which is not in hand"),
        ("beyond", "the worker said what is no event: case 3 of 3"),
        ("early", "the worker said what is no event: 'end' out of turn"),
        ("cuda", "the worker ended: RuntimeError: CUDA error: an illegal memory access"),
        ("lost", "the worker ended: DeviceLostError: the GPU is gone"),
        ("oom", "out of memory"),
        ("unfit", "does not fit: by the prediction"),
        ("misfit", "what was measured is refused: cases.1.runs.time.step: 'no_such' is no"),
    ],
)
def test_a_case_that_fails_is_the_only_one_lost(trick: str, reason: str, out: Path) -> None:
    log = out.with_name("begun")
    (outcome,), _ = profiled(request(out), f"{trick}@2", f"{log}@log")
    assert outcome.lost == reason.startswith("the worker")  # a failure, of which a retry may help
    recording = load_recording(out)
    assert measured(recording) == {(1, "time"), (3, "time")}
    told = lacking(recording)
    assert set(told) == {(2, "time")}
    assert told[2, "time"].startswith(reason)
    assert [line[3] for line in begun(log)] == ["1", "2", "3"]


def test_a_case_that_fails_in_one_kind_of_run_is_tried_in_the_next(out: Path) -> None:
    log = out.with_name("begun")
    profiled(request(out, target(runs=("time", "energy"))), "kill@2", f"{log}@log")
    recording = load_recording(out)
    assert measured(recording) == {(1, "time"), (3, "time"), (1, "energy"), (3, "energy")}
    reason = "the worker was killed by SIGKILL"
    assert lacking(recording) == {(2, "time"): reason, (2, "energy"): reason}
    assert [(line[2], line[3]) for line in begun(log)] == [
        (run, batch) for run in ("time", "energy") for batch in "123"
    ]


class Impatient(Child):
    """Waits for a thousandth of the time once the case that hangs has begun: a start is slow."""

    def receive(self) -> Event | None:
        event = super().receive()
        if event == Began(job=0, case=1):
            self._timeout_s /= 1000
        return event


def test_a_worker_without_a_sign_of_life_is_ended(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = out.with_name("begun")
    monkeypatch.setattr(profile_module, "Child", Impatient)
    profiled(request(out, timeout_s=300), "hang@2", f"{log}@log")
    recording = load_recording(out)
    assert measured(recording) == {(1, "time"), (3, "time")}
    assert lacking(recording) == {(2, "time"): "the worker gave no sign of life for 0.3 s"}
    assert not any(Path("/proc", line[0]).exists() for line in begun(log))


def test_what_libraries_print_harms_nothing(out: Path) -> None:
    profiled(request(out), "print@2")
    assert len(measured(load_recording(out))) == 3


def test_three_lost_workers_in_a_row_end_it(out: Path) -> None:
    log = out.with_name("begun")
    wanted = request(out, target(batches=(1, 2, 3, 4, 5)))
    crash = tuple(f"kill@{batch}" for batch in (2, 3, 4))
    message = (
        "3 workers in a row were lost, the last one was killed by SIGKILL;"
        " what was measured is kept, --resume goes on from there"
    )
    with pytest.raises(WorkError, match=f"^{message}$"):
        profiled(wanted, *crash, f"{log}@log")
    recording = load_recording(out)
    assert measured(recording) == {(1, "time")}
    assert set(lacking(recording)) == {(2, "time"), (3, "time"), (4, "time")}
    profiled(replace(wanted, resume=True))
    assert len(measured(load_recording(out))) == 5


def test_lost_workers_between_finished_cases_do_not_end_it(out: Path) -> None:
    wanted = request(out, target(batches=range(1, 9)))
    profiled(wanted, *(f"kill@{batch}" for batch in (2, 4, 6, 8)))
    assert measured(load_recording(out)) == {(batch, "time") for batch in (1, 3, 5, 7)}


def test_a_crash_while_building_costs_that_model_alone(tmp_path: Path) -> None:
    outcomes, _ = profiled(request(tmp_path, target("a"), target("b")), "kill@build a")
    assert [(each.measured, each.lacking) for each in outcomes] == [(0, 3), (3, 0)]
    assert outcomes[0].reason == "the worker was killed by SIGKILL"
    assert [each.lost for each in outcomes] == [3, 0]
    assert not outcomes[0].path.exists()  # nothing is known of it


def test_a_model_that_is_built_in_a_later_run_says_what_the_earlier_lacked(out: Path) -> None:
    """The first worker is lost while building; by the second run the path is known."""
    profiled(request(out, target(batches=(1,), runs=("time", "energy"))), "oom@build time")
    assert measured(load_recording(out)) == {(1, "energy")}
    assert lacking(load_recording(out)) == {(1, "time"): "out of memory"}


def test_a_self_check_that_crashes_is_told_and_not_repeated(out: Path) -> None:
    _, lines = profiled(request(out), "kill@check")
    recording = load_recording(out)
    assert len(measured(recording)) == 3
    (check,) = recording.sessions[0].self_check
    assert (check.name, check.measured) == ("self-check of time", None)
    assert check.reason == "the worker was killed by SIGKILL"
    assert len([line for line in lines if "starting" in line]) == 2


def test_a_run_whose_self_check_is_refused_is_lacking_as_a_whole(out: Path) -> None:
    log = out.with_name("begun")
    (outcome,), _ = profiled(request(out), "work@check", f"{log}@log")
    assert (outcome.measured, outcome.lacking) == (0, 3)
    assert outcome.reason == "the driver refused"
    assert not out.exists()
    assert not log.exists()


@pytest.mark.parametrize(
    ("trick", "error", "message"),
    [
        ("mistake@build", InputError, "^hidden_size=36: must be"),
        ("work@machine", WorkError, "^the driver refused$"),
        ("torch@machine", WorkError, "^profile needs torch"),
        ("kill@machine", WorkError, "^the worker was killed by SIGKILL$"),
    ],
)
def test_what_no_worker_can_do_ends_it(
    trick: str, error: type[Exception], message: str, out: Path
) -> None:
    with pytest.raises(error, match=message):
        profiled(request(out), trick)
    assert not out.exists()
    assert not list(out.parent.glob(".*"))


def test_a_recording_that_may_not_be_written_starts_no_worker(out: Path) -> None:
    out.write_text("{}")
    with pytest.raises(InputError, match="exists"):
        profiled(request(out), "kill@machine")


def test_resuming_measures_what_is_lacking_and_nothing_else(out: Path) -> None:
    first, again = out.with_name("first"), out.with_name("again")
    wanted = request(out, target(batches=(1, 2)))
    profiled(wanted, "oom@2", f"{first}@log")
    before = run_texts(out)
    more = request(out, target(batches=(1, 2, 3), runs=("time", "energy")), resume=True)
    profiled(more, f"{again}@log")
    after = run_texts(out)
    assert {key: after[key] for key in before} == before
    assert [(line[2], line[3]) for line in begun(again)] == [
        ("time", "2"),
        ("time", "3"),
        ("energy", "1"),
        ("energy", "2"),
        ("energy", "3"),
    ]
    assert lacking(load_recording(out)) == {}
    seeds = {(line[3], line[4]) for line in begun(first) + begun(again)}
    assert len(seeds) == 3  # a case has the same data in every run and every resume


def test_resuming_a_complete_recording_changes_nothing(out: Path) -> None:
    profiled(request(out))
    before = out.read_bytes()
    (outcome,), lines = profiled(request(out, resume=True))
    assert (out.read_bytes(), outcome.measured, outcome.lost, lines) == (before, 3, 0, [])


def test_a_resumed_case_keeps_the_seed_that_it_was_recorded_with(out: Path) -> None:
    log = out.with_name("begun")
    profiled(request(out))
    (seed,) = (case.seed for case in load_recording(out).cases if case.workload == workload(2))
    out.write_text(out.read_text().replace(str(seed), "12345"))
    profiled(request(out, target(runs=("time", "energy")), resume=True), f"{log}@log")
    assert [line[4] for line in begun(log) if line[3] == "2"] == ["12345"]


class Interrupting(ProfileProgress):
    """Ctrl-C when the second case begins."""

    def begin(self, label: str) -> None:
        if "batch=2" in label:
            raise KeyboardInterrupt
        super().begin(label)


def test_ctrl_c_ends_the_worker_and_keeps_what_is_measured(out: Path) -> None:
    log = out.with_name("begun")
    command = (*fake_worker.COMMAND, "hang@2", f"{log}@log")
    with pytest.raises(KeyboardInterrupt):
        run_profile(request(out), Interrupting(), worker_command=command)
    assert measured(load_recording(out)) == {(1, "time")}
    assert not any(Path("/proc", line[0]).exists() for line in begun(log))
    profiled(request(out, resume=True))
    assert len(measured(load_recording(out))) == 3


def test_the_profiler_itself_imports_no_torch() -> None:
    program = "import sys, profiler.cli, profiler.session.worker; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    modules = set(done.stdout.split())
    assert "profiler.session.profile" in modules
    assert not modules & {"torch", "pynvml"}


@pytest.mark.parametrize(
    ("name", "slugged"),
    [
        ("OLMoE-1B-7B", "olmoe-1b-7b"),
        ("Llama 3.1 8B", "llama-3.1-8b"),
        ("../../etc/passwd", "etc-passwd"),
        ("..", "unnamed"),
        (".hidden", "hidden"),
        ("a\u202eb\x00/c", "a-b-c"),
        ("x" * 300, "x" * 80),
    ],
)
def test_a_name_never_leads_out_of_the_folder(name: str, slugged: str) -> None:
    assert slug(name) == slugged
