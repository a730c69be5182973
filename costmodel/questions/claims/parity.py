"""Predicted beside measured: time and energy of every decode step of `measured.csv`.

These models were measured while the code was written, and their recordings are shipped. So the
points say how well predictions describe what is known, not what is unknown.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

from costmodel.costs.latency import Unknown
from costmodel.costs.predict import predict
from costmodel.inputs.catalog import load_model
from costmodel.inputs.parse import parse_routing
from costmodel.inputs.workload import Workload
from costmodel.questions.claims.figures import gpu, measured_steps, short
from costmodel.recordings.error_measures import DEVELOPMENT_SET, Errors, errors_of

Quantity: TypeAlias = Literal["graph_s", "energy_j"]
OWN_CHOICES = "scores"  # of the model itself: no routing predicts them
HELD_OUT = (
    "Held-out accuracy with intervals is not measured yet: it needs models and GPUs that played no"
    f" part in writing the code. Shown instead is the {DEVELOPMENT_SET}: the recordings that ship,"
    " which did."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityPoint:
    """One decode step in bf16 by plain PyTorch's kernels; seconds as a CUDA graph, or joules."""

    model: str
    batch: int
    context: int
    routing: str
    quantity: Quantity
    measured: float
    predicted: float
    source: str

    @property
    def ratio(self) -> float:
        """Measured over predicted."""
        return self.measured / self.predicted


@cache
def parity() -> tuple[ParityPoint, ...]:
    """All points, in the order of the file."""
    points = []
    for (name, backend, batch, context, routing, quantity), found in measured_steps().items():
        if backend != "torch" or routing == OWN_CHOICES or quantity not in {"graph_s", "energy_j"}:
            continue
        law = parse_routing(routing, files=False)
        workload = Workload(batch=batch, context=context, routing=law)
        time = predict(load_model(name), workload, *gpu()).time
        assert not isinstance(time, Unknown)
        predicted = time.graph_s if quantity == "graph_s" else time.energy_j
        assert not isinstance(predicted, Unknown)
        points.append(
            ParityPoint(
                model=short(name),
                batch=batch,
                context=context,
                routing=routing,
                quantity="graph_s" if quantity == "graph_s" else "energy_j",
                measured=found[0],
                predicted=float(predicted),
                source=found[1],
            )
        )
    return tuple(points)


def errors(points: tuple[ParityPoint, ...]) -> Errors:
    """How far the predictions of some points are from what was measured."""
    return errors_of([point.ratio for point in points])
