"""Numbers that stand in sentences of the pages and come from predictions, by name.

Nearly all are read from the JSON of a command, as a user would read them.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from costmodel.costs.roofline import PROMISE
from costmodel.costs.step import step_costs
from costmodel.inputs.catalog import load_model
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.attention import Attention
from costmodel.layers.ultramem import UltraMem
from costmodel.routing.popularity import UNIFORM_OVERSTATES
from docs.commands import json_of
from docs.tables import LARGE, SMALL
from docs.wording import listed, span

EVERY_BATCH = ",".join(map(str, range(1, 65)))  # the largest ratio of bytes lies among these
LARGE_BATCHES = "64,256,1024,4096"
GROUPED_HEADS = 4  # key-value heads in place of the 16 of the large pair
GROUPED_BATCHES = (16, 64)


def predicted_values() -> dict[str, str]:
    """All of them."""
    return published() | pairs() | grouped_heads() | sharing() | figure_1c() | sentences()


def published() -> dict[str, str]:
    """How many published or hand-derived numbers are compared, and how many agree."""
    targets = json_of("sparsecost reproduce")
    return {
        "published_compared": f"{len(targets)}",
        "published_agree": f"{sum(target['agrees'] for target in targets)}",
    }


def figure_1c() -> dict[str, str]:
    """UltraMem's Figure 1(c): ratios as printed, and with the KV cache."""
    ratios: dict[str, list[str]] = {}
    for target in json_of("sparsecost reproduce"):
        if "MoE reads so many times more" in target["what"]:
            ratios.setdefault(target["convention"], []).append(target["shown"])
    printed, with_kv, _ = ratios.values()
    return {"figure_printed": listed(printed), "figure_with_kv": listed(with_kv)}


def pairs() -> dict[str, str]:
    """The MoE over the memory model of both published pairs, decode at 2,048 cached tokens."""
    small, large = (_quotients(pair, EVERY_BATCH) for pair in (SMALL, LARGE))
    at_large_batches = [
        ratio
        for pair in (SMALL, LARGE)
        for ratio in _quotients(pair, LARGE_BATCHES)["weights_bytes"]
    ]
    at_one = [_step(name) for pair in (SMALL, LARGE) for name in pair]
    routing = [
        {key: memory["routing"][key] / moe["routing"][key] for key in moe["routing"] if key in KEYS}
        for moe, memory in (at_one[:2], at_one[2:])
    ]
    counts = [step["parameters"] for step in at_one[2:]]
    fewer = {
        key: f"{100 * (1 - counts[1][key] / counts[0][key]):.0f} %"
        for key in ("total_without_embeddings", "active_without_embeddings")
    }
    ((first, last),) = _advantage(LARGE, "time.predicted_s")
    return {
        "pair_small_bytes_most": f"{max(small['compulsory_bytes']):.2f}",
        "pair_large_bytes_most": f"{max(large['compulsory_bytes']):.2f}",
        "pair_large_sparse_bytes_most": f"{max(large['sparse']):.1f}",
        "weights_fewer": span(at_large_batches, ".1f"),
        "routing_flops_more": span((step["flops"] for step in routing), ".0f"),
        "routing_bytes_more": span((step["hbm_bytes"] for step in routing), ".0f"),
        "routing_launches_more": span((step["launches"] for step in routing), ".1f"),
        "pair_large_total_fewer": fewer["total_without_embeddings"],
        "pair_large_active_fewer": fewer["active_without_embeddings"],
        "pair_large_predicted_wins": f"{first:,} to {last:,}",
    }


def grouped_heads() -> dict[str, str]:
    """Compulsory bytes of the large pair as published, and if both had few key-value heads."""
    published_pair = [load_model(name) for name in LARGE]
    grouped_pair = [_with_kv_heads(model, GROUPED_HEADS) for model in published_pair]
    ratios = [
        [f"{_bytes_ratio(pair, batch):.2f}" for batch in GROUPED_BATCHES]
        for pair in (published_pair, grouped_pair)
    ]
    return {
        "pair_large_bytes_multi_head": listed(ratios[0]),
        "pair_large_bytes_grouped": listed(ratios[1]),
    }


def _with_kv_heads(model: ModelConfig, kv_heads: int) -> ModelConfig:
    attention = model.attention
    assert isinstance(attention, Attention)
    return replace(model, attention=replace(attention, num_key_value_heads=kv_heads))


def _bytes_ratio(pair: Sequence[ModelConfig], batch: int) -> float:
    """Compulsory bytes of the MoE over the memory model's, decode at 2,048 cached tokens."""
    step = Workload(batch=batch, context=2048).step()
    moe, memory = (float(step_costs(model, step).totals.compulsory_bytes) for model in pair)
    return moe / memory


def sentences() -> dict[str, str]:
    """What a roofline bound promises, and which way uniform routing errs, as tables say it."""
    return {"bound_promise": PROMISE, "uniform_overstates": UNIFORM_OVERSTATES}


def sharing() -> dict[str, str]:
    """Routing MFLOP of a token of UltraMemV2-1B/7B, as its preset and without a shared table."""
    model = load_model(LARGE[1])
    (memory,) = model.memory
    assert isinstance(memory, UltraMem)
    unshared = replace(model, memory=(replace(memory, share_ratio=1 / model.num_hidden_layers),))
    one, other = (
        step_costs(config, Workload(batch=1).step()).routing.flops for config in (model, unshared)
    )
    return {"routing_shared": f"{one / 1e6:.1f}", "routing_unshared": f"{other / 1e6:.1f}"}


KEYS = ("flops", "hbm_bytes", "launches")


def _step(model: str) -> Any:  # noqa: ANN401 - JSON
    return json_of(f"sparsecost predict {model} --batch 1 --context 2048")


def _compared(pair: tuple[str, str], batches: str) -> Any:  # noqa: ANN401 - JSON
    return json_of(f"sparsecost compare {' '.join(pair)} --context 2048 --batch {batches}")


def _advantage(pair: tuple[str, str], metric: str) -> list[tuple[int, int]]:
    """The batches, first to last, at which the memory model needs less of it."""
    (found,) = (
        advantage["batches"]
        for advantage in _compared(pair, LARGE_BATCHES)["advantages"]
        if advantage["metric"] == metric
    )
    return [tuple(batches) for batches in found]


def _quotients(pair: tuple[str, str], batches: str) -> dict[str, list[float]]:
    """By quantity: the MoE over the memory model at each batch; `sparse`: weights and rows."""
    rows = _compared(pair, batches)["rows"]
    quotients: dict[str, list[float]] = {"compulsory_bytes": [], "weights_bytes": [], "sparse": []}
    for moe, memory in zip(rows[::2], rows[1::2], strict=True):
        for quantity in ("compulsory_bytes", "weights_bytes"):
            quotients[quantity].append(moe[quantity] / memory[quantity])
        quotients["sparse"].append(_sparse(moe) / _sparse(memory))
    return quotients


def _sparse(row: dict[str, float]) -> float:
    return row["weights_bytes"] + row["table_rows_bytes"]
