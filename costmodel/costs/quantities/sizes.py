"""Quantities of a model and of what must be resident: parameters, KV cache, memory."""

from costmodel.costs.quantities.quantity import Quantity

_COUNTS = "costmodel.costs.totals:parameter_counts"
_CACHE = "costmodel.costs.totals:kv_cache"
_FOOTPRINT = "costmodel.costs.footprint:footprint"
_GROUPS = {
    "embedding": ("embedding parameters", "the table of token embeddings; a tied one counts here"),
    "lm_head": ("LM head parameters", "the output projection to the vocabulary, where untied"),
    "attention": ("attention parameters", "projections, biases and norms of queries and keys"),
    "router": ("router parameters", "the projections that score experts"),
    "experts": ("expert parameters", "all routed experts"),
    "shared_experts": ("shared-expert parameters", "experts that every token runs"),
    "ffn": ("FFN parameters", "dense feed-forward layers"),
    "memory_keys": ("memory-key parameters", "keys that a memory layer's queries are scored with"),
    "memory_values": ("memory-value parameters", "the rows of memory tables, a shared table once"),
    "memory_projections": ("memory-projection parameters", "queries, gates and outputs of memory"),
    "residual": (
        "residual-stream parameters",
        "streams (AltUp, gated, hyper-connections) and low-rank residuals (LAUREL)",
    ),
    "norm": ("norm parameters", "the scales of norms between layers"),
}

PARAMETERS = (
    Quantity(
        name="parameters.total",
        label="total parameters",
        unit="parameters",
        counts="all weights, norms and biases in; a tied or shared table once",
        leaves_out="buffers that are not learnt",
        formula=_COUNTS,
    ),
    Quantity(
        name="parameters.total_without_embeddings",
        label="total parameters without embeddings",
        unit="parameters",
        counts="all weights but the embedding table and the LM head",
        leaves_out="buffers that are not learnt",
        formula=_COUNTS,
        also=("rows.total_without_embeddings",),
    ),
    Quantity(
        name="parameters.active_without_embeddings",
        label="active parameters without embeddings",
        short="active, no embeddings",
        unit="parameters",
        counts="what one token uses: k of E experts, H m rows of a memory layer, all else whole",
        formula=_COUNTS,
        also=("rows.active_without_embeddings",),
    ),
    Quantity(
        name="parameters.active_with_lm_head",
        label="active parameters with LM head",
        unit="parameters",
        counts="what one token uses, and the LM head",
        formula=_COUNTS,
    ),
    Quantity(
        name="parameters.active_with_embeddings",
        label="active parameters with embeddings",
        unit="parameters",
        counts="what one token uses, the LM head and the embedding table; a tied table once",
        formula=_COUNTS,
    ),
)

PARAMETER_GROUPS = tuple(
    Quantity(
        name=f"parameters.by_group.{group}",
        label=label,
        unit="parameters",
        counts=counts,
        formula=_COUNTS,
    )
    for group, (label, counts) in _GROUPS.items()
)

KV_CACHE = (
    Quantity(
        name="kv_cache.bytes_per_token",
        label="KV cache per token",
        unit="bytes",
        counts="what one more token adds over all layers, while every window still holds it",
        formula="costmodel.costs.totals:kv_bytes_per_token",
        also=("rows.kv_bytes_per_token",),
    ),
    Quantity(
        name="kv_cache.side_cache_bytes_per_token",
        label="indexer keys per token",
        unit="bytes",
        counts="those of a token's KV bytes that only choose what is attended to, over all layers",
        formula="costmodel.costs.totals:side_bytes_per_token",
    ),
    Quantity(
        name="kv_cache.stored_bytes",
        label="KV cache stored",
        unit="bytes",
        counts="after the step: B sequences of S + T tokens; windows no more, unless kept whole",
        leaves_out="capacity that a static cache allocates and does not fill",
        formula="costmodel.costs.totals:kept_bytes",
    ),
    Quantity(
        name="kv_cache.read_bytes",
        label="KV cache read",
        unit="bytes",
        counts="the cached tokens that the step reads, each once",
        formula=_CACHE,
        also=("rows.kv_read_bytes",),
    ),
    Quantity(
        name="kv_cache.written_bytes",
        label="KV cache written",
        unit="bytes",
        counts="the new tokens that the step adds",
        formula=_CACHE,
    ),
)

