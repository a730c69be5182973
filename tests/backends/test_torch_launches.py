"""Kernel launches of plain PyTorch against those that the recordings of an H200 hold, leaf by leaf.

The counts agree exactly but for the tables below, which say how many more (or fewer) kernels were
measured. Each entry must hold wherever it applies: a count that comes closer to the measurement,
or a recording made anew that differs, fails here.
"""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from costmodel.costs.operators import build_operators
from costmodel.inputs.catalog import load_model
from costmodel.inputs.workload import Workload
from costmodel.layers.attention import Attention
from costmodel.layers.base import MemoryKind
from costmodel.layers.peer import Peer
from costmodel.layers.site import expanded_paths
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.measured import ExactColumn
from costmodel.recordings.recording import Recording
from tests.backends.kernels import kernels
from tests.committed import OF_TORCH, measured_cases, recording
from tests.reference_model.tiny import small, ultramem_v2

PRODUCTS = (  # cuBLAS adds a kernel where it splits the sum of a product; which, it tells nobody
    "attention.qkv",
    "attention.output",
    "ffn.gate_up",
    "ffn.down",
    "memory.query",
    "memory.pre_projection",
    "memory.output",
    "memory.gate",
    "lm_head",
)
QK_NORM_ROPE = {1: -2, 3: 0}  # at one token the copies before the norms of queries and keys go
FIRST_V2 = -2  # of UltraMem-V2's first layer, whose window of the table needs no shift
ANY = ""
MORE: dict[tuple[str, str], dict[int, int]] = {
    # by model and leaf: from so many tokens of a step on, so many more than counted. The limits are
    # the batches recorded: 3 and 48 show that they lie below 4 and 64
    ("memory-plus-227m-1.2b", "attention.rope"): QK_NORM_ROPE,
    ("engram-227m-1.2b-reconstruction", "attention.rope"): QK_NORM_ROPE,
    ("engram-227m-1.2b-reconstruction", "ngram.gate"): {1: -1, 16: 0},
    ("olmoe-1b-7b", "attention.rope"): QK_NORM_ROPE,
    ("olmoe-227m-1.2b", "attention.rope"): QK_NORM_ROPE,
    ("ultramem-227m-1.2b", "attention.rope"): QK_NORM_ROPE,
    ("ultramemv2-1b-7b", "attention.rope"): QK_NORM_ROPE,
    ("ultramemv2-227m-1.2b", "attention.rope"): QK_NORM_ROPE,
    # PyTorch sorts in more passes the more there is to sort: the accesses of all experts, and the
    # widest rows of a top-k (15 are counted of OLMoE's experts, 29 of UltraMem-V2's retrieval)
    (ANY, "moe.experts"): {1: 3, 1024: 20},
    ("memory-plus-227m-1.2b", "memory.retrieve"): {1: -2, 3: 0, 48: 14, 512: 42},
    ("ultramem-227m-1.2b", "memory.retrieve"): {1: 0, 48: 14, 512: 43},
    ("ultramemv2-1b-7b", "memory.retrieve"): {1: -3, 3: 0, 48: 14, 1024: 42, 8192: 43},
    ("ultramemv2-227m-1.2b", "memory.retrieve"): {1: -3, 3: 0, 1024: 42},
    ("ultramemv2-1b-7b", "memory.pre_values"): {1: 0, 192: 1, 256: 0, 512: 1},  # as read
    ("ultramemv2-227m-1.2b", "memory.pre_values"): {1: 0, 512: 1},
    ("ultramem-227m-1.2b", "memory.values"): {1: 1, 3: 2},
}
DRAWN_ROWS = 3  # of UltraMem: drawn rows become virtual ones by a product, a remainder and a sum
SPLIT_KEYS = 1  # attention's second kernel, which adds up the shares of a sequence's keys
MAX_SPLIT_BATCH = 4  # of the batches recorded, the largest whose decode splits them; the next is 16
LARGE_CACHE = 2**31  # bytes from a step's first new key to its last: beyond, a write takes two
BF16_BYTES = 2  # of all recordings
SINGLE = {  # leaves of kinds that no recording has: one reading at batch 64, context 2,048, of
    # torch.profiler on an H200 with torch 2.11.0+cu130, 2026-11-23; where cuBLAS split, less one
    ("peer-12l-1m", "layers.1.attention.rope"): 25,
    ("peer-12l-1m", "layers.5.memory.retrieve"): 18,
    ("peer-12l-1m", "layers.5.memory.down"): 4,
    ("peer-12l-1m", "layers.5.memory.up"): 2,
    ("deepseek-v2-lite", "layers.1.attention.latent_norm"): 2,
    ("deepseek-v2-lite", "layers.1.attention.rope"): 25,
    ("deepseek-v2-lite", "layers.1.attention.k_up"): 1,
    ("deepseek-v2-lite", "layers.1.attention.v_up"): 2,
    ("deepseek-v2-lite", "layers.1.attention.core"): 2,
    ("deepseek-v2-lite", "layers.1.moe.experts"): 16,
    ("gpt-oss-20b", "layers.1.attention.core"): 8,
    ("gpt-oss-20b", "layers.1.moe.router"): 7,
    ("gpt-oss-20b", "layers.1.moe.experts"): 24,
    ("qwen3-30b-a3b", "layers.1.attention.rope"): 29,
    ("qwen3-30b-a3b", "layers.1.moe.router"): 9,
}


