"""A recording on disk: whole after each run, never overwritten by mistake, of one writer."""

import fcntl
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from costmodel.errors import InputError, WorkError
from costmodel.inputs.workload import Backend
from costmodel.recordings.machine import Conditions, Machine
from costmodel.recordings.measured import Exact, ExactColumn, Measured
from costmodel.recordings.recording import Check, RunResult, Session, load_recording, recording_text
from profiler.session import store as store_module
from profiler.session.store import RecordingStore
from tests.profiler.session.profiles import workload
from tests.steps import tiny_model

PATHS = ("embed", "head")
MODEL = tiny_model()
MACHINE = Machine(device="cpu", name="a processor", memory_bytes=1, python="3", torch="2")
SESSION = Session(
    started="2026-01-02T03:04:05Z", machine=MACHINE, sparsecost_version="1", commit=None
)
LATER = replace(SESSION, started="2026-01-02T04:00:00Z")
CHECK = Check(name="copy", known=1.0, measured=1.0, tolerance=0.0)


def opened(
    path: Path,
    *,
    resume: bool = False,
    name: str = "tiny",
    weights_seed: int = 0,
    backend: Backend = "torch",
) -> RecordingStore:
    return RecordingStore(
        path,
        model=tiny_model(name=name),
        preset="tiny",
        weights_seed=weights_seed,
        backend=backend,
        resume=resume,
    )


def begun(path: Path, *, resume: bool = False, session: Session = SESSION) -> RecordingStore:
    store = opened(path, resume=resume)
    store.begin(PATHS, session, {workload(): 7})
    return store


