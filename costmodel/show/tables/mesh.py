"""A step on several GPUs as people read it: what one GPU has, and what the GPUs exchange."""

from costmodel.costs.columns import parallel_columns
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.meshes import MESH_SECTIONS
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import ONE_GPU
from costmodel.show.parallel_json import exchanges_json
from costmodel.show.tables.columns import cell, head
from costmodel.show.text import Table

NOT_MEASURED = (
    "Nothing on several GPUs was measured by this project. Bounds are by datasheet, times of"
    " exchanges by published figures of others; no exchange hides behind other work."
)
EXCHANGED = ("count", "gpus", "payload_bytes", "sent_bytes", "floor_s", "low_s", "time_s", "high_s")


def mesh_words(workload: Workload) -> str:
    """`: 8 GPUs (tp 8)`; empty on one GPU."""
    return "" if workload.mesh == ONE_GPU else f": {workload.mesh.label}"


def of_one_gpu(prediction: Prediction) -> str:
    """` of one GPU and microbatch`, of what a mesh tells so; empty on one GPU."""
    return "" if prediction.parallel is None else " of one GPU and microbatch"


def mesh_tables(prediction: Prediction) -> list[Table]:
    """What one GPU has and sends, and each exchange; none on one GPU."""
    of = prediction.parallel
    if of is None:
        return []
    values = parallel_columns(prediction.costs, of)
    rows: list[tuple[str, str, str]] = []
    ends = set()
    for section in MESH_SECTIONS:
        rows += [
            (quantity.label, cell(quantity.name, values[quantity.name]), quantity.counts)
            for quantity in section
            if values[quantity.name]
        ]
        ends.add(len(rows) - 1)
    return [
        Table(
            title=f"One of {of.step.mesh.label}; the table above is of all of them together",
            headers=("quantity", "value", "what it counts"),
            rows=tuple(rows),
            ends_in_text=True,
            sections=frozenset(ends),
            notes=(NOT_MEASURED,),
        ),
        Table(
            title="Exchanges (each of one layer; microbatches: "
            f"{cell('parallel.exchanges.count', of.step.microbatches)})",
            headers=("path", *(head(f"parallel.exchanges.{name}") for name in EXCHANGED)),
            rows=tuple(
                (
                    str(exchange["path"]),
                    *(cell(f"parallel.exchanges.{name}", exchange[name]) for name in EXCHANGED),
                )
                for exchange in exchanges_json(of)
            ),
        ),
    ]
