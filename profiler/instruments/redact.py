"""Reasons without who and where: what a process says of its end, fit to be kept in a recording."""

import getpass
import re
import socket
from pathlib import Path

from costmodel.show.text import printable

MAX_REASON = 300  # characters; the end is cut
ROOT = Path(__file__).parents[2]  # of the code
ABSOLUTE = re.compile(r"(?<![\w.~/-])~?/[^\s'\"`,;:()\[\]{}<>|]+")
IDENTIFIER = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE)


def anonymous(text: str) -> str:
    """One line without names of the user or the host, identifiers, and paths outside the code.

    A path inside the code's own folder is told from there.
    """
    line = " ".join(printable(text).split())
    line = ABSOLUTE.sub(_shortened, line)
    line = IDENTIFIER.sub("[id]", line)
    for name, shown in ((_user(), "[user]"), (socket.gethostname(), "[host]")):
        if name:
            line = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", shown, line, flags=re.IGNORECASE)
    return line if len(line) <= MAX_REASON else f"{line[: MAX_REASON - 3]}..."


def _shortened(match: re.Match[str]) -> str:
    path = Path(match[0])
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else "[path]"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an id without a name
        return ""
