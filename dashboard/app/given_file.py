"""Text and uploads, read by the readers of files: each is checked like a file of the user's own.

The temporary file that a reader gets is the dashboard's own. No message names it, and where the
disk refuses it, that is a message like any other.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from costmodel.errors import InputError, shown

Read = TypeVar("Read")


def read_given(data: bytes, name: str, where: str, read: Callable[[Path], Read]) -> Read:
    """What `read` makes of a temporary file that holds `data`.

    Args:
        data: The content of the file.
        name: The name of the file; readers go by its ending.
        where: What messages call it: "model", or "recording 'NAME'".
        read: A reader of files, such as `load_recording`.

    Raises:
        InputError: The file cannot be written, or `read` refuses it. The message begins with
            `where` and holds no path.
    """
    with _temporary(data, name, where) as path:
        try:
            return read(path)
        except InputError as error:
            message = str(error).replace(f"file={shown(str(path))}", where)
            sort = where.partition(" ")[0]
            raise InputError(message.replace(f"{sort} {shown(path.name)}", where)) from None


@contextmanager
def disk_refusals_told(where: str) -> Iterator[None]:
    """Turn an `OSError`, such as that of a full disk, into an `InputError` without a path."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise InputError(
            f"{where}: this server's disk refuses a temporary file: {reason}"
        ) from None


@contextmanager
def _temporary(data: bytes, name: str, where: str) -> Iterator[Path]:
    with disk_refusals_told(where):
        folder = TemporaryDirectory(ignore_cleanup_errors=True)
    with folder:
        path = Path(folder.name) / name
        with disk_refusals_told(where):
            path.write_bytes(data)
        yield path
