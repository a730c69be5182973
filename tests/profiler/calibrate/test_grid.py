"""The shapes that a calibration measures, and how often each stands in a graph."""

from dataclasses import asdict
from functools import cache

from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.model import ModelConfig
from costmodel.layers.attention import Attention as AttentionLayer
from costmodel.layers.mla import LatentAttention
from costmodel.layers.moe import MoeFfn
from costmodel.layers.peer import Peer
from costmodel.layers.product_key import ProductKey
from costmodel.layers.ultramem import UltraMem
from profiler.calibrate.graph_timer import COLD, plan_graph, timing_of_copy
from profiler.calibrate.grid import MAX_OPERAND_BYTES, grid
from profiler.calibrate.operations import (
    TABLE_BYTES,
    AttentionOperation,
    GemmOperation,
    GroupedOperation,
    MoveOperation,
    RowsOperation,
    Timing,
    TopKOperation,
)
from reference_model.model import build_model
from tests.committed import FIRST

CALIBRATED = (AttentionLayer, LatentAttention)
H200_L2 = 62_914_560  # bytes, by its driver


@cache
def presets() -> tuple[ModelConfig, ...]:
    """Those whose every layer has kernels in the grid; no recording is of another."""
    models = (load_model(name) for name in model_names())
    return tuple(
        model
        for model in models
        if all(memory.addressed_by == "scores" for memory in model.memory)
        and all(isinstance(mixer, CALIBRATED) for mixer, _ in model.attention_groups)
        and not any(  # the grid's attention has one head size
            isinstance(mixer, AttentionLayer) and mixer.value_dim != mixer.head_dim
            for mixer, _ in model.attention_groups
        )
    )


def test_every_recording_is_of_such_a_preset() -> None:
    named = {path.stem.removeprefix("h200-") for path in FIRST}
    assert len(named) == 7
    assert all(load_model(name) in presets() for name in named)


@cache
def parameter_shapes() -> frozenset[tuple[int, ...]]:
    return frozenset(
        tuple(parameter.shape)
        for model in presets()
        for parameter in build_model(model, device="meta").parameters()
    )


def test_no_product_has_the_weight_of_a_preset() -> None:
    """A weight of 3 axes is a stack of experts, or of heads."""
    taken = {shape[-2:] for shape in parameter_shapes() if len(shape) == 2}
    experts = {shape[-2:] for shape in parameter_shapes() if len(shape) == 3}
    assert {
        (each.n, each.k) for each in grid()["gemm"] if isinstance(each, GemmOperation)
    }.isdisjoint(taken)
    mine = {(each.n, each.k) for each in grid()["grouped"] if isinstance(each, GroupedOperation)}
    assert mine.isdisjoint(experts)
    assert (4096, 4096) in taken  # Llama 3.1 8B's output projection
    assert (2048, 1024) in experts  # OLMoE's down projection


def test_no_attention_has_the_heads_of_a_preset() -> None:
    taken = {
        (kind.num_attention_heads, kind.num_key_value_heads, kind.head_dim)
        for model in presets()
        for kind, _ in model.attention_groups
        if isinstance(kind, AttentionLayer)
    }
    mine = {
        (each.heads, each.kv_heads, each.head_dim)
        for each in grid()["attention"]
        if isinstance(each, AttentionOperation)
    }
    assert (32, 8, 128) in taken  # Llama 3.1 8B
    assert mine.isdisjoint(taken)


def test_no_choice_is_one_of_a_preset() -> None:
    """Experts by their number; rows by the keys of a side, then by the grid of both sides."""
    taken = set[tuple[int, int]]()
    for model in presets():
        for ffn, _ in model.ffn_groups:
            if isinstance(ffn, MoeFfn):
                taken |= {(ffn.num_experts, ffn.num_experts_per_tok)}
        for memory in model.memory:
            sides: set[int]
            if isinstance(memory, UltraMem):
                count = len(memory.placement(model.num_hidden_layers))
                sides = {memory.row_keys(count) * memory.value_expansion}
                first = memory.first_stage_topk or memory.knn
            else:
                assert isinstance(memory, ProductKey | Peer)
                sides, first = {memory.num_keys}, memory.knn
            taken |= {(side, first) for side in sides} | {(first**2, memory.knn)}
    assert {(64, 8), (1138, 32), (1024, 32)} <= taken  # OLMoE and UltraMemV2 of 227M
    mine = {(each.width, each.chosen) for each in grid()["topk"] if isinstance(each, TopKOperation)}
    assert mine.isdisjoint(taken)


