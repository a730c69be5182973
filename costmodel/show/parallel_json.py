"""A mesh in the JSON of a prediction: its sizes, what one GPU has, and every exchange."""

from dataclasses import asdict
from typing import Any

from costmodel.costs.columns import Value
from costmodel.costs.mesh.predict import Parallel
from costmodel.costs.predict import Prediction
from costmodel.layers.mesh import Mesh

NOT_MEASURED = "not measured on several GPUs by this project"
OF_ALL = "all GPUs together; operators are of one GPU and microbatch, and run `runs` times"
"""What the other numbers of a prediction on a mesh are of."""


def mesh_json(mesh: Mesh) -> dict[str, Any]:
    """The sizes of a mesh."""
    return {"gpus": mesh.gpus, **asdict(mesh)}


def parallel_json(prediction: Prediction) -> dict[str, Any]:
    """What stands in the section `parallel` beside its quantities; nothing on one GPU."""
    of = prediction.parallel
    if of is None:
        return {}
    return {
        **mesh_json(of.step.mesh),
        "microbatches": of.step.microbatches,
        "runs": of.step.runs,
        "numbers_of": OF_ALL,
        "measured": NOT_MEASURED,
        "exchanges": exchanges_json(of),
    }


def exchanges_json(of: Parallel) -> list[dict[str, Value]]:
    """The exchanges of one microbatch; numbers are those of one of `count` layers."""
    return [
        {
            "path": exchange.path,
            "name": exchange.collective.name,
            "count": exchange.count,
            "gpus": exchange.collective.group.gpus,
            "gpus_of_a_node": exchange.collective.group.per_node,
            "payload_bytes": exchange.collective.payload_bytes,
            "sent_bytes": exchange.collective.sent.node_bytes
            + exchange.collective.sent.network_bytes,
            "floor_s": spent.bound_s,
            "low_s": spent.low_s,
            "time_s": spent.typical_s,
            "high_s": spent.high_s,
        }
        for exchange, spent in zip(of.exchanges, of.spent, strict=True)
    ]
