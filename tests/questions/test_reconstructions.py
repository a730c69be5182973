"""Presets rebuilt from a paper's targets and rules: they say so, and keep the rules they name."""

from dataclasses import replace

import pytest

from costmodel.costs.predict import step_costs
from costmodel.costs.totals import ParameterCounts
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.workload import Workload
from costmodel.layers.ultramem import UltraMem


def parameters(name: str) -> ParameterCounts:
    return step_costs(load_model(name), Workload().step()).parameters


def test_memory_plus_1_3b() -> None:
    """The table, and 22 Llama layers of which three have no FFN, by hand."""
    attention, ffn, norms = 4 * 2048**2, 3 * 2048 * 5632, 2 * 2048
    dense = 22 * (attention + norms) + 19 * ffn + 2048 + 2 * 32000 * 2048
    query, gate_and_output = 2048 * 4 * 1024, 2 * 2048**2
    keys, key_norms = 2 * 4 * 1024 * 512, 2 * 512
    memory = 3 * (query + gate_and_output + keys + key_norms)
    assert parameters("memory-plus-1.3b").total == dense + memory + 1024**2 * 2048


def test_pkm_and_peer_tables() -> None:
    pkm, peer = parameters("pkm-lm-16l"), parameters("peer-12l-1m")
    assert pkm.by_group["memory_values"] == 2 * 512**2 * 1024
    assert peer.by_group["memory_values"] == 2 * 1024**2 * 768
    assert peer.by_group["memory_keys"] == 2 * 1024 * 128  # the heads share their keys


@pytest.mark.parametrize(
    ("share_ratio", "n", "mflop", "mb", "active"),
    [(0.5, 1493, "167.9", "165.0", "945"), (0.0625, 528, "104.5", "101.7", "913")],
)
def test_what_the_assumed_share_ratio_of_ultramemv2_1b_7b_decides(
    share_ratio: float, n: int, mflop: str, mb: str, active: str
) -> None:
    """The preset's notes state both: keys per side, routing of a token, active parameters."""
    model = load_model("ultramemv2-1b-7b")
    (memory,) = model.memory
    assert isinstance(memory, UltraMem)
    other = replace(model, memory=(replace(memory, share_ratio=share_ratio),))
    costs = step_costs(other, Workload(batch=1).step())
    d, dk, m, c, r = 2048, 512, 128, 2, 2
    scores, merge = 2 * r * 2 * n * dk, 4 * r * n
    grid = c * (2 * m * r**2 + 2 * m**2 * r + m**2)
    query = 2 * d * 2 * dk + 4 * 2 * dk
    flops = 16 * (query + scores + merge + grid + c * m)
    weights = 2 * d * dk + 2 * n * r * dk + c * r**2 + dk  # the norm of the query
    read = 16 * (2 * weights + 8 * m)  # and 128 entries of the permutation
    assert costs.routing.flops == flops
    assert costs.routing.compulsory_bytes == pytest.approx(read, rel=1e-12)
    attention, ffn = 4 * d**2 + 2 * 128, 3 * d * 5632
    layer = attention + ffn + 2 * d + weights + dk + d * 384 + 768 * d + m * (768 + 384)
    found = costs.parameters.active_without_embeddings
    assert found == 16 * layer + d
    assert (f"{flops / 1e6:.1f}", f"{read / 1e6:.1f}", f"{found / 1e6:.0f}") == (mflop, mb, active)
    assert f"{mflop} " in model.notes[1]
    assert f"{active} " in model.notes[1]


def test_value_expansion_of_ultramemv2_1b_7b_would_not_widen_its_output() -> None:
    """16 layers of 2 Dv D = 50.3 MFLOP a token, not t^2 times as many."""
    model = load_model("ultramemv2-1b-7b")
    (memory,) = model.memory
    assert isinstance(memory, UltraMem)

    def output_flops(memory: UltraMem) -> float:
        step = Workload(batch=1).step()
        (output,) = [
            op
            for op in step_costs(replace(model, memory=(memory,)), step).operators
            if op.leaf == "memory.output"
        ]
        return output.count * float(output.total("flops"))

    expanded = replace(memory, value_expansion=2)
    assert output_flops(memory) == output_flops(expanded) == 16 * 2 * 768 * 2048 == 50_331_648
    groups = replace(expanded, value_expansion_outputs="per_group")
    assert output_flops(groups) == 4 * 50_331_648


def test_queries_of_each_rank_bring_ultramemv2_1b_7b_to_6_11_b() -> None:
    model = load_model("ultramemv2-1b-7b")
    (memory,) = model.memory
    assert isinstance(memory, UltraMem)
    found = step_costs(
        replace(model, memory=(replace(memory, query_per_rank=True),)), Workload(batch=1).step()
    )
    before = step_costs(model, Workload(batch=1).step())
    assert round(found.parameters.total_without_embeddings / 1e9, 2) == 6.11
    more = found.parameters.total - before.parameters.total
    assert more == 16 * 2048 * 2 * 512  # 33.6 M, as the notes say
    projected = 16 * 2 * 2048 * 2 * 512  # 67.1 MFLOP
    assert found.routing.flops - before.routing.flops == projected + 16 * 4 * 2 * 512