STATE = (
    Quantity(
        name="kv_cache.state_bytes_per_sequence",
        label="recurrent state per sequence",
        unit="bytes",
        counts="what recurrent layers keep of one sequence, whatever its context; of compressed"
        " attention the tokens whose entry is not whole yet",
        formula=_CACHE,
    ),
    Quantity(
        name="kv_cache.state_bytes",
        label="recurrent state stored",
        unit="bytes",
        counts="the states of the B sequences",
        formula="costmodel.costs.totals:kv_cache",
    ),
)

MEMORY = (
    Quantity(
        name="memory.weights_bytes",
        label="weights stored",
        unit="capacity",
        counts="all weights in their formats, scales and zero points in; a shared one once",
        formula="costmodel.costs.footprint:stored_bytes",
        also=("rows.stored_weights_bytes",),
    ),
    Quantity(
        name="memory.buffers_bytes",
        label="buffers stored",
        unit="capacity",
        counts="permutations and vectors that are kept and not learnt",
        formula="costmodel.costs.footprint:stored_bytes",
    ),
    Quantity(
        name="memory.kv_bytes",
        label="KV cache in memory",
        unit="capacity",
        counts="the KV cache stored after the step",
        formula=_FOOTPRINT,
    ),
    Quantity(
        name="memory.state_bytes",
        label="recurrent state in memory",
        unit="capacity",
        counts="the recurrent state stored",
        formula=_FOOTPRINT,
    ),
    Quantity(
        name="memory.towers_bytes",
        label="towers stored",
        unit="capacity",
        counts="vision towers and projectors of a multimodal model, which no text step reads",
        leaves_out="towers that the model's notes name as left out",
        formula=_FOOTPRINT,
    ),
    Quantity(
        name="memory.activations_bytes",
        label="activations at the widest operator",
        unit="capacity",
        counts="two copies of the residual stream, and the tensors of the largest operator",
        leaves_out="what fused kernels save: an upper estimate",
        formula=_FOOTPRINT,
    ),
    Quantity(
        name="memory.total_bytes",
        label="memory needed",
        unit="capacity",
        counts="weights, buffers, KV cache, recurrent state, towers and activations",
        leaves_out="the CUDA context, fragmentation of the allocator, workspaces of libraries",
        formula=_FOOTPRINT,
        also=("rows.memory_bytes",),
    ),
    Quantity(
        name="memory.capacity_bytes",
        label="GPU memory",
        unit="capacity",
        counts="the capacity that the GPU's driver reports",
        formula="costmodel.inputs.hardware:Hardware",
    ),
    Quantity(
        name="memory.fits",
        label="fits GPU memory",
        unit="bool",
        counts="whether the memory needed is within the capacity",
        leaves_out="the CUDA context and slack of the allocator",
        formula=_FOOTPRINT,
        also=("rows.fits",),
    ),
    Quantity(
        name="memory.max_batch",
        label="largest batch that fits",
        unit="count",
        counts="sequences of this context within the capacity; 0 if not one fits",
        leaves_out="the CUDA context and slack of the allocator",
        formula=_FOOTPRINT,
        also=("rows.max_batch",),
    ),
    Quantity(
        name="memory.kv_room_bytes",
        label="memory left for KV cache",
        unit="capacity",
        counts="the capacity without weights, buffers, towers and a cache of hot rows",
        leaves_out="activations, the CUDA context and slack of the allocator",
        formula="costmodel.costs.footprint:Footprint.kv_room_bytes",
        also=("rows.kv_room_bytes",),
    ),
    Quantity(
        name="memory.kv_room_tokens",
        label="cached tokens that fit there",
        unit="tokens",
        counts="memory left for KV cache over KV cache per token: of all sequences together",
        leaves_out="windows, beyond which a token takes less; states, activations",
        formula="costmodel.costs.footprint:Footprint.kv_room_tokens",
        also=("rows.kv_room_tokens",),
        none_because="the model keeps no KV cache",
    ),
)

MAX_CONTEXT = Quantity(
    name="memory.max_context",
    label="largest context that fits",
    unit="tokens",
    counts="cached tokens of each sequence with which a step of this batch is within the capacity",
    leaves_out="the CUDA context and slack of the allocator",
    formula="costmodel.questions.capacity:max_context",
    none_because="the step does not fit even with no cached token",
)
