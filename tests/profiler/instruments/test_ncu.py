"""ncu's output read, its failures told: canned output of its format, and a fake ncu on the PATH."""

import itertools
import json
import os
import sys
import time
from pathlib import Path

import pytest

from profiler.instruments.cupti import (
    CounterError,
    CountersBusyError,
    CountersUnavailableError,
    PermissionRefusedError,
    UnknownMetricError,
)
from profiler.instruments.ncu import (
    NcuFailedError,
    NcuOutputError,
    NcuTimeoutError,
    parse_csv,
    profile_command,
)

READ, TIME = "dram__bytes_read.sum", "gpu__time_duration.sum"
FLOPS = "sm__ops_path_tensor_src_bf16_dst_fp32.sum"
METRICS = (READ, TIME, FLOPS)
CSV = (
    "==PROF== Connected to process 1234 (/usr/bin/python3.12)\n"
    '==PROF== Profiling "gemm" - 0: 0%....50%....100% - 1 pass\n'
    "==PROF== Disconnected from process 1234\n"
    '"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size",'
    f'"Grid Size","Device","CC","{READ}","{TIME}","{FLOPS}"\n'
    '"","","","","","","","","","","","byte","ns",""\n'
    '"0","1234","python3.12","127.0.0.1","void gemm<int, ""x"">(T1)","1","7","(128, 1, 1)",'
    '"(80, 1, 1)","0","9.0","2,000,000,128","12,345.50","137,438,953,472"\n'
    '"1","1234","python3.12","127.0.0.1","copy","1","7","(256, 1, 1)","(1, 1, 1)","0","9.0",'
    '"4096","800","0"\n'
)
PERMISSION = (
    "==PROF== Connected to process 1234 (/usr/bin/python3.12)\n"
    "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU"
    " Performance Counters on the target device 0. For instructions on enabling permissions and to"
    " get more information see https://developer.nvidia.com/ERR_NVGPUCTRPERM\n"
    "==PROF== Disconnected from process 1234\n"
)
BUSY = (
    "==ERROR== Profiling failed because a driver resource was unavailable. Ensure that no other"
    " tool (like DCGM) is concurrently collecting profiling data.\n"
    "==WARNING== No kernels were profiled.\n"
)
NO_METRIC = "==ERROR== Failed to find metric regex:^nope(\\.(sum|avg|min|max))?$\n"
CRASHED = CSV + "==ERROR== The application returned an error code (1).\n"
NO_KERNEL = (
    "==PROF== Disconnected from process 1\n"
    "==WARNING== No kernels were profiled.\nAvailable Kernels:\n1. gemm(float, int)\n"
)


def put_ncu(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """An `ncu` that knows `log`, the file it shall write, and `command`, what it shall run."""
    script = folder / "ncu"
    script.write_text(
        f"#!{sys.executable}\n"
        "import json, os, subprocess, sys, time\n"
        "from pathlib import Path\n"
        "log = Path(sys.argv[sys.argv.index('--log-file') + 1])\n"
        "command = sys.argv[sys.argv.index('--log-file') + 2:]\n" + "\n".join(lines) + "\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


@pytest.fixture
def failing_ncu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: str, code: int) -> None:
    lines = (f"log.write_text({log!r})", "print('last words')", f"sys.exit({code})")
    put_ncu(tmp_path, monkeypatch, *lines)


def test_kernels_stand_in_launch_order_with_their_values() -> None:
    gemm, copy = parse_csv(CSV, METRICS)
    assert gemm.name == 'void gemm<int, "x">(T1)'
    assert gemm.values == {READ: 2_000_000_128, TIME: 12_345.5, FLOPS: 137_438_953_472}
    assert copy.name == "copy"
    assert copy.values == {READ: 4096, TIME: 800, FLOPS: 0}


@pytest.mark.parametrize(
    ("unit", "factor"), [("Kbyte", 1e3), ("Mbyte", 1e6), ("Gbyte", 1e9), ("byte", 1)]
)
def test_units_of_the_second_row_are_taken_to_base_units(unit: str, factor: float) -> None:
    _, copy = parse_csv(CSV.replace('"byte"', f'"{unit}"'), METRICS)
    assert copy.values[READ] == 4096 * factor


@pytest.mark.parametrize(
    ("unit", "factor"), [("us", 1e3), ("usecond", 1e3), ("ms", 1e6), ("s", 1e9), ("nsecond", 1)]
)
def test_durations_are_nanoseconds(unit: str, factor: float) -> None:
    _, copy = parse_csv(CSV.replace('"ns"', f'"{unit}"'), METRICS)
    assert copy.values[TIME] == 800 * factor


@pytest.mark.parametrize("absent", ["n/a", "(!) n/a", "", "nan", "N/A"])
def test_what_ncu_does_not_have_is_none_and_not_zero(absent: str) -> None:
    gemm, copy = parse_csv(CSV.replace('"4096"', f'"{absent}"'), METRICS)
    assert copy.values[READ] is None
    assert gemm.values[READ] == 2_000_000_128


@pytest.mark.parametrize("cell", ["9,00", "4.096,5", "12,34,567", "-1", "many", "inf", "1,"])
def test_what_is_no_number_is_refused_instead_of_guessed(cell: str) -> None:
    with pytest.raises(NcuOutputError, match=f"printed '{cell}' for {READ}"):
        parse_csv(CSV.replace('"4096"', f'"{cell}"'), METRICS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no kernel"),
        (NO_KERNEL, "no kernel"),
        (CSV.replace(READ, "other"), f"no column '{READ}'"),
        (CSV.replace('"Kernel Name"', '"Name"'), "no column 'Kernel Name'"),
        (CSV.replace(',"800","0"', ',"800"'), "no row of units and kernels"),
        (CSV.replace('"","","","","","","","","","","","byte","ns",""\n', ""), "no row of units"),
        (CSV[: CSV.index('"0","1234"')], "no row of units and kernels"),
    ],
)
def test_output_of_another_form_is_refused(text: str, words: str) -> None:
    with pytest.raises(NcuOutputError, match=words):
        parse_csv(text, METRICS)


