"""Quantities of a step on several GPUs: what one GPU has, and what the GPUs exchange.

They are there where a workload has a mesh. All other quantities of a step are then of all GPUs
together, but those of time, and those of one operator's time and bound.
"""

from costmodel.costs.quantities.quantity import Quantity

_STEP = "costmodel.costs.mesh.step:mesh_step"
_EXCHANGE = "costmodel.costs.mesh.predict:parallel"
_TIMES = "costmodel.costs.collectives:time_s"
_MEASURED = "anything measured by this project: the figures are published ones"

PER_GPU = (
    Quantity(
        name="parallel.per_gpu.weights_bytes",
        label="weights on a GPU",
        unit="capacity",
        counts="weights stored on the GPU that needs the most memory",
        formula=_STEP,
    ),
    Quantity(
        name="parallel.per_gpu.kv_bytes",
        label="KV cache on a GPU",
        unit="capacity",
        counts="KV cache of its group's sequences, in the layers and heads that the GPU has",
        formula=_STEP,
    ),
    Quantity(
        name="parallel.per_gpu.state_bytes",
        label="recurrent state on a GPU",
        unit="capacity",
        counts="states of its group's sequences, in the layers and heads that the GPU has",
        formula=_STEP,
    ),
    Quantity(
        name="parallel.per_gpu.activations_bytes",
        label="activations on a GPU",
        unit="capacity",
        counts="two copies of the residual stream of its group, and the widest operator",
        formula=_STEP,
    ),
    Quantity(
        name="parallel.per_gpu.total_bytes",
        label="memory needed on a GPU",
        unit="capacity",
        counts="all of these, with buffers and towers, on the GPU that needs the most",
        leaves_out="buffers of collectives",
        formula=_STEP,
        also=("rows.memory_per_gpu_bytes",),
    ),
    Quantity(
        name="parallel.per_gpu.capacity_bytes",
        label="capacity of a GPU",
        unit="capacity",
        counts="as the driver reports it",
        formula=_STEP,
    ),
    Quantity(
        name="parallel.per_gpu.flops",
        label="FLOPs of a GPU",
        unit="flops",
        counts="the mean over all GPUs",
        formula=_STEP,
    ),
    Quantity(
        name="parallel.per_gpu.hbm_bytes",
        label="compulsory HBM bytes of a GPU",
        unit="bytes",
        counts="the mean over all GPUs",
        formula=_STEP,
    ),
    Quantity(
        name="parallel.busiest_experts",
        label="expert load of the busiest GPU",
        unit="ratio",
        counts="expected pairs of token and expert on the GPU that has the most, over the mean",
        formula="costmodel.routing.max_load:expected_max_load",
        none_because="no layer has routed experts that are divided into sets",
    ),
    Quantity(
        name="parallel.busiest_rows",
        label="row reads of the busiest GPU",
        unit="ratio",
        counts="expected reads of memory tables on the GPU that has the most, over the mean",
        formula="costmodel.costs.mesh.load:busiest_reads",
        none_because="no memory table is divided over its rows, or rows are not equally popular",
    ),
)

EXCHANGES = (
    Quantity(
        name="parallel.communication.bytes",
        label="bytes that a GPU sends",
        unit="bytes",
        counts="in a step, to other GPUs: the mean over the stages",
        leaves_out="headers, token ids, and what only sampling needs",
        formula=_EXCHANGE,
    ),
    Quantity(
        name="parallel.communication.node_bytes",
        label="bytes that a GPU sends within its node",
        unit="bytes",
        counts="over NVLink, Infinity Fabric or PCIe",
        formula=_EXCHANGE,
    ),
    Quantity(
        name="parallel.communication.network_bytes",
        label="bytes that a GPU sends to other nodes",
        unit="bytes",
        counts="over the network",
        formula=_EXCHANGE,
    ),
    Quantity(
        name="parallel.communication.floor_s",
        label="bound of the exchanges",
        unit="s",
        counts="all exchanges that a microbatch meets, at the links' datasheet rates",
        leaves_out="latency; that an engine may exchange less, such as tokens in 8 bits",
        formula="costmodel.costs.collectives:bound_s",
        also=("parallel.exchanges.floor_s",),
    ),
    Quantity(
        name="parallel.communication.time_s",
        label="time of the exchanges",
        unit="s",
        counts="the same with latencies and shares of the links that engines reach",
        leaves_out=_MEASURED,
        formula=_TIMES,
        also=("parallel.exchanges.time_s", "rows.exchanges_s"),
    ),
    Quantity(
        name="parallel.communication.low_s",
        label="time of the exchanges, at the least published",
        unit="s",
        counts="the same with the fastest kernels that were published",
        leaves_out=_MEASURED,
        formula=_TIMES,
        also=("parallel.exchanges.low_s",),
    ),
    Quantity(
        name="parallel.communication.high_s",
        label="time of the exchanges, at the most published",
        unit="s",
        counts="the same with a library as it is installed",
        leaves_out=_MEASURED,
        formula=_TIMES,
        also=("parallel.exchanges.high_s",),
    ),
)

EXCHANGE = (
    Quantity(
        name="parallel.exchanges.count",
        label="times a microbatch",
        unit="count",
        counts="layers that do the exchange, each once",
        formula="costmodel.costs.mesh.exchanges:exchanges",
    ),
    Quantity(
        name="parallel.exchanges.gpus",
        label="GPUs of the group",
        unit="count",
        counts="GPUs that take part in one exchange",
        formula="costmodel.costs.mesh.exchanges:exchanges",
    ),
    Quantity(
        name="parallel.exchanges.payload_bytes",
        label="payload",
        unit="bytes",
        counts="what is summed, gathered or handed out; of which share: costs/collectives",
        formula="costmodel.costs.mesh.exchanges:exchanges",
    ),
    Quantity(
        name="parallel.exchanges.sent_bytes",
        label="bytes sent by one GPU",
        unit="bytes",
        counts="in one layer and microbatch, within its node and to others",
        formula="costmodel.layers.collective:Collective.sent",
    ),
)

GPUS = Quantity(
    name="rows.gpus",
    label="GPUs",
    unit="count",
    counts="tp x dp x pp: all GPUs that do the step",
    formula="costmodel.layers.mesh:Mesh.gpus",
)
"""Of a row of a comparison."""

OF_REQUESTS = tuple(
    Quantity(
        name=f"parallel.{name}_exchanges_s",
        label=f"exchanges of {words}",
        unit="s",
        counts=f"what the GPUs of a mesh spend on exchanges in {words}",
        leaves_out=_MEASURED,
        formula=_TIMES,
    )
    for name, words in (("prefill", "the prefill"), ("last_decode", "the last decode step"))
)
"""Of served requests."""

MESH_SECTIONS: tuple[tuple[Quantity, ...], ...] = (PER_GPU, EXCHANGES)
"""What a summary tells of a step on a mesh, section by section."""
