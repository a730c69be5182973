"""Hardware counters of a command's kernels through `ncu`, where CUPTI is refused in process.

ncu (NVIDIA Nsight Compute) runs the command, and every kernel between its calls of
`cudaProfilerStart` and `cudaProfilerStop` (torch.cuda.profiler.start, .stop) several times, saving
and restoring memory in between. Clocks and caches are left alone. The kernels of a CUDA graph are
counted one by one.

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
# ncu's words for the failures that a user can act upon.
COMPLAINTS: tuple[tuple[str, type[CounterError], str], ...] = (
    ("ERR_NVGPUCTRPERM", PermissionRefusedError, PERMISSION_ADVICE),
    ("driver resource was unavailable", CountersBusyError, BUSY_ADVICE),
    ("Failed to find metric", UnknownMetricError, "this chip or ncu has no such metric"),
)
ABSENT = {"", "n/a", "(!) n/a", "nan"}
# A comma only between thousands: "9,00" is a decimal comma, and must not become 900.
NUMBER = re.compile(r"(\d+|\d{1,3}(,\d{3})+)(\.\d+)?([eE][+-]?\d+)?")
BYTES = {"byte": 1.0, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9, "Tbyte": 1e12}
TIMES = {"ns": 1.0, "nsecond": 1.0, "us": 1e3, "usecond": 1e3, "ms": 1e6, "msecond": 1e6}
SECONDS = {"s": 1e9, "second": 1e9}
UNITS = BYTES | TIMES | SECONDS  # to bytes and nanoseconds; other units are never scaled
TAIL = 300  # characters of the command's last words that a message repeats


class NcuTimeoutError(CounterError):
    """ncu and the command did not end in time, and were ended."""


class NcuFailedError(CounterError):
    """ncu, or the command under it, failed."""


class NcuOutputError(CounterError):
    """ncu printed something that cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One launch: the value of each metric (bytes, nanoseconds), None where ncu has none."""

    name: str
    values: dict[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class NcuProfile:
    """The kernels of a command in the order of their launch."""

    kernels: tuple[Kernel, ...]

    def total(self, metric: str) -> float | None:
        """The sum over all kernels; None where one of them has no value."""
        values = [kernel.values[metric] for kernel in self.kernels]
        known = [value for value in values if value is not None]
        return sum(known) if len(known) == len(values) else None


def profile_command(
    command: Sequence[str], *, metrics: Sequence[str], timeout_s: float
) -> NcuProfile:
    """Runs the command under ncu, and gives the metrics of each kernel it profiled.

    Raises:
        CounterError: ncu is not on the PATH, was refused the counters, failed, took too long,
            profiled no kernel, or printed something that cannot be read.
    """
    ncu = shutil.which("ncu")
    if ncu is None:
        raise CountersUnavailableError("ncu (NVIDIA Nsight Compute) is not on the PATH")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "ncu.csv"
        asked = ("--metrics", ",".join(metrics), "--log-file", str(log))
        code, words = _run((ncu, *OPTIONS, *asked, *command), timeout_s=timeout_s)
        text = log.read_text(errors="replace") if log.exists() else ""
    for line in (*text.splitlines(), *words.splitlines()):
        for phrase, kind, reason in COMPLAINTS:
            if line.startswith("==ERROR==") and phrase in line:
                raise kind(f"ncu: {line.removeprefix('==ERROR==').strip()}: {reason}")
    errors = [line for line in text.splitlines() if line.startswith("==ERROR==")]
    if code or errors:
        said = " ".join([*errors, words[-TAIL:].strip()])
        raise NcuFailedError(f"ncu ended with exit code {code}: {said}")
    return NcuProfile(kernels=parse_csv(text, metrics))


def parse_csv(text: str, metrics: Sequence[str]) -> tuple[Kernel, ...]:
    """The kernels in ncu's output, whose other lines begin with `==`.

    Raises:
        NcuOutputError: It holds no kernel, lacks a metric, or has a value that is no number.
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
        Kernel(
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
    """Exit code and output; whatever interrupts it, ncu and its children end."""
    with subprocess.Popen(  # noqa: S603 - our own command, no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "LC_ALL": "C.UTF-8"},  # other locales print decimal commas
        start_new_session=True,
        text=True,
        errors="replace",
    ) as process:
        try:
            words, _ = process.communicate(timeout=timeout_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)  # not reaped yet, so the id is still theirs
            if isinstance(error, subprocess.TimeoutExpired):
                raise NcuTimeoutError(f"ncu took longer than {timeout_s:g} s") from None
            raise
    return process.returncode, words
