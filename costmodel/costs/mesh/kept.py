"""What of a model no step changes, worked out once: its division over a mesh, its parameters.

A step on a mesh would else spend a third of its time on them. A model is told by its identity,
since a table of counts in it has no hash; the last few models stay in memory.
"""

from functools import lru_cache

from costmodel.costs.mesh.sharding import split_model
from costmodel.costs.operators import build_operators
from costmodel.costs.totals import ParameterCounts, parameter_counts
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import Mesh

KEPT = 256


class Same:
    """A model by its identity; it is kept as long as what is known of it."""

    __slots__ = ("model",)

    def __init__(self, model: ModelConfig) -> None:
        self.model = model

    def __hash__(self) -> int:
        return id(self.model)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.model is self.model


def kept_division(model: ModelConfig, mesh: Mesh) -> ModelConfig:
    """`split_model`, once for each model and mesh.

    Raises:
        InputError: A size does not divide, or a kind is not divided.
    """
    return _division(Same(model), mesh)


def kept_parameters(model: ModelConfig) -> ParameterCounts:
    """The parameters of a model, once for each."""
    return _parameters(Same(model))


@lru_cache(maxsize=KEPT)
def _division(same: Same, mesh: Mesh) -> ModelConfig:
    return split_model(same.model, mesh)


@lru_cache(maxsize=KEPT)
def _parameters(same: Same) -> ParameterCounts:
    return parameter_counts(build_operators(same.model, Workload().step()))
