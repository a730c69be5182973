"""Redaction of error messages: no user, host, identifier or foreign path enters a recording."""

import getpass
import re
import socket
from pathlib import Path

from costmodel.show.text import printable

MAX_REASON = 300  # characters; a longer text loses its end
ROOT = Path(__file__).parents[2]  # the folder of the code
ABSOLUTE = re.compile(r"(?<![\w.~/-])~?/[^\s'\"`,;:()\[\]{}<>|]+")
IDENTIFIER = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE)


def redacted(text: str) -> str:
    """The text in one line, without names of user and host, identifiers, and absolute paths.

    A path inside the code's own folder becomes relative to that folder.
    """
    line = " ".join(printable(text).split())
    line = ABSOLUTE.sub(_shortened, line)
    line = IDENTIFIER.sub("[id]", line)
    for name, substitute in ((_user(), "[user]"), (socket.gethostname(), "[host]")):
        if name:
            name_as_word = rf"(?<!\w){re.escape(name)}(?!\w)"
            line = re.sub(name_as_word, substitute, line, flags=re.IGNORECASE)
    return line if len(line) <= MAX_REASON else f"{line[: MAX_REASON - 3]}..."


def _shortened(match: re.Match[str]) -> str:
    path = Path(match[0])
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else "[path]"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an id without a name
        return ""
