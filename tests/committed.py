"""The recordings that the repository ships, each read and joined once in a test session."""

from functools import cache
from pathlib import Path

from costmodel.recordings.quantities import RunName
from costmodel.recordings.recording import Case, Recording, load_recording
from costmodel.validation.join import join
from costmodel.validation.joined import JoinedCase
from costmodel.validation.machines import Gpus

FOLDER = Path(__file__).parents[1] / "recordings"
FIRST = sorted(FOLDER.glob("*.json"))
AGAIN = sorted((FOLDER / "again").glob("*.json"))
FILES = (*FIRST, *AGAIN)
GPUS = Gpus()
NAMES = [str(path.relative_to(FOLDER)) for path in FILES]


@cache
def recording(name: str) -> Recording:
    return load_recording(FOLDER / name)


@cache
def joined(name: str) -> tuple[JoinedCase, ...]:
    return tuple(join(recording(name), GPUS))


def measured_cases(name: str, run: RunName) -> list[tuple[int, Case]]:
    """The cases that finished a run, each with its place in the recording."""
    found = [(i, each) for i, each in enumerate(recording(name).cases) if run in each.runs]
    assert found
    return found
