"""Proof that the wheel alone predicts, and with its extra `dashboard` serves every page.

Runs the README's two commands, which build the wheel and install it with nothing but its own
requirements, into a fresh environment outside the checkout, and predicts there. A preset left out
of the wheel, a requirement not declared, or a heavy library pulled in fails it. The README's third
command adds the extra: each page then has the title that it has in the checkout, and none needs
torch.
Run: `python -m tests.wheel_smoke` (needs a package index).
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.browser.server import serving

ROOT = Path(__file__).parents[1]
INSTALL = ("pip wheel . --no-deps --wheel-dir dist", "pip install dist/sparsecost-*.whl")
PUBLIC = ["reproduce", "--public", "--json"]
VALIDATE = ["validate", "h200-olmoe-1b-7b", "--json"]
PREDICT = ["predict", "olmoe-1b-7b", "--batch", "16", "--context", "2048", "--json"]
NOT_NEEDED = ("pandas", "plotly", "pyarrow", "streamlit", "torch")
WITH_DASHBOARD = 'pip install "sparsecost[dashboard]"'
PAGES = """
import json
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash
from dashboard.app import entry
seen = {}
for index, (name, *_) in enumerate(entry.PAGES):
    at = AppTest.from_file(entry.__file__, default_timeout=300)
    at._page_hash = calc_hash(name if index else "")
    at.run()
    failed = [fault.message for fault in at.exception]
    assert not failed, (name, failed)
    seen[name] = [title.value for title in at.title]
print(json.dumps(seen))
"""
FIND_INSTALLED = (
    "import importlib.util, sys; print(*filter(importlib.util.find_spec, sys.argv[1:]))"
)


def run(*command: str | Path, cwd: Path) -> str:
    """Return what the command prints; errors pass through to the terminal, a failure raises."""
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def smoke(folder: Path) -> str:
    """Build, install and predict inside `folder`; return the name of the wheel."""
    env = folder / "env"
    run(sys.executable, "-m", "venv", "--without-pip", env, cwd=folder)
    pip = (sys.executable, "-m", "pip", "-qq", "--python", env / "bin" / "python")
    for command in INSTALL:
        words: list[str | Path] = []
        for word in shlex.split(command)[1:]:
            words += folder.glob(word) if "*" in word else [ROOT if word == "." else word]
        run(*pip, *words, cwd=folder)
    (wheel,) = folder.glob("dist/*.whl")

    installed = run(env / "bin" / "python", "-I", "-c", FIND_INSTALLED, *NOT_NEEDED, cwd=folder)
    assert not installed.strip(), f"sparsecost alone installed {installed.strip()}"
    prediction = json.loads(run(env / "bin" / "sparsecost", *PREDICT, cwd=folder))
    assert prediction["operators"], "the prediction has no operators"
    public = json.loads(run(env / "bin" / "sparsecost", *PUBLIC, cwd=folder))
    assert public["by_model"], "the wheel has no public measurements"
    check: list[str | Path] = [env / "bin" / "sparsecost", *VALIDATE]
    assert json.loads(run(*check, cwd=folder))["errors"], "the wheel has no recordings"
    run(*pip, *shlex.split(WITH_DASHBOARD)[1:], cwd=folder)
    _smoke_dashboard(env / "bin", folder)
    return wheel.name


def _smoke_dashboard(bins: Path, folder: Path) -> None:
    """All pages are drawn as in the checkout, without torch, and the command serves."""
    assert not run(bins / "python", "-I", "-c", FIND_INSTALLED, "torch", cwd=folder).strip()
    with serving(folder, bins / "sparsecost") as server:
        assert server.url  # it answered
    pages = json.loads(run(bins / "python", "-I", "-c", PAGES, cwd=folder).splitlines()[-1])
    here = json.loads(run(sys.executable, "-c", PAGES, cwd=ROOT).splitlines()[-1])
    assert pages == here, "the dashboard of the wheel answers otherwise than that of the checkout"
    assert all(pages.values()), "a page has no title"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(f"{smoke(Path(folder))} alone predicts, without {', '.join(NOT_NEEDED)};")
        print("with its extra dashboard all pages open, without torch")
