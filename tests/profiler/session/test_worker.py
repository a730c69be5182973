"""The worker's side of the conversation, on streams in memory and as a process."""

import builtins
import gc
import io
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import pytest

import costmodel
from costmodel.errors import InputError, install_command
from costmodel.inputs.workload import Backend
from profiler.session.child import WORKER
from profiler.session.plan import case_seed
from profiler.session.protocol import (
    Began,
    Broken,
    Building,
    CaseJob,
    Checked,
    DeviceChoice,
    Done,
    End,
    Event,
    Hello,
    Lacking,
    ModelJob,
    Paths,
    Refused,
    Setup,
    Work,
    decoded,
    decoded_event,
    encoded,
)
from profiler.session.tools import TorchTools
from profiler.session.worker import Worker
from tests.profiler.session import fake_worker
from tests.profiler.session.fake_worker import FakeTools
from tests.profiler.session.profiles import workload
from tests.steps import tiny_model


@pytest.fixture(autouse=True)
def _quick_collections() -> Iterator[None]:
    """A worker collects garbage after each case: not all that the tests have loaded, each time."""
    gc.freeze()
    yield
    gc.unfreeze()


def orders(
    batches: Sequence[int] = (1, 2),
    *,
    device: DeviceChoice = "auto",
    models: int = 1,
    check: bool = True,
    backend: Backend = "torch",
) -> bytes:
    asked = tuple(CaseJob(workload=workload(b), seed=case_seed(workload(b))) for b in batches)
    jobs = tuple(
        ModelJob(model=tiny_model(name=f"m{i}"), backend=backend, cases=asked)
        for i in range(models)
    )
    setup = Setup(run="time", device=device, self_check=check)
    return encoded(setup) + encoded(Work(dtype="bf16", weights_seed=0, jobs=jobs))


def served(said: bytes, *tricks: str) -> tuple[int, list[Event]]:
    """The exit status and the events after the greeting."""
    events = io.BytesIO()
    status = Worker(FakeTools(*tricks), io.BytesIO(said), events).serve()
    return status, [decoded_event(line) for line in events.getvalue().splitlines()]


def kinds(events: Sequence[Event]) -> list[str]:
    return [event.kind for event in events]


def test_all_goes_well() -> None:
    status, events = served(orders(models=2))
    assert status == 0
    hello, checked, *rest = events
    assert isinstance(hello, Hello)
    assert (hello.machine.name, hello.version) == ("NVIDIA Fake 1", costmodel.__version__)
    assert hello.unmeasurable == {}
    assert isinstance(checked, Checked)
    assert [check.name for check in checked.checks] == ["time: copy"]
    case = ["began", "done"]
    assert kinds(rest) == ["building", "paths", *case, *case] * 2 + ["end"]
    assert rest[:3] == [
        Building(job=0),
        Paths(job=0, paths=("embed", "head")),
        Began(job=0, case=0),
    ]
    assert isinstance(rest[3], Done)
    assert (rest[3].job, rest[3].case, list(rest[3].result.step)) == (0, 0, ["eager_s"])


def test_what_runs_on_another_backend_may_have_regions_and_says_whose_kernels_ran() -> None:
    _, events = served(orders((1,), backend="fused"))
    (paths,) = (event for event in events if isinstance(event, Paths))
    assert paths.paths == ("embed", "head", "{embed,head}")
    (done,) = (event for event in events if isinstance(event, Done))
    assert done.result.backend == "fused"


def test_a_self_check_is_made_when_it_is_asked_for() -> None:
    assert served(orders(check=False))[1][1] == Checked(checks=(), unmeasurable=None)


def test_without_work_it_ends() -> None:
    setup = orders().splitlines(keepends=True)[0]
    status, events = served(setup)
    assert (status, kinds(events)) == (0, ["hello", "checked"])


def test_a_cpu_says_at_once_what_no_run_can_have() -> None:
    _, (hello, *_) = served(orders(device="cpu"))
    assert isinstance(hello, Hello)
    reason = "not measured (no NVIDIA GPU)"
    assert hello.unmeasurable == {"trace": reason, "counters": reason, "energy": reason}


@pytest.mark.parametrize(
    ("trick", "reason"),
    [
        ("oom", "out of memory"),
        ("unfit", "does not fit: by the prediction"),
        ("work", "the driver refused"),
    ],
)
def test_what_cannot_be_measured_is_told_and_left(trick: str, reason: str) -> None:
    status, events = served(orders((1, 2)), f"{trick}@1")
    assert status == 0
    assert kinds(events[4:]) == ["began", "lacking", "began", "done", "end"]
    assert events[5] == Lacking(job=0, case=0, reason=reason)
    status, events = served(orders((1, 2), models=2), f"{trick}@build m0")
    assert status == 0
    assert events[3:5] == [Lacking(job=0, case=case, reason=reason) for case in (0, 1)]
    assert kinds(events[5:7]) == ["building", "paths"]


