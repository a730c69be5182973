"""Quantities of a step's work: FLOPs, HBM bytes, routing, and the counts of an operator."""

from costmodel.costs.quantities.quantity import Quantity

_TOTALS = "costmodel.costs.totals:totals"
_ROUTING = "costmodel.costs.totals:routing_totals"
_DISTINCT = "costmodel.costs.totals:distinct"
_TRAFFIC = "costmodel.costs.hbm_traffic:hbm_traffic"
_ONE_STEP = "a sweep has compulsory bytes alone: kernels are grouped for one number of tokens"
_KINDS = {
    "matmul": ("FLOPs of matrix products", "projections, experts, routers, keys"),
    "attention": ("FLOPs of attention", "scores and weighted values"),
    "gather": ("FLOPs of gathers", "dot products with table rows and their weighted sums"),
    "selection": ("FLOPs of selection", "softmax and merging of scores around a choice"),
    "recurrence": (
        "FLOPs of recurrences",
        "updates of the state of linear attention and state-space layers",
    ),
    "norm": ("FLOPs of norms", "norms, with the residual adds that wait for them"),
    "elementwise": ("elementwise FLOPs", "activation functions, gates, rotary embeddings"),
}

FLOPS = (
    Quantity(
        name="flops.total",
        label="model FLOPs",
        unit="flops",
        counts="floating-point operations of the step; a multiply-add is 2",
        leaves_out="padding of tiles and whatever else a kernel executes beyond the formula;"
        " comparisons",
        formula=_TOTALS,
        also=("operators.flops", "operators.parts.flops", "regions.flops", "rows.flops"),
    ),
    Quantity(
        name="flops.per_token",
        label="model FLOPs per token",
        unit="flops",
        counts="the step's FLOPs over its B T new tokens",
        formula="costmodel.costs.columns:columns",
    ),
)

FLOP_KINDS = tuple(
    Quantity(
        name=f"flops.by_kind.{kind}",
        label=label,
        unit="flops",
        counts=counts,
        formula="costmodel.costs.totals:flops_by_kind",
    )
    for kind, (label, counts) in _KINDS.items()
)

HBM_BYTES = (
    Quantity(
        name="hbm_bytes.compulsory",
        label="compulsory HBM bytes",
        unit="bytes",
        counts="what the step must move at the least, each byte once",
        leaves_out="activations, and whatever a cache too small for its reuse moves again",
        formula="costmodel.layers.operator:Traffic.compulsory_bytes",
        also=(
            "operators.compulsory_bytes",
            "operators.parts.bytes",
            "regions.compulsory_bytes",
            "rows.compulsory_bytes",
        ),
    ),
    Quantity(
        name="hbm_bytes.read",
        label="predicted HBM bytes read",
        unit="bytes",
        counts="compulsory reads, and what L2 drops before it is read again",
        leaves_out=_ONE_STEP,
        formula=_TRAFFIC,
        also=("operators.hbm_read_bytes",),
        by_backend=True,
    ),
    Quantity(
        name="hbm_bytes.written",
        label="predicted HBM bytes written",
        unit="bytes",
        counts="compulsory writes, and activations that L2 drops before they are overwritten",
        leaves_out=_ONE_STEP,
        formula=_TRAFFIC,
        also=("operators.hbm_written_bytes",),
        by_backend=True,
    ),
    Quantity(
        name="hbm_bytes.weights",
        label="weights touched",
        unit="bytes",
        counts="weights that the step reads: of experts the expected distinct ones",
        leaves_out="rows of memory tables",
        formula=_TOTALS,
        also=("rows.weights_bytes",),
    ),
    Quantity(
        name="hbm_bytes.kv",
        label="KV cache read and written",
        unit="bytes",
        counts="cached tokens read and new ones written",
        formula=_TOTALS,
    ),
    Quantity(
        name="hbm_bytes.state",
        label="recurrent state read and written",
        unit="bytes",
        counts="the fixed state of each sequence, read and written by the step",
        formula=_TOTALS,
    ),
    Quantity(
        name="hbm_bytes.table_rows",
        label="memory-table rows touched",
        unit="bytes",
        counts="expected distinct rows of memory tables; one that several layers read counts once",
        leaves_out="that layers of one table may like the same rows, which makes them fewer",
        formula="costmodel.costs.table_rows:with_table_rows",
        also=("rows.table_rows_bytes",),
    ),
    Quantity(
        name="hbm_bytes.row_reads",
        label="memory-table rows read",
        unit="bytes",
        counts="expected distinct rows of each memory layer, whatever other layers of a table read",
        leaves_out="rows that a layer reads again within the step",
        formula="costmodel.costs.table_rows:row_totals",
        also=("operators.row_reads", "regions.row_reads"),
    ),
    Quantity(
        name="hbm_bytes.rows_in_sectors",
        label="memory-table rows in sectors",
        unit="bytes",
        counts="the rows touched in whole sectors of 32 bytes, as the GPU moves them; a sector of"
        " two rows counts once",
        leaves_out="that scales of a format may stand apart from their row",
        formula="costmodel.routing.sectors:expected_sectors",
    ),
    Quantity(
        name="hbm_bytes.indices",
        label="permutation entries read",
        unit="bytes",
        counts="entries of permutations that lead from choices to table rows",
        formula=_TOTALS,
    ),
    Quantity(
        name="hbm_bytes.io",
        label="token ids and logits",
        unit="bytes",
        counts="the step's own input and output",
        formula=_TOTALS,
    ),
    Quantity(
        name="hbm_bytes.activations",
        label="activations between operators",
        unit="bytes",
        counts="what operators hand to one another, written and read; no part of the compulsory",
        formula=_TOTALS,
        also=(
            "operators.activation_bytes",
            "operators.parts.activation_bytes",
            "regions.activation_bytes",
        ),
    ),
    Quantity(
        name="hbm_bytes.intermediates",
        label="intermediates within operators",
        unit="bytes",
        counts="what the parts of an operator hand to one another unless a kernel fuses them",
        formula=_TOTALS,
        also=(
            "operators.intermediate_bytes",
            "operators.parts.intermediate_bytes",
            "regions.intermediate_bytes",
        ),
    ),
)

