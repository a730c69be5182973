"""`docs/tasks.md`: twelve tasks, whose commands run one after another, with labels of the pages."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from costmodel.recordings.folders import SHIPPED
from dashboard.app.entry import PAGES
from docs.write import ROOT
from tests.commands import output
from tests.test_house import fenced_commands

TEXT = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
TASKS = re.split(r"(?m)^## ", TEXT)[1:]
NEEDS_TORCH = "sparsecost profile"  # tests/profiler runs it


def test_there_are_twelve_tasks_each_with_a_command() -> None:
    assert [task.partition(".")[0] for task in TASKS] == [str(n) for n in range(1, 13)]
    assert all(fenced_commands(task) for task in TASKS)


def test_the_commands_run_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder with what they name: a config.json, the GPU of the page, a recording."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPARSECOST_RECORDINGS", raising=False)
    shutil.copy(ROOT / "tests" / "data" / "hf" / "olmoe-1b-7b.json", "config.json")
    Path("my-gpu.toml").write_text(re.findall(r"(?ms)^```toml\n(.*?)^```", TEXT)[0])
    Path("recordings").mkdir()
    shutil.copy(SHIPPED / "again" / "h200-olmoe-1b-7b.json", "recordings")
    for command in fenced_commands(TEXT):
        if not command.startswith(NEEDS_TORCH):
            name, *words = shlex.split(command)
            assert name == "sparsecost"
            printed = output(*words)
            assert printed or "--out" in words or "--csv" in words, command
    assert {"matched.toml", "report.html", "rows.csv"} <= {path.name for path in tmp_path.iterdir()}


def test_steps_use_the_words_of_the_pages() -> None:
    sources = "\n".join(
        path.read_text(encoding="utf-8").lower() for path in (ROOT / "dashboard").rglob("*.py")
    )
    steps = [line for line in TEXT.splitlines() if re.match(r"\d\. ", line)]
    labels = {label.lower() for line in steps for label in re.findall(r"\*\*(.*?)\*\*", line)}
    assert len(labels) >= 20
    assert [label for label in sorted(labels) if label not in sources] == []


def test_every_task_that_is_done_on_a_page_names_it() -> None:
    titles = {title for _, title, _ in PAGES}
    for task in TASKS:
        if re.search(r"(?m)^1\. ", task):
            heads = re.findall(r"(?m)(?:^|\b)([A-Z][\w? -]*?)(?: \(.*\)|, \*.*\*)?:$", task)
            assert titles & {head.split(" on ")[-1] for head in heads}, task