def counted(model: Recording | str, workload: Workload) -> dict[str, Any]:
    """Launches of every leaf by its path."""
    config = load_model(model) if isinstance(model, str) else model.model
    return {
        path: kernels().operator_launches(operator)
        for operator in build_operators(config, workload.step())
        for path in expanded_paths(operator.path)
    }


def more_than_counted(recorded: Recording, work: CaseWorkload, path: str) -> int:
    """How many kernels of a leaf are known to lie beyond those counted."""
    leaf = path.split(".", 2)[-1]
    tokens = work.batch * work.new_tokens
    steps = MORE.get((recorded.preset or "", leaf)) or MORE.get((ANY, leaf)) or {}
    more = max(((start, n) for start, n in steps.items() if start <= tokens), default=(0, 0))[1]
    if leaf == "attention.core" and (work.phase == "prefill" or work.batch <= MAX_SPLIT_BATCH):
        more += SPLIT_KEYS
    if leaf == "attention.rope":
        attention = recorded.model.attention_groups[0][0]
        assert isinstance(attention, Attention)
        lists = work.batch * attention.num_key_value_heads  # of keys, one after the other
        slots = work.context + work.new_tokens
        more += 2 * ((lists - 1) * slots * attention.head_dim * BF16_BYTES > LARGE_CACHE)
    if leaf == "memory.retrieve" and recorded.preset == "ultramem-227m-1.2b":
        more += DRAWN_ROWS * (work.routing != "scores")
    if path in {"layers.0.memory.pre_values", "layers.0.memory.values"}:
        more += FIRST_V2
    return more


@pytest.mark.parametrize("name", [n for n in OF_TORCH if not n.startswith(("again", "grouped"))])
def test_launches_are_those_recorded_but_for_what_is_known(name: str) -> None:
    recorded = recording(name)
    wrong = Counter[tuple[str, int, int]]()
    for _, case in measured_cases(name, "trace"):
        column = case.runs["trace"].operators["launches"]
        assert isinstance(column, ExactColumn)
        expected = counted(recorded, case.workload.to_workload())
        for path, launches in zip(recorded.paths, column.values, strict=True):
            assert launches is not None
            leaf = path.split(".", 2)[-1]
            known = expected[path] + more_than_counted(recorded, case.workload, path)
            if launches - known not in ({0, 1} if leaf in PRODUCTS else {0}):
                wrong[leaf, known, int(launches)] += 1
    assert not wrong


@pytest.mark.parametrize(("model", "path"), SINGLE)
def test_leaves_of_unrecorded_kinds_launch_what_was_read_once(model: str, path: str) -> None:
    assert counted(model, Workload(batch=64, context=2048))[path] == SINGLE[model, path]


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        ({"value_expansion": 2}, {"retrieve": 1, "pre_values": 1, "values": 1}),  # a division each
        (
            {"value_expansion": 2, "value_expansion_outputs": "per_group"},
            {"retrieve": 1, "pre_values": 1, "values": 12},  # and the groups are sorted
        ),
        ({"query_per_rank": True}, {}),
        ({"num_heads": 2}, {"retrieve": 1}),
        ({"num_heads": 2, "query_per_rank": True}, {"retrieve": 2}),  # queries copied for heads
    ],
)
def test_forms_of_ultramem_launch_as_many_more_as_their_models_dispatch(
    fields: dict[str, Any], more: dict[str, int]
) -> None:
    """Differences in the operations that a layer of the reference model dispatches on a CPU."""
    one, other = (launches_of_a_layer(ultramem_v2(**given)) for given in ({}, fields))
    assert {leaf: n - one[leaf] for leaf, n in other.items() if n != one[leaf]} == more


def test_heads_with_tables_of_their_own_launch_two_more() -> None:
    """Where the rows of each head begin, and their sum with the rows chosen."""
    peer = Peer(layers="0", num_keys=6, num_heads=2, knn=4, key_dim=6)
    one, other = (launches_of_a_layer(kind) for kind in (peer, replace(peer, table_per_head=True)))
    assert other == one | {"retrieve": one["retrieve"] + 2}


def launches_of_a_layer(kind: MemoryKind) -> dict[str, int]:
    counted_by_leaf = {}
    for operator in build_operators(small(kind), Workload(batch=64).step()):
        if operator.layer_kind == kind:
            launches = kernels().operator_launches(operator)
            assert isinstance(launches, int)
            counted_by_leaf[operator.leaf.removeprefix("memory.")] = launches
    return counted_by_leaf
