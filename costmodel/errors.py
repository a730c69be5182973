"""The two errors meant for users: a mistake (field, value and rule) and a failure (its reason)."""

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
