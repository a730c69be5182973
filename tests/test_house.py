"""The house itself: a light import, one version, one test command, and the papers in place."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import costmodel

ROOT = Path(__file__).parents[1]
HEAVY = {"pandas", "plotly", "pyarrow", "streamlit", "torch"}


def fenced_commands(markdown: str) -> list[str]:
    """The lines of the shell blocks, without prompt and trailing comment."""
    blocks = re.findall(r"(?ms)^```(?:bash|console|sh|shell)\n(.*?)^```", markdown)
    return [
        re.sub(r"\s+#.*", "", line).removeprefix("$ ").strip()
        for block in blocks
        for line in block.splitlines()
    ]


def test_importing_the_core_imports_nothing_heavy() -> None:
    program = "import sys, costmodel, costmodel.cli.app; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    modules = set(done.stdout.split())
    assert "costmodel.cli.app" in modules
    assert not HEAVY & modules


def test_ci_runs_the_test_command_of_the_readme() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    *setting, command = [line for line in lines if line and not line.startswith("#")]
    assert setting == ["set -euo pipefail", 'cd "$(dirname "$0")/.."']
    assert command == "make test"
    assert command in fenced_commands((ROOT / "README.md").read_text())


def test_licence_changelog_and_type_marker_are_in_place() -> None:
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()
    assert (ROOT / "costmodel" / "py.typed").exists()


def test_the_version_stands_in_one_place() -> None:
    assert costmodel.__version__ == importlib.metadata.version("sparsecost")
