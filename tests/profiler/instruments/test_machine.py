"""Machine, commit and time as recordings state them: all that is needed, and nobody's name."""

import dataclasses
import getpass
import re
import shutil
import socket
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pydantic import TypeAdapter

from costmodel.errors import InputError
from costmodel.recordings.machine import Commit, Moment
from profiler.instruments import machine as room
from profiler.instruments.machine import commit, machine, now, processor
from profiler.instruments.nvml import NvmlGpu
from tests.profiler.instruments.fake_nvml import NOT_SUPPORTED, FakeNvml

H200 = SimpleNamespace(
    name="NVIDIA H200",
    total_memory=150_110_011_392,
    L2_cache_size=62_914_560,
    multi_processor_count=132,
)


@pytest.fixture(autouse=True)
def without_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARSECOST_COMMIT", raising=False)


def git(folder: Path, *arguments: str) -> str:
    program = shutil.which("git")
    assert program is not None
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    done = subprocess.run(
        [program, "-C", str(folder), *identity, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "profiler").mkdir()
    (tmp_path / "profiler" / "nvml.py").write_text("a = 1\n")
    (tmp_path / "recordings").mkdir()
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_this_processor_is_described_without_gpu_fields() -> None:
    described = machine("cpu")
    assert (described.device, described.torch, described.threads) == (
        "cpu",
        torch.__version__,
        torch.get_num_threads(),
    )
    kib = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    assert kib is not None
    assert described.memory_bytes == int(kib[1]) * 1024
    gpu_fields = ("cuda", "driver", "triton", "l2_bytes", "multiprocessors", "power_limit_w")
    assert {getattr(described, name) for name in (*gpu_fields, "hbm_bytes_per_s")} == {None}


def test_an_h200_is_described_by_torch_and_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: H200)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    described = machine("cuda", NvmlGpu(FakeNvml(), "handle", frozenset()))
    assert (described.device, described.name, described.memory_bytes) == (
        "cuda",
        "NVIDIA H200",
        150_110_011_392,
    )
    assert (described.cuda, described.driver, described.threads) == ("13.0", "580.159.04", None)
    assert (described.l2_bytes, described.multiprocessors) == (62_914_560, 132)
    assert described.power_limit_w == pytest.approx(700.0)
    assert described.hbm_bytes_per_s == 4_814_304_000_000


def test_what_nvml_does_not_say_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: H200)
    nvml = FakeNvml()
    nvml.failing["nvmlDeviceGetEnforcedPowerLimit"] = NOT_SUPPORTED
    assert machine("cuda", NvmlGpu(nvml, "handle", frozenset())).power_limit_w is None
    without = machine("cuda")
    assert (without.driver, without.power_limit_w, without.hbm_bytes_per_s) == (None, None, None)
    assert without.l2_bytes == 62_914_560


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor\t: 0\nmodel name\t: Intel(R) Xeon(R)  8481C\nmodel name : no", None),
        ("model name\t: AMD EPYC\u2122 9\n", "AMD EPYC 9"),
        ("CPU implementer : 0x41\n", "aarch64"),
    ],
)
def test_a_processor_is_called_by_its_model_or_its_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str | None
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(room, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert processor() == (name or "Intel(R) Xeon(R) 8481C")
    monkeypatch.setattr(room, "CPU_INFO", tmp_path / "none")
    assert processor() == "aarch64"


def test_no_field_tells_who_or_where() -> None:
    words = " ".join(str(value) for value in dataclasses.asdict(machine("cpu")).values())
    assert socket.gethostname() not in words
    assert getpass.getuser() not in words.split()
    assert str(Path.home()) not in words


def test_the_commit_is_the_checkouts(checkout: Path) -> None:
    assert commit(checkout) == git(checkout, "rev-parse", "HEAD")


@pytest.mark.parametrize("name", ["nvml.py", "new.py"])
def test_code_that_differs_shows(checkout: Path, name: str) -> None:
    (checkout / "profiler" / name).write_text("a = 2\n")
    assert commit(checkout) == git(checkout, "rev-parse", "HEAD") + "+changes"


def test_a_recording_being_written_is_no_change_of_the_code(checkout: Path) -> None:
    (checkout / "recordings" / "a.json").write_text("{}")
    assert commit(checkout) == git(checkout, "rev-parse", "HEAD")


def test_a_copy_inside_another_repository_has_no_commit(checkout: Path) -> None:
    installed = checkout / "site-packages"
    (installed / "profiler").mkdir(parents=True)
    (installed / "profiler" / "nvml.py").write_text("a = 1\n")
    assert commit(installed) is None


def test_without_a_checkout_or_without_git_there_is_no_commit(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert commit(tmp_path / "elsewhere") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit(checkout) is None


def test_a_repository_before_its_first_commit_has_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "profiler").mkdir()
    (tmp_path / "profiler" / "nvml.py").write_text("a = 1\n")
    git(tmp_path, "add", ".")
    assert commit(tmp_path) is None


@pytest.mark.parametrize("told", ["80e8eb6", "80e8eb6+changes", "0" * 40])
def test_a_copy_without_git_may_be_told_its_commit(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    monkeypatch.setenv("SPARSECOST_COMMIT", told)
    assert commit(checkout) == told


@pytest.mark.parametrize("told", ["main", "80e8eb", "80E8EB6", "80e8eb6+", "80e8eb6\n"])
def test_what_is_no_commit_is_refused(monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    monkeypatch.setenv("SPARSECOST_COMMIT", told)
    with pytest.raises(InputError, match=r"SPARSECOST_COMMIT=.*hexadecimal"):
        commit()


def test_commit_and_moment_are_what_the_schema_takes() -> None:
    TypeAdapter(Moment).validate_python(now())
    here = commit()
    if here is not None:
        TypeAdapter(Commit).validate_python(here)
