"""A grid of costs over routing, hardware, batch and context, read point by point."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import ONE_GPU, AskedMesh, Mesh

PART_POINTS = 2**14  # turned into Python values at once
SET = "set."  # begins the columns of fields of the model that a sweep set
OBJECT_BYTES = 48  # of a Python integer between 2^60 and 2^90, with the pointer to it

Column: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """Costs of one model over a grid; a column has length 1 on an axis it does not depend on.

    Columns hold int64 (Python integers where one passes 2^63), float64, bool, text, or None for
    what the model does not have, and for what `reasons` explains.
    """

    model: str
    workload: Workload  # its batch, context and routing give way to the axes
    routings: tuple[str, ...]
    hardwares: tuple[str, ...]
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    columns: dict[str, Column]
    reasons: dict[str, str]  # why numbers are None, or predicted times missing, by column

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Lengths of the axes: routing, hardware, batch, context."""
        return len(self.routings), len(self.hardwares), len(self.batches), len(self.contexts)

    @property
    def size(self) -> int:
        """How many points the grid has."""
        return math.prod(self.shape)

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that the columns take, about."""
        return sum(value_bytes(column.dtype) * column.size for column in self.columns.values())

    def table(self) -> dict[str, Column]:
        """Keys, then costs: views of the whole grid's shape, to read by `.flat` or `.ravel()`."""
        keys: dict[str, Any] = {
            "model": self.model,
            "phase": self.workload.phase,
            "hardware": _along(1, self.hardwares),
            "routing": _along(0, self.routings),
            "batch": _along(2, self.batches),
            "context": _along(3, self.contexts),
            "new_tokens": self.workload.new_tokens,
            "dtype": self.workload.dtype_label,
            "kv_dtype": self.workload.kv_dtype.label,
        }
        return {
            name: np.broadcast_to(values, self.shape)
            for name, values in (keys | self.columns).items()
        }

    def column(self, name: str) -> Column | None:
        """One column of costs in the whole grid's shape; None where the grid lacks it."""
        values = self.columns.get(name)
        return None if values is None else np.broadcast_to(values, self.shape)

    def parts(self) -> Iterator[dict[str, list[Any]]]:
        """`table` as plain Python values in row-major order, some thousand points at a time."""
        table = self.table()
        for start in range(0, self.size, PART_POINTS):
            part = slice(start, start + PART_POINTS)
            yield {name: column.flat[part].tolist() for name, column in table.items()}

    def records(self) -> Iterator[dict[str, Any]]:
        """One flat dict for each point, in row-major order."""
        for part in self.parts():
            for row in zip(*part.values(), strict=True):
                yield dict(zip(part, row, strict=True))


def aligned(grids: Sequence[Grid]) -> list[Grid]:
    """Grids of several models and meshes with the same columns; what one does not have is None.

    Where one of them has a mesh, all say theirs: `gpus` and `mesh`.
    """
    names = dict.fromkeys(name for grid in grids for name in grid.columns)
    nothing = np.full((1, 1, 1, 1), None)
    meshed = any(grid.workload.mesh != ONE_GPU for grid in grids)
    return [
        replace(
            grid,
            columns={
                **(_mesh_columns(grid.workload.mesh) if meshed else {}),
                **{name: grid.columns.get(name, nothing) for name in names},
            },
        )
        for grid in grids
    ]


def with_settings(grid: Grid, values: Mapping[str, int | float]) -> Grid:
    """The grid with a first column for each field of the model that was set: `set.memory.knum`."""
    columns = {f"{SET}{path}": np.full((1, 1, 1, 1), value) for path, value in values.items()}
    return replace(grid, columns=columns | grid.columns)


def reasons(grids: Sequence[Grid]) -> dict[str, dict[str, str]]:
    """By model and column, why numbers are None in some of its grids; different reasons joined."""
    of_models: dict[str, dict[str, dict[str, None]]] = {}
    for grid in grids:
        of_model = of_models.setdefault(grid.model, {})
        for column, reason in grid.reasons.items():
            of_model.setdefault(column, {})[reason] = None
    return {
        model: {column: "; ".join(texts) for column, texts in of_model.items()}
        for model, of_model in of_models.items()
    }


def _mesh_columns(mesh: Mesh | AskedMesh) -> dict[str, Column]:
    assert isinstance(mesh, Mesh), "a sweep has chosen it"
    return {"gpus": np.full((1, 1, 1, 1), mesh.gpus), "mesh": np.full((1, 1, 1, 1), mesh.label)}


def value_bytes(dtype: np.dtype[Any]) -> int:
    """Bytes of memory that a value of a column takes; an object is taken for a long integer."""
    return OBJECT_BYTES if dtype.hasobject else dtype.itemsize


def _along(axis: int, values: Sequence[object]) -> Column:
    """Labels or numbers along one axis of a grid."""
    shape = [1, 1, 1, 1]
    shape[axis] = len(values)
    return np.array(values).reshape(shape)
