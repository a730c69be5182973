"""What a `sparsecost` command prints, run inside this process."""

import io
import json
import shlex
import sys
from contextlib import redirect_stdout
from functools import cache
from typing import Any
from unittest import mock

from costmodel.cli import main as cli


@cache
def printed(command: str) -> str:
    """The stdout of a command line, without blanks at line ends.

    The command must succeed: an exit code other than 0 raises.
    """
    out = io.StringIO()
    argv = mock.patch.object(sys, "argv", shlex.split(command))
    with argv, redirect_stdout(out):
        try:
            cli.main()
        except SystemExit as end:
            if end.code:
                raise RuntimeError(f"{command}: exit code {end.code}") from end
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def json_of(command: str) -> Any:  # noqa: ANN401 - JSON
    """What the command prints with `--json`, parsed."""
    return json.loads(printed(f"{command} --json"))
