"""Every command of the README is run: here, in test_pages.py, or by tests/wheel_smoke.py."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from urllib.request import urlopen

import pytest

from docs.write import CONSOLE, ROOT, commands
from tests.browser.server import serving
from tests.test_house import fenced_commands
from tests.wheel_smoke import INSTALL, WITH_DASHBOARD

README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKE = {"make run": ".venv/bin/sparsecost dashboard --port", "make test": "-m pytest -n auto"}
DASHBOARD = "sparsecost dashboard --port"


def test_every_command_has_a_test_that_runs_it() -> None:
    listed = {command for block in CONSOLE.findall(README) for command in commands(block)}
    others = set(fenced_commands(README)) - listed - {*MAKE, *INSTALL, WITH_DASHBOARD}
    assert [command.rpartition(" ")[0] for command in others] == [DASHBOARD]


def recipe(command: str) -> list[str]:
    """The lines that make would run for a command in a fresh clone."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("needs make")
    done = subprocess.run(
        [make, "-B", "--no-print-directory", "--dry-run", command.removeprefix("make ")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("command", MAKE)
def test_make_knows_the_command(command: str) -> None:
    """Its last line is the one that does the work; CI runs `make test` itself."""
    assert MAKE[command] in recipe(command)[-1]


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("make run", "--editable '.[dashboard]'"),
        ("make test", "--editable '.[dashboard,gpu]' --group dev"),
    ],
)
def test_make_installs_what_the_command_needs_and_no_more(command: str, what: str) -> None:
    installed = [line.partition("--editable") for line in recipe(command) if "--editable" in line]
    assert ["".join(words[1:]) for words in installed] == [what]


def test_the_dashboard_starts_where_it_is_told(tmp_path: Path) -> None:
    with serving(tmp_path) as server, urlopen(f"{server.url}/_stcore/health") as answer:  # noqa: S310 - localhost
        assert answer.status == 200


def test_the_extras_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.findall(r'pip install "sparsecost\[(\w+)\]"', README)
    assert set(extras) == project["optional-dependencies"].keys()
    assert WITH_DASHBOARD in README