ROUTING = (
    Quantity(
        name="routing.flops",
        label="routing FLOPs",
        unit="flops",
        counts="FLOPs of the parts that choose experts or rows and combine what they give",
        formula=_ROUTING,
        also=("rows.routing_flops",),
    ),
    Quantity(
        name="routing.compares",
        label="routing comparisons",
        unit="count",
        counts="comparisons of top-k and sorts in these parts; they are no FLOPs",
        formula=_ROUTING,
        also=("rows.routing_compares",),
    ),
    Quantity(
        name="routing.hbm_bytes",
        label="routing HBM bytes",
        unit="bytes",
        counts="compulsory bytes of these parts",
        formula=_ROUTING,
        also=("rows.routing_bytes",),
    ),
    Quantity(
        name="routing.activation_bytes",
        label="routing activations",
        unit="bytes",
        counts="what these parts take from other operators and give to them",
        formula=_ROUTING,
    ),
    Quantity(
        name="routing.intermediate_bytes",
        label="routing intermediates",
        unit="bytes",
        counts="what these parts hand to one another unless a kernel fuses them",
        formula=_ROUTING,
    ),
    Quantity(
        name="routing.launches",
        label="routing launches",
        unit="count",
        counts="kernels that the backend launches for these parts",
        formula="costmodel.backends.step_kernels:StepKernels.routing_launches",
        by_backend=True,
    ),
    Quantity(
        name="routing.time_s",
        label="predicted routing time",
        unit="s",
        counts="time of these parts within a CUDA graph",
        formula="costmodel.costs.latency:step_time",
        calibrated=True,
    ),
    Quantity(
        name="routing.share_of_time",
        label="routing share of time",
        unit="share",
        counts="time of these parts over the step's, both within a CUDA graph",
        formula="costmodel.costs.columns:predicted_columns",
        calibrated=True,
    ),
    Quantity(
        name="routing.expected_distinct_experts",
        label="expected distinct experts",
        unit="count",
        counts="experts that the step touches in a layer: the mean over MoE layers",
        formula=_DISTINCT,
        none_because="the model has no experts",
    ),
    Quantity(
        name="routing.expected_distinct_rows",
        label="expected distinct rows",
        unit="count",
        counts="table rows that the step touches in a layer: the mean over memory layers",
        formula=_DISTINCT,
        none_because="the model has no memory layer",
    ),
    Quantity(
        name="routing.expected_distinct_rows_union",
        label="expected distinct rows of shared tables",
        unit="count",
        counts="rows that the layers of one table touch together, summed over tables",
        formula=_DISTINCT,
        none_because="no layers share a memory table",
    ),
)

OPERATORS = (
    Quantity(
        name="operators.count",
        label="layers alike",
        unit="count",
        counts="layers that the operator's path lists; its numbers are those of one",
        formula="costmodel.costs.operators:build_operators",
        also=("regions.count",),
    ),
    Quantity(
        name="operators.compares",
        label="comparisons",
        unit="count",
        counts="comparisons of top-k and sorts; they are no FLOPs",
        formula="costmodel.layers.operator:Operator.total",
        also=("operators.parts.compares", "regions.compares"),
    ),
    Quantity(
        name="operators.launches",
        label="predicted launches",
        unit="count",
        counts="kernels that the backend launches",
        formula="costmodel.backends.step_kernels:StepKernels.operator_launches",
        by_backend=True,
        also=(
            "regions.launches",
            "operators.launches_by_backend.torch",
            "operators.launches_by_backend.fused",
            "operators.parts.launches",
            "operators.parts.launches_by_backend.torch",
            "operators.parts.launches_by_backend.fused",
        ),
    ),
)