RECONSTRUCTIONS = [name for name in model_names() if load_model(name).assumptions]


def test_a_reconstruction_says_so() -> None:
    assert set(RECONSTRUCTIONS) == {
        "engram-1b-7b-reconstruction",
        "engram-227m-1.2b-reconstruction",
        "engram-demo-30l-reconstruction",
        "engram-v4.1-flash-moe-reconstruction",
        "memory-plus-1.3b",
        "moe-2.5b-120b",
        "moe-2.5b-60b",
        "peer-12l-1m",
        "pkm-lm-16l",
        "ple-qwen3.8-flash-next-reconstruction",
        "ultramemv2-1b-7b",
        "ultramemv2-2.5b-120b",
        "ultramemv2-2.5b-60b",
    }
    for name in model_names():
        assert load_model(name).name.endswith(" (reconstruction)") == (name in RECONSTRUCTIONS)


@pytest.mark.parametrize(("size", "rows", "share"), [("120b", 256, 0.171), ("60b", 768, 0.175)])
def test_reconstruction_keeps_the_design_rules(size: str, rows: int, share: float) -> None:
    model = load_model(f"ultramemv2-2.5b-{size}")
    (memory,) = model.memory
    assert isinstance(memory, UltraMem)
    assert len(memory.placement(model.num_hidden_layers)) == model.num_hidden_layers
    assert memory.num_heads == 1
    assert memory.key_dim * 2 == model.hidden_size
    assert memory.pre_value_dim is not None
    assert memory.value_dim == 3 * memory.pre_value_dim
    assert memory.knn == rows
    assert memory.first_stage_topk == 128
    d, dk, dv, dp = model.hidden_size, memory.key_dim, memory.value_dim, memory.pre_value_dim
    n = memory.row_keys(model.num_hidden_layers)
    used = 2 * d * dk + 2 * n * 2 * dk + d * dv + d * dp + rows * (dv + dp)
    counts = parameters(f"ultramemv2-2.5b-{size}")
    found = model.num_hidden_layers * used / counts.active_without_embeddings
    assert round(found, 3) == share


@pytest.mark.parametrize(("size", "total"), [("120b", 120e9), ("60b", 60e9)])
def test_reconstructed_pairs_match(size: str, total: float) -> None:
    memory, moe = parameters(f"ultramemv2-2.5b-{size}"), parameters(f"moe-2.5b-{size}")
    for counts in (memory, moe):
        assert counts.active_without_embeddings == pytest.approx(2.5e9, rel=1e-3)
        assert counts.total_without_embeddings == pytest.approx(total, rel=5e-3)
    assert memory.active_without_embeddings == pytest.approx(
        moe.active_without_embeddings, rel=4e-4
    )
    assert memory.total_without_embeddings == pytest.approx(moe.total_without_embeddings, rel=7e-4)
    pair = [load_model(f"{kind}-2.5b-{size}") for kind in ("ultramemv2", "moe")]
    assert pair[0].attention == pair[1].attention
    assert pair[0].num_hidden_layers == pair[1].num_hidden_layers
    assert pair[0].hidden_size == pair[1].hidden_size


@pytest.mark.parametrize(
    ("name", "twin", "apart", "active_share"),
    [
        ("engram-227m-1.2b-reconstruction", "ultramemv2-227m-1.2b", 2_048, -0.0032),
        ("engram-1b-7b-reconstruction", "ultramemv2-1b-7b", 38_272, -0.0054),
    ],
)
def test_engram_models_are_as_large_as_their_ultramemv2_twins(
    name: str, twin: str, apart: int, active_share: float
) -> None:
    found, wanted = parameters(name), parameters(twin)
    assert found.total - wanted.total == apart
    assert f" {apart:,} " in load_model(name).notes[0]
    share = found.active_without_embeddings / wanted.active_without_embeddings - 1
    assert round(share, 4) == active_share
    for field in ("attention", "hidden_size", "num_hidden_layers", "vocab_size"):
        assert getattr(load_model(name), field) == getattr(load_model(twin), field)


def test_the_memory_of_the_small_engram_model_by_hand() -> None:
    """Two layers: 16 columns of 48, a key, a value, their biases, and the convolution."""
    d, columns = 768, 16 * 48
    projections = 2 * (columns * d + d)
    conv, norms = 4 * d, 3 * d
    counts = parameters("engram-227m-1.2b-reconstruction").by_group
    assert counts["memory_projections"] == 2 * (projections + conv)
    assert counts["norm"] == 20 * (2 * d + 2 * 64) + d + 2 * norms
    assert counts["memory_values"] % 48 == 0
    assert 32 * 648_060 < counts["memory_values"] / 48 < 32 * 648_060 * 1.001
