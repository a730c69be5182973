"""Two layer kinds added by one file in costmodel and one in reference_model each pass everywhere.

A memory layer addressed by a hash (no scores, no top-k), and a sequence mixer with a fixed state in
place of a cache. The files lie in `tests/toy_kinds`; a copy of the project gets them, and
`tests/toy_kinds/checks.py` runs there with nothing else touched.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("costmodel", "reference_model", "profiler", "dashboard", "tests", ".streamlit")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the toys' files among its own."""
    folder = tmp_path_factory.mktemp("toy")
    ignored = shutil.ignore_patterns("__pycache__", "data")
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=ignored)
    for file in ("app.py", "pyproject.toml"):
        shutil.copy(ROOT / file, folder / file)
    toys = ROOT / "tests" / "toy_kinds"
    for source in (*toys.glob("costmodel/layers/*.py"), *toys.glob("reference_model/*.py")):
        target = folder / source.relative_to(toys)
        assert not target.exists()
        shutil.copy(source, target)
    return folder


@pytest.mark.slow
def test_toy_kinds_pass_everywhere_with_nothing_else_touched(copy: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-n", "0",
         "tests/toy_kinds/checks.py"],
        cwd=copy, env=os.environ | {"PYTHONPATH": str(copy)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "passed" in done.stdout
