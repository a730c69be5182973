"""The README's commands run, and what it prints is what they print.

A console block with one command shows that command's output; one with several just lists them.
`python -m tests.docs.test_readme` writes the outputs anew. Tables of recordings: `docs.measured`.
"""

import io
import re
import runpy
import shlex
import sys
import tomllib
from contextlib import redirect_stdout, suppress
from importlib.metadata import entry_points
from pathlib import Path
from unittest import mock

import pytest

from costmodel.cli import main as cli
from costmodel.cli.plugins import ENTRY_POINTS
from costmodel.inputs.parse import parse_routing

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"(?ms)^```console\n(.*?)^```$")
NOT_RUN = re.compile(r"(?ms)^```bash\n(.*?)^```$")  # too large for CI, or no command of ours


def blocks() -> list[str]:
    return BLOCK.findall(README.read_text())


def commands(block: str) -> list[str]:
    return [line[2:] for line in block.splitlines() if line.startswith("$ ")]


def printed(command: str) -> str:
    out = io.StringIO()
    argv = mock.patch.object(sys, "argv", shlex.split(command))
    with argv, redirect_stdout(out), suppress(SystemExit):
        cli.main()
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


SHOWN = [block for block in blocks() if len(commands(block)) == 1]
LISTED = sorted({command for block in blocks() for command in commands(block)})
LARGE = [
    re.sub(r"\s+#.*", "", line)
    for block in NOT_RUN.findall(README.read_text())
    for line in block.splitlines()
    if line.startswith("sparsecost ")
]


@pytest.mark.parametrize("command", LISTED)
def test_command_runs(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recordings").symlink_to(README.parent / "recordings")
    text = printed(command)
    assert text or len(list(tmp_path.iterdir())) > 1


@pytest.mark.parametrize("block", SHOWN, ids=lambda block: block.splitlines()[0])
def test_shown_output_is_current(block: str) -> None:
    command, _, output = block.partition("\n")
    assert output == printed(command[2:]), "run: python -m tests.docs.test_readme"


def test_every_command_is_in_the_readme() -> None:
    names = {each.callback.__name__ for each in cli.app.registered_commands if each.callback}
    names |= {entry.name for entry in entry_points(group=ENTRY_POINTS)}
    assert names == {command.split()[1] for command in (*LISTED, *LARGE)}


@pytest.mark.parametrize("command", LARGE)
def test_command_that_is_not_run_has_its_options(command: str) -> None:
    text = printed(f"sparsecost {command.split()[1]} --help")
    for option in re.findall(r"--[a-z-]+", command):
        assert option in text


def test_python_and_toml_examples_work(capsys: pytest.CaptureFixture[str]) -> None:
    from costmodel.inputs.model import model_from_table

    (program,) = re.findall(r"(?ms)^```python\n(.*?)^```", README.read_text())
    exec(compile(program, "README.md", "exec"), {})  # noqa: S102 - our own README
    assert "layers.{0-15}.memory.values" in capsys.readouterr().out
    (table,) = re.findall(r"(?ms)^```toml\n(.*?)^```", README.read_text())
    model = model_from_table(tomllib.loads(table), where="README")
    assert model.attention_groups[0][1] == (0, 2, 4, 6, 8, 10)


def test_histogram_example_is_read(tmp_path: Path) -> None:
    (text,) = re.findall(r"(?ms)^```json\n(.*?)^```", README.read_text())
    path = tmp_path / "trace.json"
    path.write_text(text)
    found = parse_routing(str(path)).expected_distinct(4, 2, 1, kind="experts")
    assert found == pytest.approx(2)  # one token touches the two it chose


def test_the_picture_is_current() -> None:
    script = runpy.run_path(str(README.parent / "docs" / "picture.py"))
    assert (README.parent / "docs" / "picture.svg").read_text() == script["picture"]()


def regenerate() -> None:
    def current(match: re.Match[str]) -> str:
        listed = commands(match[1])
        if len(listed) != 1:
            return match[0]
        return f"```console\n$ {listed[0]}\n{printed(listed[0])}```"

    README.write_text(BLOCK.sub(current, README.read_text()))


if __name__ == "__main__":
    regenerate()