@pytest.mark.parametrize(
    ("trick", "reason"),
    [
        ("cuda", "RuntimeError: CUDA error: an illegal memory access"),
        ("lost", "DeviceLostError: the GPU is gone"),
    ],
)
def test_an_error_that_may_have_cost_the_device_ends_it(
    trick: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for moment in ("1", "build", "check"):
        status, events = served(orders(), f"{trick}@{moment}")
        assert status == 1
        assert events[-1] == Broken(reason=reason)
        assert "Traceback" in capsys.readouterr().err


def test_a_self_check_that_is_refused_says_so_of_the_whole_run() -> None:
    _, events = served(orders(), "work@check")
    assert events[1] == Checked(checks=(), unmeasurable="the driver refused")


@pytest.mark.parametrize(
    ("trick", "mistake", "message"),
    [
        ("mistake@build", True, "hidden_size=36: must be a multiple of 8"),
        ("work@machine", False, "the driver refused"),
        (
            "torch@machine",
            False,
            f"profile needs torch; install it with: {install_command('gpu')}",
        ),
    ],
)
def test_what_no_other_worker_could_do_is_refused(trick: str, mistake: bool, message: str) -> None:  # noqa: FBT001
    status, events = served(orders(), trick)
    assert (status, events[-1]) == (1, Refused(mistake=mistake, message=message))


def test_torch_itself_says_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from profiler.runs.bench import DoesNotFit

    skip_reason = TorchTools().skip_reason
    assert skip_reason(DoesNotFit("does not fit: no")) == "does not fit: no"
    told = skip_reason(torch.OutOfMemoryError("CUDA out of memory. Tried.\nmore"))
    assert told == "out of memory: OutOfMemoryError: CUDA out of memory. Tried."
    on_cpu = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")
    assert str(skip_reason(on_cpu)).startswith("out of memory: RuntimeError: [enforce fail]")
    assert skip_reason(NotImplementedError("no kernel")) == "NotImplementedError: no kernel"
    assert skip_reason(RuntimeError("CUDA error: misaligned address")) is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert TorchTools().machine("auto").device == "cpu"
    with pytest.raises(RuntimeError, match=r"^device=cuda: torch .* finds no GPU"):
        TorchTools().machine("cuda")


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(
        name: str,
        globals_: Mapping[str, object] | None = None,
        locals_: Mapping[str, object] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name, globals_, locals_, fromlist, level)

    monkeypatch.setattr(builtins, "__import__", without)
    events = io.BytesIO()
    assert Worker(TorchTools(), io.BytesIO(orders()), events).serve() == 1
    (refused,) = map(decoded_event, events.getvalue().splitlines())
    assert isinstance(refused, Refused)
    assert refused.message.startswith("profile needs torch")


def test_what_libraries_print_is_no_event() -> None:
    done = subprocess.run(
        [*fake_worker.COMMAND, "print@1"], input=orders((1,)), capture_output=True, check=True
    )
    assert kinds([decoded_event(line) for line in done.stdout.splitlines()])[-2:] == ["done", "end"]
    assert b"a library prints this" in done.stderr
    assert b"and so does a program it starts" in done.stderr


def test_the_real_one_starts_from_any_folder(tmp_path: Path) -> None:
    """A file of the user's that is called like a module of ours, or Python's, is not run."""
    (tmp_path / "json.py").write_text("raise SystemExit('mine')")
    done = subprocess.run(WORKER, input=b"", capture_output=True, cwd=tmp_path, check=False)
    (refused,) = map(decoded_event, done.stdout.splitlines())
    assert isinstance(refused, Refused)
    assert "is no JSON" in refused.message


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[]",
        b"\xff\n",
        b'{"kind":"end","more":1}',
        b'{"kind":"began","job":-1,"case":0}',
        b'{"kind":"began","job":0}',
        b'{"kind":"done","job":0,"case":NaN}',
        b'{"kind":"lacking","job":0,"case":0,"reason":""}',
        b'{"kind":"paths","job":0,"paths":[]}',
        b'{"kind":"paths","job":0,"paths":["../x"]}',
        b"[" * 100_000,
    ],
)
def test_a_line_that_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(InputError):
        decoded_event(line)


def test_a_model_comes_through_as_it_was() -> None:
    work = Work(
        dtype="fp32",
        weights_seed=3,
        jobs=(ModelJob(model=tiny_model(), backend="fused", cases=()),),
    )
    assert decoded(Work, encoded(work)) == work
    assert End() == decoded_event(encoded(End()))
