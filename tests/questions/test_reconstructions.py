"""Presets rebuilt from a paper's targets and rules: they say so, and keep the rules they name."""

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


RECONSTRUCTIONS = [name for name in model_names() if load_model(name).assumptions]


def test_a_reconstruction_says_so() -> None:
    assert set(RECONSTRUCTIONS) == {
        "memory-plus-1.3b",
        "moe-2.5b-120b",
        "moe-2.5b-60b",
        "peer-12l-1m",
        "pkm-lm-16l",
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
