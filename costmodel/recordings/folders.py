"""Where recordings stand: those that the package ships, and people's own in a folder of their own.

A shipped recording goes by its file's name (`h200-olmoe-1b-7b.json`), one of a user by `own/` and
its file's name. Shipped ones are data of the package and are never written to.
"""

import os
from pathlib import Path

from costmodel.errors import InputError, shown

SHIPPED = Path(__file__).parents[1] / "presets" / "recordings"
VARIABLE = "SPARSECOST_RECORDINGS"
OWN_PREFIX = "own/"
AGAIN_PREFIX = "again/"  # shipped models, measured a second time


def own_folder() -> Path:
    """The folder of a user's own recordings: of the environment, else `recordings` right here."""
    return Path(os.environ.get(VARIABLE) or "recordings")


def shipped_names() -> tuple[str, ...]:
    """The names of the shipped recordings, sorted, without repeats."""
    return tuple(path.name for path in _files(SHIPPED))


def own_names() -> tuple[str, ...]:
    """The names of a user's own recordings, sorted, each with its prefix."""
    folder = own_folder()
    return (
        () if is_shipped(folder) else tuple(f"{OWN_PREFIX}{path.name}" for path in _files(folder))
    )


def repeat_names() -> tuple[str, ...]:
    """The names of shipped repeats, sorted, each with its prefix."""
    return tuple(f"{AGAIN_PREFIX}{path.name}" for path in _files(SHIPPED / AGAIN_PREFIX))


def listed_files() -> dict[str, Path]:
    """The files of all shipped recordings without repeats, then of the user's own, by name."""
    own = own_folder()
    listed = {path.name: path for path in _files(SHIPPED)}
    return listed | {name: own / name.removeprefix(OWN_PREFIX) for name in own_names()}


def is_own(name: str) -> bool:
    """Whether a name is that of a user's own recording."""
    return name.startswith(OWN_PREFIX)


def recording_file(name: str) -> Path:
    """The file of a recording of one of these names.

    Raises:
        InputError: There is none of that name.
    """
    if name in own_names():
        return own_folder() / name.removeprefix(OWN_PREFIX)
    if name in {*shipped_names(), *repeat_names()}:
        return SHIPPED / name
    raise InputError(
        f"recording={shown(name)}: is neither a shipped recording nor one of your own"
        f" in {shown(str(own_folder()))}"
    )


def typed_recording(path: Path) -> Path:
    """The file of what was typed: a path, or a recording's name, with `.json` or without.

    A file that exists comes before a recording of that name.
    """
    name = str(path) if path.suffix == ".json" else f"{path}.json"
    known = {*shipped_names(), *repeat_names(), *own_names()}
    return recording_file(name) if name in known and not os.path.exists(path) else path  # noqa: PTH110 - Path's raises if long


def is_shipped(path: Path) -> bool:
    """Whether a path is the folder of shipped recordings, or lies within it."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(SHIPPED))


def recording_title(path: Path) -> str:
    """A recording's name in tables and reports: its file's stem, of one's own after `own/`."""
    own = os.path.realpath(path.parent) == os.path.realpath(own_folder()) and not is_shipped(path)
    return f"{OWN_PREFIX}{path.stem}" if own else path.stem


def refuse_shipped(path: Path, *, field: str) -> None:
    """Refuse to write to shipped recordings.

    Raises:
        InputError: The path is their folder, or lies within it.
    """
    if is_shipped(path):
        raise InputError(
            f"{field}={shown(str(path))}: lies in the folder of shipped recordings, which are not"
            " written to; choose a folder of your own"
        )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.json") if path.is_file())
