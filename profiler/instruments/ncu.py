"""Hardware counters of a command's kernels through `ncu`, for processes that may not use CUPTI.

ncu (NVIDIA Nsight Compute) runs the command. It runs each kernel between `cudaProfilerStart` and
`cudaProfilerStop` (torch.cuda.profiler.start, .stop) several times, and restores memory in between.
Clocks and caches are left as they are. The kernels of a CUDA graph are counted one by one.

Source: docs.nvidia.com/nsight-compute/NsightComputeCli, sections "Command Line Options" and
"Console Output": `--page raw --csv` prints a header, a row of units and a row for each kernel.
"""

import csv
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from profiler.instruments.cupti import (
    BUSY_ADVICE,
    PERMISSION_ADVICE,
    CounterError,
    CountersBusyError,
    CountersUnavailableError,
    PermissionRefusedError,
    UnknownMetricError,
)

OPTIONS = (
    *("--profile-from-start", "off"),
    *("--target-processes", "all"),
    *("--clock-control", "none"),
    *("--cache-control", "none"),
    *("--replay-mode", "kernel"),
    *("--page", "raw"),
    *("--print-units", "base"),
    "--csv",
)
# ncu's messages for failures that users can do something about
COMPLAINTS: tuple[tuple[str, type[CounterError], str], ...] = (
    ("ERR_NVGPUCTRPERM", PermissionRefusedError, PERMISSION_ADVICE),
    ("driver resource was unavailable", CountersBusyError, BUSY_ADVICE),
    ("Failed to find metric", UnknownMetricError, "this chip or ncu has no such metric"),
)
ABSENT = {"", "n/a", "(!) n/a", "nan"}
# A comma stands between thousands only: "9,00" has a decimal comma and must not become 900
NUMBER = re.compile(r"(\d+|\d{1,3}(,\d{3})+)(\.\d+)?([eE][+-]?\d+)?")
BYTES = {"byte": 1.0, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9, "Tbyte": 1e12}
TIMES = {"ns": 1.0, "nsecond": 1.0, "us": 1e3, "usecond": 1e3, "ms": 1e6, "msecond": 1e6}
SECONDS = {"s": 1e9, "second": 1e9}
UNITS = BYTES | TIMES | SECONDS  # to bytes and nanoseconds; other units are never scaled
TAIL = 300  # last characters of the command's output that a message repeats


class NcuTimeoutError(CounterError):
    """ncu and the command did not end in time and were killed."""


class NcuFailedError(CounterError):
    """ncu or its command failed."""


class NcuOutputError(CounterError):
    """The output of ncu cannot be parsed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelMetrics:
    """One launch: its kernel's name, and each metric's value (in bytes, nanoseconds) or None."""

    name: str
    values: dict[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class NcuProfile:
    """The kernels of a command, in the order of their launches."""

    kernels: tuple[KernelMetrics, ...]

    def total(self, metric: str) -> float | None:
        """The sum of a metric over all kernels; None where one of them has no value."""
        values = [kernel.values[metric] for kernel in self.kernels]
        known = [value for value in values if value is not None]
        return sum(known) if len(known) == len(values) else None


def profile_command(
    command: Sequence[str], *, metrics: Sequence[str], timeout_s: float
) -> NcuProfile:
    """Run the command under ncu; the metrics of each kernel that ncu counted.

    Raises:
        CounterError: ncu is not on the PATH, was refused the counters, failed, took too long,
            counted no kernel, or printed output that cannot be parsed.
    """
    ncu = shutil.which("ncu")
    if ncu is None:
        raise CountersUnavailableError("ncu (NVIDIA Nsight Compute) is not on the PATH")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "ncu.csv"
        files = ("--metrics", ",".join(metrics), "--log-file", str(log))
        code, output = _run((ncu, *OPTIONS, *files, *command), timeout_s=timeout_s)
        text = log.read_text(errors="replace") if log.exists() else ""
    for line in (*text.splitlines(), *output.splitlines()):
        for phrase, kind, reason in COMPLAINTS:
            if line.startswith("==ERROR==") and phrase in line:
                raise kind(f"ncu: {line.removeprefix('==ERROR==').strip()}: {reason}")
    errors = [line for line in text.splitlines() if line.startswith("==ERROR==")]
    if code or errors:
        messages = " ".join([*errors, output[-TAIL:].strip()])
        raise NcuFailedError(f"ncu ended with exit code {code}: {messages}")
    return NcuProfile(kernels=parse_csv(text, metrics))


def parse_csv(text: str, metrics: Sequence[str]) -> tuple[KernelMetrics, ...]:
    """The kernels in the CSV that ncu prints; its other lines begin with `==`.

    Raises:
        NcuOutputError: The text holds no kernel, lacks a metric, or has a value that is no number.
    """
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if line.startswith('"ID",')), None)
    if start is None:
        raise NcuOutputError("ncu profiled no kernel between profiler start and stop")
    header, *rows = csv.reader(line for line in lines[start:] if line.startswith('"'))
    missing = [name for name in ("Kernel Name", *metrics) if name not in header]
    if missing:
        raise NcuOutputError(f"ncu printed no column {missing[0]!r}")
    broken = [row for row in rows if len(row) != len(header)]
    if broken or len(rows) < 2 or rows[0][0]:  # noqa: PLR2004 - units and one kernel
        raise NcuOutputError("ncu printed no row of units and kernels under its header")
    units = dict(zip(header, rows[0], strict=True))
    kernels = [dict(zip(header, row, strict=True)) for row in rows[1:]]
    return tuple(
        KernelMetrics(
            name=cells["Kernel Name"],
            values={name: _value(name, cells[name], units[name]) for name in metrics},
        )
        for cells in kernels
    )


def _value(metric: str, cell: str, unit: str) -> float | None:
    if cell.strip().lower() in ABSENT:
        return None
    if not NUMBER.fullmatch(cell.strip()):
        raise NcuOutputError(f"ncu printed {cell!r} for {metric}, which is no number")
    return float(cell.replace(",", "")) * UNITS.get(unit, 1.0)


def _run(command: Sequence[str], *, timeout_s: float) -> tuple[int, str]:
    """The exit code and output of a command; on any interruption all its processes are killed."""
    with subprocess.Popen(  # noqa: S603 - our own command, no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "LC_ALL": "C.UTF-8"},  # other locales may print decimal commas
        start_new_session=True,
        text=True,
        errors="replace",
    ) as process:
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)  # not reaped yet, so the id is not reused
            if isinstance(error, subprocess.TimeoutExpired):
                raise NcuTimeoutError(f"ncu took longer than {timeout_s:g} s") from None
            raise
    return process.returncode, output
