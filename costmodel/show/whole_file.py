"""A file that appears under its name only when it is complete."""

from collections.abc import Callable
from pathlib import Path
from secrets import token_hex

from costmodel.errors import InputError, shown


def write_whole(path: Path, write: Callable[[Path], object], *, field: str) -> None:
    """Let `write` fill a temporary file beside `path`, and give it that name when it is done.

    Raises:
        InputError: it cannot be written; the message names the option `field` and the path.
    """
    try:
        temporary = path.with_name(f".{token_hex(8)}.part")
        try:
            write(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{field}={shown(str(path))}: cannot be written: {reason}") from None
