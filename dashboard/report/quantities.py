"""The quantities of a step that a report shows: their names in the JSON, in words, and units.

Names are those of `predict --json`, joined by dots. `usd_per_million_tokens` follows from a price.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from costmodel import units
from costmodel.costs import columns
from costmodel.recordings import quantities

Unit: TypeAlias = Literal[
    "parameters",
    "count",
    "flops",
    "bytes",
    "capacity",
    "s",
    "j",
    "tokens_per_s",
    "share",
    "usd",
    "verdict",
    "word",
]
Value: TypeAlias = int | float | bool | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """One quantity: its name, what a reader calls it, and its unit."""

    name: str
    title: str
    unit: Unit


PRICE = "cost.usd_per_million_tokens"

LISTED: tuple[tuple[str, str, Unit], ...] = (
    ("parameters.total", "parameters, with embeddings", "parameters"),
    ("parameters.total_without_embeddings", "parameters, without embeddings", "parameters"),
    (
        "parameters.active_without_embeddings",
        "active parameters, without embeddings",
        "parameters",
    ),
    ("parameters.active_with_lm_head", "active parameters, with the LM head", "parameters"),
    (
        "parameters.active_with_embeddings",
        "active parameters, with both embeddings",
        "parameters",
    ),
    ("kv_cache.bytes_per_token", "KV cache per token", "bytes"),
    ("kv_cache.stored_bytes", "KV cache stored after the step", "capacity"),
    ("kv_cache.read_bytes", "KV cache read by the step", "bytes"),
    ("kv_cache.written_bytes", "KV cache written by the step", "bytes"),
    ("flops.total", "FLOPs of the step", "flops"),
    ("flops.per_token", "FLOPs per token", "flops"),
    ("hbm_bytes.compulsory", "HBM bytes, compulsory", "bytes"),
    ("hbm_bytes.weights", "of them weights touched", "bytes"),
    ("hbm_bytes.kv", "of them KV cache read and written", "bytes"),
    ("hbm_bytes.table_rows", "of them memory-table rows", "bytes"),
    ("hbm_bytes.indices", "of them permutation entries", "bytes"),
    ("hbm_bytes.io", "of them token ids and logits", "bytes"),
    ("hbm_bytes.activations", "activations between operators, not in the sum", "bytes"),
    ("time.floor_s", "floor time", "s"),
    ("time.bound_by", "the floor is bound by", "word"),
    ("time.floor_tokens_per_s", "tokens per second at the floor", "tokens_per_s"),
    ("time.predicted_s", "predicted time", "s"),
    ("time.predicted_graph_s", "predicted time as a CUDA graph", "s"),
    ("time.predicted_eager_s", "predicted time launched one by one", "s"),
    ("time.tokens_per_s", "predicted tokens per second", "tokens_per_s"),
    ("energy.predicted_j", "predicted energy of the step", "j"),
    ("energy.j_per_token", "predicted energy per token", "j"),
    (PRICE, "predicted cost of a million tokens of such steps, USD", "usd"),
    ("memory.weights_bytes", "memory: weights", "capacity"),
    ("memory.buffers_bytes", "memory: permutations and other buffers", "capacity"),
    ("memory.kv_bytes", "memory: KV cache", "capacity"),
    ("memory.activations_bytes", "memory: activations at the widest operator", "capacity"),
    ("memory.total_bytes", "memory in all", "capacity"),
    ("memory.capacity_bytes", "memory of the GPU", "capacity"),
    ("memory.fits", "fits the GPU", "verdict"),
    ("memory.max_batch", "largest batch of this context that fits", "count"),
    ("routing.flops", "routing: FLOPs", "flops"),
    ("routing.compares", "routing: compares", "count"),
    ("routing.hbm_bytes", "routing: HBM bytes", "bytes"),
    ("routing.launches", "routing: kernel launches", "count"),
    ("routing.time_s", "routing: predicted time as part of a graph", "s"),
    ("routing.share_of_time", "routing: share of the graph's time", "share"),
    ("routing.expected_distinct_experts", "distinct experts, mean over MoE layers", "count"),
    ("routing.expected_distinct_rows", "distinct rows, mean over memory layers", "count"),
    (
        "routing.expected_distinct_rows_union",
        "distinct rows, over the layers of a shared table",
        "count",
    ),
)
REPORTED = tuple(Reported(name=name, title=title, unit=unit) for name, title, unit in LISTED)
BY_NAME = {quantity.name: quantity for quantity in REPORTED}
MAY_LACK = frozenset(  # what a model without experts, no calibration or no price leaves unknown
    (
        PRICE,
        *columns.PREDICTED,
        *(name for name in BY_NAME if name.startswith("routing.expected_distinct")),
    )
)


def is_of(quantity: Reported, value: Value) -> bool:
    """Whether a value is of the quantity's type, or may be unknown."""
    unit = quantity.unit
    if value is None:
        return quantity.name in MAY_LACK
    if unit == "verdict":
        return isinstance(value, bool)
    if unit == "word":
        return isinstance(value, str)
    return isinstance(value, int | float) and not isinstance(value, bool)


FORMS: dict[str, Callable[[float], str]] = {  # by unit; all others are counts
    "parameters": lambda value: units.parameters(int(value)),
    "flops": units.flops,
    "bytes": units.traffic,
    "capacity": units.capacity,
    "s": lambda value: units.seconds(float(value)),
    "j": lambda value: units.scaled(value, "J"),
    "w": lambda value: units.scaled(value, "W"),
    "tokens_per_s": lambda value: units.scaled(value, "token/s"),
    "share": lambda value: f"{units.significant(100 * float(value), 3)} %",
    "usd": lambda value: f"{units.significant(float(value))} USD",
}


def formatted(unit: Unit | quantities.Unit, value: Value) -> str:
    """A value as people read it, unit and all; n/a where it is not known."""
    if value is None:
        return units.NOT_KNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    return FORMS.get(unit, units.count)(value)
