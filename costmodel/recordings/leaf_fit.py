"""The schema of fitted leaf times: parameters and measured points of each backend on one GPU.

Written by `python -m profiler.calibrate.leaves.fit_file` from calibrations of leaves, whose SHA-256
stand in it. Reading a file needs neither torch nor SciPy.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.errors import shown
from costmodel.inputs.files import read_json_object
from costmodel.inputs.workload import Backend
from costmodel.recordings.energy_loop import EnergyLoop
from costmodel.recordings.machine import Label, Moment
from costmodel.strict import STRICT, validated

Positive: TypeAlias = Annotated[float, Field(gt=0, le=1e18)]
Logarithm: TypeAlias = Annotated[float, Field(ge=-100, le=100)]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class FittedNode:
    """A measured point: octaves of tokens, bytes, activations and work; ln(measured / model)."""

    at: tuple[Logarithm, Logarithm, Logarithm, Logarithm]
    error: Logarithm


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class FittedBackend:
    """What was fitted of one backend.

    `spreads` are standard deviations of ln(measured / predicted) by leaf on shapes left out of the
    fit; that of "" is over all leaves. `step_share` is what share of them nine steps of left-out
    shapes in ten kept within.
    """

    source: Label  # the file's name
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    measured: Moment
    driver: Label
    torch: Label
    shapes: Annotated[int, Field(ge=1, le=1024)]
    parameters: Annotated[dict[Label, Positive], Field(max_length=256)]
    spreads: Annotated[dict[str, Positive], Field(min_length=1, max_length=256)]
    step_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    nodes: Annotated[dict[Label, tuple[FittedNode, ...]], Field(max_length=256)]

    def __post_init__(self) -> None:
        if "" not in self.spreads:
            raise ValueError('spreads: lacks "", that of all leaves')


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class LeafFit:
    """Fitted leaf times of one GPU, by backend."""

    schema_version: Literal[1]
    kind: Literal["leaf_times"]
    hardware: Label  # the name of the GPU's preset
    command: Label  # that wrote the file
    backends: dict[Backend, FittedBackend]
    loops: Annotated[tuple[EnergyLoop, ...], Field(max_length=64)] = ()  # whose energy was measured


def load_leaf_fit(path: Path) -> LeafFit:
    """The fitted leaf times in a JSON file.

    Raises:
        InputError: The file is not a valid one: field, value and rule are named.
    """
    where = f"leaf times {shown(path.name)}"
    return validated(LeafFit, read_json_object(path), where=where)
