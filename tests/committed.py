"""The recordings that the repository ships, each read and joined once in a test session."""

from functools import cache

from costmodel.recordings.folders import SHIPPED
from costmodel.recordings.quantities import RunName
from costmodel.recordings.recording import Case, Recording, load_recording
from costmodel.validation.join import join
from costmodel.validation.joined import JoinedCase
from costmodel.validation.machines import Gpus

FOLDER = SHIPPED
FUSED = sorted(FOLDER.glob("*-fused.json"))
PLACED = sorted((FOLDER / "placed").glob("*.json"))  # tables in HBM and in host memory
FIRST = sorted(set(FOLDER.glob("*.json")) - set(FUSED))  # of plain PyTorch
AGAIN = sorted((FOLDER / "again").glob("*.json"))
GROUPED = sorted((FOLDER / "grouped").glob("*.json"))  # models with fewer key-value heads
FILES = (*FIRST, *FUSED, *PLACED, *AGAIN, *GROUPED)
GPUS = Gpus()
NAMES = [str(path.relative_to(FOLDER)) for path in FILES]
PRESETS = {
    *("olmoe-227m-1.2b", "ultramemv2-227m-1.2b", "olmoe-1b-7b", "ultramemv2-1b-7b"),
    *("ultramem-227m-1.2b", "memory-plus-227m-1.2b", "llama-3.1-8b"),
}
OF_PLACED = [str(path.relative_to(FOLDER)) for path in PLACED]
OF_TORCH = [name for name in NAMES if not name.endswith("-fused.json")]


@cache
def recording(name: str) -> Recording:
    return load_recording(FOLDER / name)


@cache
def joined(name: str) -> tuple[JoinedCase, ...]:
    return tuple(join(recording(name), GPUS))


def has_anchors(name: str) -> bool:
    """Whether it was made since the plan has all that it has now."""
    cases = recording(name).cases
    return any(run.conditions.anchors for case in cases for run in case.runs.values())


def measured_cases(name: str, run: RunName) -> list[tuple[int, Case]]:
    """The cases that finished a run, each with its place in the recording."""
    found = [(i, each) for i, each in enumerate(recording(name).cases) if run in each.runs]
    assert found
    return found
