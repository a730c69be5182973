"""Kernel launches of plain PyTorch against those that a profiler saw on an H200.

torch.profiler, torch 2.11.0+cu130, one leaf at a time in a decode step of 64 sequences at context
2,048, 2026-11-23, one reading; copies and sets of memory left out. The counts were set from these
readings: this holds them there, and validates nothing. Two things depend on shapes and stay out of
the counts: cuBLAS adds a kernel where it splits a product, and `topk` of a grid of 6,400 takes 14
kernels instead of 2 (UltraMem and Memory+ at 227M: 43 and 32 in all).
"""

import pytest

from costmodel.backends import BACKENDS
from costmodel.costs.operators import build_operators
from costmodel.inputs.catalog import load_model
from costmodel.inputs.workload import Workload
from costmodel.layers.site import expanded_paths

LARGE_TOP_K = 14 - 2
SPLIT = 1
SEEN = {
    ("ultramemv2-227m-1.2b", "layers.1.attention.rope"): 29,
    ("ultramemv2-227m-1.2b", "layers.1.memory.query"): 2,
    ("ultramemv2-227m-1.2b", "layers.1.memory.retrieve"): 29,
    ("ultramemv2-227m-1.2b", "layers.1.memory.pre_values"): 5,
    ("ultramemv2-227m-1.2b", "layers.1.memory.values"): 7,
    ("ultramem-227m-1.2b", "layers.2.memory.retrieve"): 43 - LARGE_TOP_K,
    ("ultramem-227m-1.2b", "layers.2.memory.values"): 19,
    ("memory-plus-227m-1.2b", "layers.4.memory.retrieve"): 32 - LARGE_TOP_K,
    ("memory-plus-227m-1.2b", "layers.4.memory.values"): 2,
    ("peer-12l-1m", "layers.1.attention.rope"): 25,
    ("peer-12l-1m", "layers.5.memory.retrieve"): 18,
    ("peer-12l-1m", "layers.5.memory.down"): 4,
    ("peer-12l-1m", "layers.5.memory.up"): 2,
    ("olmoe-227m-1.2b", "layers.1.moe.router"): 7,
    ("olmoe-227m-1.2b", "layers.1.moe.experts"): 15,
    ("deepseek-v2-lite", "layers.1.attention.latent_norm"): 2,
    ("deepseek-v2-lite", "layers.1.attention.rope"): 25,
    ("deepseek-v2-lite", "layers.1.attention.k_up"): 1,
    ("deepseek-v2-lite", "layers.1.attention.v_up"): 2,
    ("deepseek-v2-lite", "layers.1.attention.core"): 2,
    ("deepseek-v2-lite", "layers.1.moe.experts"): 16,
    ("gpt-oss-20b", "layers.1.attention.core"): 8,
    ("gpt-oss-20b", "layers.1.moe.router"): 8 - SPLIT,
    ("gpt-oss-20b", "layers.1.moe.experts"): 24,
    ("qwen3-30b-a3b", "layers.1.attention.rope"): 29,
    ("qwen3-30b-a3b", "layers.1.moe.router"): 9,
    ("llama-3.1-8b", "layers.1.attention_norm"): 2,
    ("llama-3.1-8b", "layers.1.ffn.gate_up"): 3,
}


@pytest.mark.parametrize(("model", "path"), SEEN)
def test_launches_are_those_seen(model: str, path: str) -> None:
    operators = build_operators(load_model(model), Workload(batch=64, context=2048).step())
    counted = {
        single: BACKENDS["torch"].operator_launches(operator)
        for operator in operators
        for single in expanded_paths(operator.path)
    }
    assert counted[path] == SEEN[model, path]
