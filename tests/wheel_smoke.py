"""Proof that the wheel alone gives a working `sparsecost predict`.

Runs the README's two commands, which build the wheel and install it with nothing but its own
requirements, into a fresh environment outside the checkout, and predicts there. A preset left out
of the wheel, a requirement not declared, or a heavy library pulled in fails it.
Run: `python -m tests.wheel_smoke` (needs a package index).
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
INSTALL = ("pip wheel . --no-deps --wheel-dir dist", "pip install dist/sparsecost-*.whl")
PUBLIC = ["reproduce", "--public", "--json"]
VALIDATE = ["validate", "h200-olmoe-1b-7b", "--json"]
PREDICT = ["predict", "olmoe-1b-7b", "--batch", "16", "--context", "2048", "--json"]
NOT_NEEDED = ("pandas", "plotly", "pyarrow", "streamlit", "torch")
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
    return wheel.name


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(f"{smoke(Path(folder))} alone predicts, without {', '.join(NOT_NEEDED)}")