def result(flops: int = 3, columns: int = 2) -> RunResult:
    step: dict[str, Measured] = {"flops_counted": Exact(value=flops, source="flop_counter")}
    return RunResult(
        conditions=Conditions(started="2026-01-02T03:04:06Z", warm_up=1),
        step=step,
        operators={"flops_counted": ExactColumn(values=(1,) * columns, source="flop_counter")},
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "folder" / "a.json"


def test_nothing_is_written_before_there_is_something_to_keep(path: Path) -> None:
    with begun(path):
        assert not path.exists()
    assert list(path.parent.iterdir()) == []


def test_each_finished_run_is_on_disk_at_once(path: Path) -> None:
    with begun(path) as store:
        store.add(workload(), 7, "time", result(3), SESSION)
        (case,) = load_recording(path).cases
        assert (case.workload, case.seed, list(case.runs)) == (workload(), 7, ["time"])
        assert case.runs["time"].step["flops_counted"] == Exact(value=3, source="flop_counter")
        store.lack(workload(), 7, "energy", "why")
        (case,) = load_recording(path).cases
        assert (list(case.runs), case.lacking) == (["time"], {"energy": "why"})
    recording = load_recording(path)
    assert path.read_text() == recording_text(recording)
    assert (recording.model, recording.preset, recording.paths) == (MODEL, "tiny", PATHS)
    assert [each.name for each in path.parent.iterdir()] == ["a.json"]


def test_a_run_that_succeeds_later_is_lacking_no_more(path: Path) -> None:
    with begun(path) as store:
        store.lack(workload(), 7, "time", "why")
    with begun(path, resume=True, session=LATER) as store:
        store.add(workload(), 7, "time", result(), LATER)
    (case,) = load_recording(path).cases
    assert (list(case.runs), case.lacking) == (["time"], {})


def test_a_start_of_the_profiler_is_one_session_whose_checks_grow(path: Path) -> None:
    checked = replace(SESSION, self_check=(CHECK,))
    with begun(path) as store:
        store.add(workload(), 7, "time", result(), SESSION)
        store.add(workload(2), 8, "time", result(), checked)
    assert load_recording(path).sessions == (checked,)
    with begun(path, resume=True, session=LATER) as store:
        store.lack(workload(3), 9, "time", "why")
        assert load_recording(path).sessions == (checked,)  # nothing was measured in a second one
        store.add(workload(3), 9, "time", result(), LATER)
        on_other = replace(LATER, machine=replace(MACHINE, torch="3"))
        store.add(workload(4), 9, "time", result(), on_other)
    recording = load_recording(path)
    assert recording.sessions == (checked, LATER, on_other)
    assert [case.runs["time"].session for case in recording.cases] == [0, 0, 1, 2]


def test_a_resumed_recording_keeps_its_bytes(path: Path) -> None:
    with begun(path) as store:
        store.add(workload(), 7, "time", result(), SESSION)
        store.lack(workload(), 7, "energy", "why")
    before = path.read_bytes()
    with begun(path, resume=True, session=LATER) as store:
        assert list(store.cases[workload()].runs) == ["time"]
        store.lack(workload(), 7, "energy", "why")
    assert path.read_bytes() == before


def test_an_existing_recording_is_written_only_to_resume(path: Path) -> None:
    with begun(path) as store:
        store.add(workload(), 7, "time", result(), SESSION)
    with pytest.raises(InputError, match=r"^out='.*a\.json': exists; --resume "):
        opened(path)


@pytest.mark.parametrize(
    ("name", "seed", "message"),
    [("other", 0, "is of another model than 'other'"), ("tiny", 1, "weights_seed=0; weights are")],
)
def test_a_recording_of_something_else_is_refused(
    path: Path, name: str, seed: int, message: str
) -> None:
    with begun(path) as store:
        store.add(workload(), 7, "time", result(), SESSION)
    with pytest.raises(InputError, match=message):
        opened(path, resume=True, name=name, weights_seed=seed)
    assert [each.name for each in path.parent.iterdir()] == ["a.json"]


def test_each_backend_has_a_recording_of_its_own(path: Path) -> None:
    with begun(path) as store:
        store.add(workload(), 7, "time", result(), SESSION)
    message = "holds runs of the backend torch; those of fused need a file of their own"
    with pytest.raises(InputError, match=message):
        opened(path, resume=True, backend="fused")


def test_a_recording_with_other_paths_is_refused(path: Path) -> None:
    with begun(path) as store:
        store.add(workload(), 7, "time", result(), SESSION)
    with opened(path, resume=True) as store, pytest.raises(WorkError, match="other paths"):
        store.begin(("embed", "body", "head"), SESSION, {})


def test_a_file_that_is_no_recording_is_refused_and_kept(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(InputError, match=r"recording 'a\.json': schema_version: is missing"):
        opened(path, resume=True)
    assert path.read_text() == "{}"


def test_what_does_not_go_with_the_recording_leaves_it_as_it_was(path: Path) -> None:
    with begun(path) as store:
        store.add(workload(), 7, "time", result(), SESSION)
        before = path.read_bytes()
        with pytest.raises(InputError, match="holds 3 values; paths hold 2"):
            store.add(workload(2), 7, "time", result(columns=3), SESSION)
        with pytest.raises(InputError, match="is no quantity of this run"):
            store.add(workload(2), 7, "energy", result(), SESSION)
        assert path.read_bytes() == before
        assert set(store.cases) == {workload()}


def test_a_plan_that_no_reader_would_take_is_refused_before_the_first_case(path: Path) -> None:
    plan = {workload(batch): 7 for batch in range(1, 4098)}
    with opened(path) as store, pytest.raises(InputError, match=r"^plan: cases"):
        store.begin(PATHS, SESSION, plan)


def test_a_recording_has_one_writer(path: Path) -> None:
    with begun(path) as store:
        store.add(workload(), 7, "time", result(), SESSION)
        with pytest.raises(WorkError, match="another profiler writes this recording"):
            opened(path, resume=True)
    with opened(path, resume=True):
        pass


def test_what_a_killed_profiler_left_does_not_hold(path: Path) -> None:
    """It left the recording, and the name that a text has for a moment before it replaces one."""
    with begun(path) as store:
        store.add(workload(), 7, "time", result(), SESSION)
    path.with_name(".sparsecost-0123456789abcdef.part").write_text("a whole recording")
    with begun(path, resume=True, session=LATER) as store:
        store.add(workload(2), 7, "time", result(), LATER)
    assert [each.name for each in path.parent.iterdir()] == ["a.json"]


def test_of_two_that_begin_a_recording_the_second_to_finish_is_told(path: Path) -> None:
    with begun(path) as first, begun(path) as second:
        first.add(workload(), 7, "time", result(3), SESSION)
        before = path.read_bytes()
        with pytest.raises(WorkError, match="another profiler has begun this recording meanwhile"):
            second.add(workload(), 7, "time", result(4), SESSION)
        assert path.read_bytes() == before
        first.add(workload(2), 7, "time", result(5), SESSION)
    assert {case.workload for case in load_recording(path).cases} == {workload(), workload(2)}
    assert [each.name for each in path.parent.iterdir()] == ["a.json"]


def test_a_lock_on_a_text_that_was_replaced_meanwhile_is_taken_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder before us writes a new text between our opening and our locking of the old."""
    with begun(path) as store:
        store.add(workload(), 7, "time", result(), SESSION)
    flock, waits = fcntl.flock, iter((True, False))

    def replaced_first(lock: int, how: int) -> None:
        if next(waits):
            newer = path.with_name("newer")
            newer.write_bytes(path.read_bytes())
            newer.replace(path)
        flock(lock, how)

    monkeypatch.setattr(fcntl, "flock", replaced_first)
    with opened(path, resume=True):
        monkeypatch.undo()
        with pytest.raises(WorkError, match="another profiler"):
            opened(path, resume=True)


def test_a_link_and_the_mode_of_a_recording_stay(path: Path) -> None:
    with begun(path) as store:
        store.add(workload(), 7, "time", result(), SESSION)
    path.chmod(0o640)
    link = path.with_name("link.json")
    link.symlink_to("a.json")
    with begun(link, resume=True, session=LATER) as store:
        store.add(workload(2), 7, "time", result(), LATER)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert len(load_recording(path).cases) == 2


def test_a_read_only_recording_is_refused_before_anything_is_measured(path: Path) -> None:
    with begun(path) as store:
        store.add(workload(), 7, "time", result(), SESSION)
    path.chmod(0o444)
    with pytest.raises(InputError, match="the file is read-only"):
        opened(path, resume=True)


def test_a_full_disk_costs_the_case_in_hand_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with begun(path) as store:
        store.add(workload(), 7, "time", result(), SESSION)
        before = path.read_bytes()

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(WorkError, match=r"a\.json': cannot be written: No space left"):
            store.add(workload(2), 7, "time", result(), SESSION)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["a.json"]


def test_a_recording_never_outgrows_its_readers(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_FILE_BYTES", 1000)
    with begun(path) as store, pytest.raises(WorkError, match="no reader takes more than 1,000"):
        store.add(workload(), 7, "time", result(), SESSION)
    assert not path.exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkError, match="cannot be written: "):
        opened(tmp_path / "file" / "a.json")


def test_the_text_is_json_of_the_schema(path: Path) -> None:
    with begun(path) as store:
        store.add(workload(), 7, "time", result(), SESSION)
    text = path.read_text()
    assert json.loads(text)["schema_version"] == 1
    assert text.endswith("}\n")
