"""The two errors meant for users: a mistake (field, value and rule) and a failure (its reason).

And what a message tells users to type.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

LONG_BITS = 256  # integers longer than this are described, not printed
MAX_SHOWN = 80  # characters of a value that a message repeats
TAIL = 30  # of those, how many come from its end, where the name of a file stands


class InputError(ValueError):
    """Something that a user gave breaks a rule; the command line prints it and exits with 2."""


class WorkError(RuntimeError):
    """The task was understood but cannot be done; the command line prints it and exits with 1."""


def shown(value: object) -> str:
    """A value as a message shows it: quoted, on one line, cut to `MAX_SHOWN` characters."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > LONG_BITS:
        return f"an integer of {value.bit_length()} bits"  # repr of 10^5000 raises
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - TAIL - 3]}...{text[-TAIL:]}"


def install_command(extra: str) -> str:
    """The command that installs an extra beside sparsecost, for a shell where this process runs.

    Python's path stands in it only below that folder, as after `make run`; else `python` is meant
    to be that of the active environment.
    """
    python = "python"
    with suppress(OSError, ValueError):  # no folder any more, or Python elsewhere
        python = Path(os.path.abspath(sys.executable)).relative_to(Path.cwd()).as_posix()  # noqa: PTH100 - an environment's Python is a link
    return f'{python} -m pip install "sparsecost[{extra}]"'
