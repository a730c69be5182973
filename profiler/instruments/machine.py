"""What measures: the GPU or processor, driver and libraries, the code's commit, and the time.

Nothing here says who or where: no host name, user, path, UUID or serial number is read.
"""

import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from costmodel.errors import InputError, shown
from costmodel.recordings.machine import Commit, Machine
from profiler.instruments.nvml import Gpu

CPU_INFO = Path("/proc/cpuinfo")
ROOT = Path(__file__).parents[2]  # of the checkout, where there is one
CODE = ("costmodel", "reference_model", "profiler")  # recordings may change, they are no code
COMMIT_VARIABLE = "SPARSECOST_COMMIT"
GIT_S = 10.0
LABEL_CHARACTERS = 200


def machine(device: Literal["cuda", "cpu"], gpu: Gpu | None = None) -> Machine:
    """What measures on `device`; without `gpu` the fields that NVML knows are None.

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
    found = torch.cuda.get_device_properties(0)
    return Machine(
        device="cuda",
        name=_label(found.name),
        memory_bytes=found.total_memory,
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda,
        driver=gpu.driver_version() if gpu else None,
        triton=_version("triton"),
        l2_bytes=found.L2_cache_size,
        multiprocessors=found.multi_processor_count,
        power_limit_w=gpu.power_limit_w() if gpu else None,
        hbm_bytes_per_s=gpu.hbm_bytes_per_s() if gpu else None,
    )


def processor() -> str:
    """The processor's model name; its architecture where the system does not say more."""
    try:
        text = CPU_INFO.read_text(errors="replace")
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return _label(named[1] if named else platform.machine())


def commit(root: Path = ROOT) -> str | None:
    """The commit that the running code was checked out from, `+changes` where the code differs.

    `SPARSECOST_COMMIT` says it for a copy without git. None where nothing does.

    Raises:
        InputError: SPARSECOST_COMMIT is no commit.
    """
    told = os.environ.get(COMMIT_VARIABLE)
    if told:
        return _commit(told)
    # A package installed below somebody else's repository must not take that one's commit.
    head = _git(root, "rev-parse", "HEAD") if _git(root, "ls-files", "--", *CODE) else None
    changes = _git(root, "status", "--porcelain", "--", *CODE)
    return None if head is None or changes is None else head + ("+changes" if changes else "")


def now() -> str:
    """The time in UTC, as recordings write it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _commit(text: str) -> str:
    try:
        found: str = TypeAdapter(Commit).validate_python(text)
    except ValidationError:
        raise InputError(
            f"{COMMIT_VARIABLE}={shown(text)}: must be 7 to 40 hexadecimal digits,"
            " and may end in +changes"
        ) from None
    return found


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints; None where there is no git, or no checkout."""
    program = shutil.which("git")
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - git, with our own arguments
            [program, "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=GIT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _label(text: str) -> str:
    """As `Label` wants it: printable ASCII, in one line."""
    return " ".join(re.sub(r"[^ -~]", " ", text).split())[:LABEL_CHARACTERS]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
