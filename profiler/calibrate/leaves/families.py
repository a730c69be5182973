"""Families of random models and steps: sizes drawn at random, as tables of a model and a workload.

Sizes are log-uniform, off powers of two and off the usual batches and contexts; some lie at the
edge of a tile of 128. A draw in small has the same families in sizes that a CPU can run.
"""

from collections.abc import Callable
from math import exp, log
from random import Random
from typing import Any, TypeAlias

EDGE = 128  # elements, tokens or keys of a tile
LEAST_ODD = 9  # the odd part of a width is larger
EDGE_SHARE = 0.15  # of sizes that lie at or one step beyond an edge
TABLE_BYTES = 160e6  # of an LM head: more than L2 holds, so that each copy reads it anew
SMALLER = 16  # times, on a CPU

Table: TypeAlias = dict[str, Any]


class Draws:
    """Random sizes. Only `Random.random` is called, which every Python computes alike."""

    def __init__(self, seed: int, *, small: bool = False) -> None:
        self._uniform, self.small = Random(seed).random, small  # noqa: S311 - no secret

    def chance(self, share: float) -> bool:
        """True in so large a share of draws."""
        return self._uniform() < share

    def of(self, *choices: Any) -> Any:  # noqa: ANN401
        """One of the choices."""
        return choices[int(self._uniform() * len(choices))]

    def size(self, low: float, high: float, multiple: int = 1) -> int:
        """A log-uniform multiple of `multiple`; now and then at a tile's edge.

        It is no power of two, and where multiples are asked for no small multiple of one: widths of
        models mostly are.
        """
        while True:
            value = exp(log(low) + self._uniform() * (log(high) - log(low)))
            size = max(1, round(value / multiple)) * multiple
            if self.small:
                return max(4 // multiple, 1, round(value / SMALLER / multiple)) * multiple
            if value > 2 * EDGE and self.chance(EDGE_SHARE):
                size = round(value / EDGE) * EDGE + (0 if multiple > EDGE else multiple)
            odd = size // (size & -size)
            if odd > (LEAST_ODD if multiple > 1 else 1) and low <= size <= high + multiple:
                return size


def _gqa(draws: Draws, **fixed: Any) -> Table:  # noqa: ANN401
    group = draws.of(1, 2, 3, 4, 5, 6, 7)
    kv_heads = draws.of(1, 2, 3, 4, 5, 6, 7, 10) if group > 1 else draws.of(6, 10, 14, 18, 22)
    return {
        "kind": "gqa",
        "num_attention_heads": kv_heads * group,
        "num_key_value_heads": kv_heads,
        "head_dim": draws.of(64, 128, 128, 256),
        "qk_norm": draws.of("none", "head", "full"),
    } | fixed


def _mla(draws: Draws) -> Table:
    table = {
        "kind": "mla",
        "num_attention_heads": draws.of(6, 10, 12, 20, 24, 40),
        "kv_lora_rank": draws.of(256, 512),
        "qk_nope_head_dim": draws.of(64, 96, 192),
        "qk_rope_head_dim": draws.of(32, 64),
        "v_head_dim": draws.of(64, 96, 160),
    }
    if draws.chance(0.5):
        table["q_lora_rank"] = draws.size(500, 1800, 64)
    return table


def _dense(draws: Draws) -> Table:
    return {"kind": "dense", "intermediate_size": draws.size(700, 15_000, 8)}


def _moe(draws: Draws) -> Table:
    experts = draws.size(10, 190)
    table = {
        "kind": "moe",
        "num_experts": experts,
        "num_experts_per_tok": draws.of(*range(1, min(11, experts // 2))),
        "moe_intermediate_size": draws.size(200, 2600, 8),
        "norm_topk_prob": draws.chance(0.5),
        "scoring": draws.of("softmax", "softmax", "sigmoid", "softmax_of_chosen"),
    }
    if draws.chance(0.4):
        table["shared_intermediate_size"] = draws.size(300, 3000, 8)
    return table


def _ultramem(draws: Draws, *, newer: bool) -> Table:
    table: Table = {
        "kind": "ultramem",
        "layers": "all",
        "knum": draws.size(180, 900),
        "knn": draws.size(11, 127),
        "key_dim": draws.size(100, 700, 8),
        "value_dim": draws.size(150, 1000, 16),
        "num_heads": draws.of(1, 1, 2),
    }
    if newer:
        table |= {"pre_value_dim": draws.size(100, 600, 8), "value_expansion_outputs": "shared"}
    return table


def _product_key(draws: Draws) -> Table:
    return {
        "kind": "product_key",
        "layers": "all",
        "num_keys": draws.size(180, 900),
        "num_heads": draws.of(1, 2, 3, 5),
        "knn": draws.size(9, 100),
        "key_dim": draws.size(100, 600, 8),
        "value_dim": draws.size(200, 1500, 8),
        "gate": draws.chance(0.5),
        "output_projection": True,
        "shared_table": False,
        "replaces_ffn": draws.chance(0.3),
    }


def _peer(draws: Draws) -> Table:
    return {
        "kind": "peer",
        "layers": "all",
        "num_keys": draws.size(150, 500),
        "num_heads": draws.of(2, 3, 5, 6),
        "knn": draws.size(9, 30),
        "key_dim": draws.size(60, 300, 8),
    }


def _decode(draws: Draws, turn: int) -> Table:
    """Batches in five strata, of which each family takes another in each round."""
    low, high = ((1, 1), (2, 12), (13, 62), (65, 250), (260, 1000))[turn % 5]
    batch = 1 if high == 1 else draws.size(low, high)
    return {
        "phase": "decode",
        "batch": batch,
        "context": draws.size(300, 30_000),
        "new_tokens": 1,
    }


def _prefill(draws: Draws) -> Table:
    tokens = draws.size(300, 9000)
    batch = draws.of(1, 1, 2, 3, 5)
    return {
        "phase": "prefill",
        "batch": batch,
        "context": 0,
        "new_tokens": max(3 if draws.small else 130, tokens // batch),
    }


Family = Callable[[Draws, int], tuple[Table, Table]]  # of draws and a turn: model, workload


def _family(
    attention: Callable[[Draws], Table],
    ffn: Callable[[Draws], Table],
    memory: Callable[[Draws], Table] | None = None,
    *,
    prompt: bool = False,
) -> Family:
    def drawn(draws: Draws, turn: int) -> tuple[Table, Table]:
        hidden = draws.size(500, 2800 if ffn is _moe or memory else 6200, 64)
        head = TABLE_BYTES / 2 / hidden  # tokens whose LM head is so large
        model = {
            "hidden_size": hidden,
            "vocab_size": draws.size(head, 2 * head, 8),
            "attention": attention(draws),
            "ffn": ffn(draws),
            "memory": [] if memory is None else [memory(draws)],
        }
        return model, _prefill(draws) if prompt else _decode(draws, turn)

    return drawn


FAMILIES: dict[str, Family] = {
    "gqa, dense": _family(_gqa, _dense),
    "gqa, experts": _family(_gqa, _moe),
    "ultramem with pre-values": _family(_gqa, _dense, lambda draws: _ultramem(draws, newer=True)),
    "gqa, dense, prompt": _family(_gqa, _dense, prompt=True),
    "mla, experts": _family(_mla, _moe),
    "product keys": _family(_gqa, _dense, _product_key),
    "gqa, experts, prompt": _family(_gqa, _moe, prompt=True),
    "window, experts": _family(
        lambda draws: _gqa(draws, sliding_window=draws.size(140, 3000), sinks=draws.chance(0.5)),
        _moe,
    ),
    "ultramem": _family(_gqa, _dense, lambda draws: _ultramem(draws, newer=False)),
    "ultramem with pre-values, prompt": _family(
        _gqa, _dense, lambda draws: _ultramem(draws, newer=True), prompt=True
    ),
    "one-neuron experts": _family(_gqa, _dense, _peer),
    "mla, dense, prompt": _family(_mla, _dense, prompt=True),
}