def test_the_command_runs_under_ncu_with_its_options_and_kernels_are_summed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen.json"
    put_ncu(
        tmp_path,
        monkeypatch,
        f"Path({str(seen)!r}).write_text(json.dumps([sys.argv[1:], os.environ['LC_ALL']]))",
        f"log.write_text({CSV!r})",
        "sys.exit(subprocess.call(command))",
    )
    command = [sys.executable, "-c", "print('9 lines of its own', '\"ID\",')"]
    profile = profile_command(command, metrics=METRICS, timeout_s=60)
    assert profile.total(READ) == 2_000_004_224
    assert profile.total(TIME) == 13_145.5
    assert profile.total(FLOPS) == 137_438_953_472
    options, locale = json.loads(seen.read_text())
    assert options[-3:] == command
    assert locale == "C.UTF-8"
    pairs = set(itertools.pairwise(options))
    assert {
        ("--profile-from-start", "off"),
        ("--clock-control", "none"),
        ("--cache-control", "none"),
        ("--replay-mode", "kernel"),
        ("--page", "raw"),
        ("--print-units", "base"),
        ("--metrics", ",".join(METRICS)),
    } <= pairs
    assert "--csv" in options
    assert not Path(options[options.index("--log-file") + 1]).exists()


def test_a_sum_over_an_unknown_value_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_ncu(tmp_path, monkeypatch, f"log.write_text({CSV.replace('4096', 'n/a')!r})")
    profile = profile_command(["true"], metrics=METRICS, timeout_s=60)
    assert profile.total(READ) is None
    assert profile.total(TIME) == 13_145.5


@pytest.mark.parametrize(
    ("log", "code", "kind", "words"),
    [
        (PERMISSION, 1, PermissionRefusedError, "NVreg_RestrictProfilingToAdminUsers=0"),
        (PERMISSION, 0, PermissionRefusedError, "ERR_NVGPUCTRPERM"),
        (BUSY, 1, CountersBusyError, "DCGM"),
        (NO_METRIC, 1, UnknownMetricError, "nope"),
        (CRASHED, 0, NcuFailedError, r"error code \(1\)"),
        (CSV, 3, NcuFailedError, "exit code 3.*last words"),
        (NO_KERNEL, 0, NcuOutputError, "no kernel"),
    ],
)
@pytest.mark.usefixtures("failing_ncu")
def test_each_failure_of_ncu_has_its_error_and_reason(
    log: str, code: int, kind: type[CounterError], words: str
) -> None:
    del log, code  # they are the fixture's
    with pytest.raises(kind, match=words) as caught:
        profile_command(["true"], metrics=METRICS, timeout_s=60)
    assert type(caught.value) is kind


def test_an_error_that_ncu_prints_before_it_opens_its_log_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_ncu(tmp_path, monkeypatch, f"print({PERMISSION!r})", "sys.exit(1)")
    with pytest.raises(PermissionRefusedError):
        profile_command(["true"], metrics=METRICS, timeout_s=60)


def test_without_ncu_the_reason_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CountersUnavailableError, match="not on the PATH"):
        profile_command(["true"], metrics=METRICS, timeout_s=60)


def test_a_timeout_ends_ncu_and_the_command_under_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = tmp_path / "pid"
    put_ncu(
        tmp_path,
        monkeypatch,
        "child = subprocess.Popen(command)",
        f"Path({str(pid)!r}).write_text(str(child.pid))",
        "child.wait()",
    )
    command = [sys.executable, "-c", "import time; time.sleep(3600)"]
    started = time.monotonic()
    for timeout_s in (2, 20, 200):  # a slow machine may not have started both by then
        with pytest.raises(NcuTimeoutError, match=f"longer than {timeout_s} s"):
            profile_command(command, metrics=METRICS, timeout_s=timeout_s)
        if pid.exists() and pid.read_text():
            break
    assert time.monotonic() - started < 1800, "it waited for the command"
    state = Path(f"/proc/{pid.read_text()}/stat")
    for _ in range(1000):  # the kernel hands a killed orphan to init, which buries it in its time
        if not state.exists() or state.read_text().rsplit(") ", 1)[1][0] == "Z":
            break
        time.sleep(0.1)
    else:
        pytest.fail("the command outlived its ncu")
