"""Runs the tests that need a GPU, and keeps what came out beside the measurements.

    python -m benchmarks.gpu_suite OUT.json

One process for each folder: those of the models at once, then those of the profiler alone, since
they compare times. Every test is counted, and named where it failed or was skipped.
"""

import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from benchmarks.timing import circumstances

AT_ONCE = ("tests/reference_model/fused", "tests/reference_model/test_gpu.py",
           "tests/reference_model/test_generate.py")  # fmt: skip
ALONE = ("tests/profiler",)
Result = dict[str, Any]


def started(folder: str, report: Path) -> subprocess.Popen[bytes]:
    """The GPU tests of a folder or file; pytest writes its report in XML."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider",
               "-p", "no:benchmark", f"--junitxml={report}", folder]  # fmt: skip
    return subprocess.Popen(command)  # noqa: S603 - our own tests


def summary(report: Path) -> Result:
    """Counts and seconds of a report; what failed or was skipped, with the reason."""
    cases = list(ET.parse(report).iter("testcase"))  # noqa: S314 - written by pytest
    result: Result = {"tests": len(cases), "passed": 0, "skipped": {}, "failed": {}}
    for case in cases:
        name = f"{case.get('classname')}::{case.get('name')}"
        bad = case.find("failure") if case.find("error") is None else case.find("error")
        skipped = case.find("skipped")
        if bad is not None:
            result["failed"][name] = (bad.get("message") or "")[:200]
        elif skipped is not None:
            result["skipped"][name] = (skipped.get("message") or "")[:200]
        else:
            result["passed"] += 1
    result["seconds"] = round(sum(float(case.get("time", 0)) for case in cases), 1)
    return result


def main() -> None:
    """Run, count, write."""
    results: Result = {"circumstances": circumstances()}
    with tempfile.TemporaryDirectory() as folder:
        reports = {name: Path(folder) / f"{number}.xml" for number, name in enumerate(AT_ONCE)}
        for process in [started(name, report) for name, report in reports.items()]:
            process.wait()
        for name in ALONE:
            reports[name] = Path(folder) / "alone.xml"
            started(name, reports[name]).wait()
        results |= {name: summary(report) for name, report in reports.items()}
    Path(sys.argv[1]).write_text(json.dumps(results, indent=1))
    print(json.dumps(results, indent=1))  # noqa: T201 - what the run was for


if __name__ == "__main__":
    main()
