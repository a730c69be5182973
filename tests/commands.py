"""Running the command line inside the test's process, as `sparsecost` would be run."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from costmodel.cli import main as cli

SPARSECOST = Path(sys.executable).with_name("sparsecost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str


def run(*arguments: str) -> Done:
    """`sparsecost ARGUMENTS`, output to pipes; an escaped exception fails the test by itself."""
    out, err = io.StringIO(), io.StringIO()
    argv = mock.patch.object(sys, "argv", ["sparsecost", *arguments])
    code: int | str | None = 0
    with argv, redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
    assert code is None or isinstance(code, int), code
    return Done(code=code or 0, out=out.getvalue(), err=err.getvalue())


def output(*arguments: str) -> str:
    """The stdout of a command that succeeds and says nothing on stderr."""
    done = run(*arguments)
    assert (done.code, done.err) == (0, ""), done
    return done.out


def refusal(*arguments: str) -> str:
    """The one line of a command that refuses its input, without `error: `."""
    done = run(*arguments)
    assert done.code == 2, done
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.endswith("\n")
    line = done.err.removeprefix("error: ").removesuffix("\n")
    assert line.isprintable(), line
    assert "Traceback" not in line
    return line