def test_no_row_is_as_wide_as_one_of_a_preset() -> None:
    """Of a value table: whole, or the slice of a Tucker core that embedding_bag reads."""
    widths = {
        memory.value_dim // slices
        for model in presets()
        for memory in model.memory
        if isinstance(memory, UltraMem | ProductKey)
        for slices in (1, memory.tucker_cores if isinstance(memory, UltraMem) else 1)
    }
    assert {96, 384, 2048} <= widths  # UltraMemV2 227M and 1B/7B, Memory+ 1.3B
    mine = {each.row_bytes for each in grid()["rows"] if isinstance(each, RowsOperation)}
    assert mine.isdisjoint({2 * width for width in widths})


def test_operands_stay_within_their_budget() -> None:
    for curve in grid().values():
        assert len(curve) == len(set(curve)) >= 2
        for each in curve:
            assert 0 < each.operand_bytes <= MAX_OPERAND_BYTES == 24 * 2**30
    assert max(
        each.reads * each.row_bytes for each in grid()["rows"] if isinstance(each, RowsOperation)
    ) < (TABLE_BYTES)


def test_the_grid_covers_decode_and_prefill_and_every_size_asked_for() -> None:
    attention = [each for each in grid()["attention"] if isinstance(each, AttentionOperation)]
    assert {each.queries == 1 for each in attention} == {True, False}
    assert all(each.queries in {1, each.keys} for each in attention)
    assert {each.keys for each in attention if each.queries == 1} == {512, 2048, 8192, 32768}
    assert {each.bytes for each in grid()["move"] if isinstance(each, MoveOperation)} >= {
        2**12,
        2**30,
    }
    assert {each.reads for each in grid()["rows"] if isinstance(each, RowsOperation)} >= {32, 2**20}


def test_every_copy_finds_its_operands_outside_l2() -> None:
    """Either each copy has a set of its own, or the sets together pass L2 2.5 times."""
    for curve in grid().values():
        for each in curve:
            for one_s in (1e-6, 5e-5, 2e-3, 2e-2):
                planned = plan_graph(one_s, each.operand_bytes, H200_L2)
                passed = planned.sets * each.operand_bytes >= COLD * H200_L2
                assert passed or planned.sets == planned.copies, (each, planned)
                assert planned.sets <= planned.copies
                assert planned.sets * each.operand_bytes <= COLD * H200_L2 + each.operand_bytes


def test_a_replay_is_long_enough_to_be_timed_and_no_longer() -> None:
    # 8 MiB weights: 2.5 x 60 MiB are 18.75 of them. 1.5 ms are 150 copies of 10 us.
    assert asdict(plan_graph(10e-6, 2**23, H200_L2)) == {"copies": 150, "sets": 19}
    # 1 MiB weights in 100 us: 150 would pass L2, in 15 ms; 50 copies have sets of their own.
    assert asdict(plan_graph(100e-6, 2**20, H200_L2)) == {"copies": 50, "sets": 50}
    # Larger than L2 and slow: a few copies of one set.
    assert asdict(plan_graph(5e-3, 2**30, H200_L2)) == {"copies": 3, "sets": 1}
    # Tiny: as many nodes as a graph takes.
    assert asdict(plan_graph(1e-6, 4096, H200_L2)) == {"copies": 1024, "sets": 1024}


def test_a_timing_is_the_median_replay_by_copy() -> None:
    """Replays of 10 to 50 ms over 10 copies; quartiles lie at the 2nd and the 4th of five."""
    timing = timing_of_copy([0.05, 0.01, 0.03, 0.02, 0.04], copies=10, kernels=20)
    assert timing == Timing(s=0.003, q1_s=0.002, q3_s=0.004, kernels=2)
