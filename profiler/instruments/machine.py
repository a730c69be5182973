"""The machine that measures, the commit of the running code, and the time.

No host name, user, path, UUID or serial number is read.
"""

import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from costmodel.errors import InputError, shown
from costmodel.recordings.machine import Commit, Device, Machine
from profiler.instruments.nvml import NvmlGpu

CPU_INFO = Path("/proc/cpuinfo")
ROOT = Path(__file__).parents[2]  # the checkout, where there is one
CODE = ("costmodel", "reference_model", "profiler")  # changes elsewhere do not count
COMMIT_VARIABLE = "SPARSECOST_COMMIT"
GIT_S = 10.0
LABEL_CHARACTERS = 200


def machine(device: Device, gpu: NvmlGpu | None = None) -> Machine:
    """The machine with `device`; without `gpu` the fields that come from NVML are None.

    Raises:
        NvmlError: The GPU was lost.
    """
    import torch

    if device == "cpu":
        return Machine(
            device="cpu",
            name=processor(),
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            python=platform.python_version(),
            torch=torch.__version__,
            threads=torch.get_num_threads(),
        )
    properties = torch.cuda.get_device_properties(0)
    return Machine(
        device="cuda",
        name=_label(properties.name),
        memory_bytes=properties.total_memory,
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda,
        driver=gpu.driver_version() if gpu else None,
        triton=_version("triton"),
        l2_bytes=properties.L2_cache_size,
        multiprocessors=properties.multi_processor_count,
        power_limit_w=gpu.power_limit_w() if gpu else None,
        hbm_bytes_per_s=gpu.hbm_bytes_per_s() if gpu else None,
    )


def processor() -> str:
    """The processor's model name; its architecture where the system gives no name."""
    try:
        text = CPU_INFO.read_text(errors="replace")
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return _label(named[1] if named else platform.machine())


def commit(root: Path = ROOT) -> str | None:
    """The git commit of the running code, with `+changes` where the code differs from it.

    The variable `SPARSECOST_COMMIT` states it for a copy without git. None where it is unknown.

    Raises:
        InputError: SPARSECOST_COMMIT is no commit.
    """
    stated = os.environ.get(COMMIT_VARIABLE)
    if stated:
        return _validated_commit(stated)
    # A package installed inside another repository must not take that repository's commit.
    head = _git(root, "rev-parse", "HEAD") if _git(root, "ls-files", "--", *CODE) else None
    changes = _git(root, "status", "--porcelain", "--", *CODE)
    return None if head is None or changes is None else head + ("+changes" if changes else "")


def now() -> str:
    """The time in UTC, in the form of a recording's `Moment`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _validated_commit(text: str) -> str:
    try:
        checked: str = TypeAdapter(Commit).validate_python(text)
    except ValidationError:
        raise InputError(
            f"{COMMIT_VARIABLE}={shown(text)}: must be 7 to 40 hexadecimal digits,"
            " and may end in +changes"
        ) from None
    return checked


def _git(root: Path, *arguments: str) -> str | None:
    """The output of git; None without git, or outside a checkout."""
    program = shutil.which("git")
    if program is None:
        return None
    try:
        process = subprocess.run(  # noqa: S603 - git, with our own arguments
            [program, "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=GIT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return process.stdout.strip() if process.returncode == 0 else None


def _label(text: str) -> str:
    """The text as a `Label`: printable ASCII in one line."""
    return " ".join(re.sub(r"[^ -~]", " ", text).split())[:LABEL_CHARACTERS]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
