"""Runs the tests that need a GPU, and keeps what came out beside the measurements.

    python -m benchmarks.gpu_suite OUT.json

Those of the models run in several processes (pytest-xdist), then those of the profiler in one,
since they compare times. Every test is counted, and named where it failed or was skipped.
"""

import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from benchmarks.timing import circumstances

RUNS = {
    "reference_model": ("tests/reference_model", "-n", "10"),
    "profiler": ("tests/profiler",),
}
Result = dict[str, Any]


def run(words: tuple[str, ...], report: Path) -> None:
    """The GPU tests of a folder; pytest writes its report in XML."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider",
               "-p", "no:benchmark", f"--junitxml={report}", *words]  # fmt: skip
    subprocess.run(command, check=False)  # noqa: S603 - our own tests


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
        for name, words in RUNS.items():
            report = Path(folder) / f"{name}.xml"
            run(words, report)
            results[name] = summary(report)
    Path(sys.argv[1]).write_text(json.dumps(results, indent=1))
    print(json.dumps(results, indent=1))  # noqa: T201 - what the run was for


if __name__ == "__main__":
    main()
