"""On a real GPU: a small model through the four runs, and what must hold of their numbers.

The widest weights pass L2 together, so that what a step reads is known from shapes alone.
"""

import statistics
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from costmodel.inputs.model import ModelConfig
from costmodel.layers.attention import Attention
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.moe import MoeFfn
from costmodel.layers.ultramem import UltraMem
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.measured import Exact, ExactColumn, Missing, Spread
from costmodel.recordings.measured import SpreadColumn as Columns
from costmodel.recordings.quantities import RunName, unknown_names
from costmodel.recordings.recording import RunResult
from profiler.instruments.cupti import CounterError
from profiler.instruments.flush import L2Flush
from profiler.instruments.kernels import kernels_by_path
from profiler.instruments.timing import cuda_seconds
from profiler.runs.bench import TorchBench
from profiler.runs.case import PreparedCase
from reference_model.model import build_model
from reference_model.routing import selectors
from tests.steps import tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

WIDTH, FFN, VOCABULARY, LAYERS = 2048, 16384, 32000, 3
HEADS = Attention(num_attention_heads=16, num_key_value_heads=4, head_dim=128)
DENSE: dict[str, Any] = {
    "hidden_size": WIDTH,
    "vocab_size": VOCABULARY,
    "num_hidden_layers": LAYERS,
    "attention": HEADS,
    "ffn": DenseFfn(intermediate_size=FFN),
}
MEMORY = UltraMem(
    layers="0:1", knum=64, knn=16, key_dim=64, value_dim=64, pre_value_dim=64, num_heads=2
)
MODELS: dict[str, ModelConfig] = {
    "dense": tiny_model(**DENSE),
    "moe": tiny_model(
        **(
            DENSE
            | {"ffn": MoeFfn(num_experts=16, num_experts_per_tok=2, moe_intermediate_size=1024)}
        )
    ),
    "memory": tiny_model(**DENSE, memory=(MEMORY,)),
}
WORK = CaseWorkload(
    phase="decode", batch=4, context=512, new_tokens=1, dtype="bf16", routing="uniform"
)
PROMPT = CaseWorkload(
    phase="prefill", batch=1, context=0, new_tokens=512, dtype="bf16", routing="uniform"
)
BOTH = pytest.mark.parametrize("workload", [WORK, PROMPT], ids=["decode", "prefill"])
SEED = 11


@pytest.fixture
def benches() -> Iterator[dict[str, TorchBench]]:
    """The open one by name; it is closed, so that the next test has the GPU to itself."""
    made: dict[str, TorchBench] = {}
    yield made
    for bench in made.values():
        bench.close()


def measured(
    benches: dict[str, TorchBench], run: RunName, name: str, workload: CaseWorkload
) -> RunResult:
    if name in benches:
        benches[name].close()
    bench = TorchBench(MODELS[name], run=run, device="cuda", dtype="bf16", weights_seed=0)
    benches[name] = bench
    try:
        result = bench.measure(workload, SEED)
    except CounterError as error:
        pytest.skip(f"no counters here: {error}")
    assert unknown_names(result.step, run, "step") == []
    assert unknown_names(result.operators, run, "operators") == []
    return result


def median(quantity: object) -> float:
    assert isinstance(quantity, Spread)
    return quantity.median


def column(quantity: object, paths: tuple[str, ...]) -> dict[str, float]:
    """Every leaf has a number."""
    values = quantity.median if isinstance(quantity, Columns) else None
    if isinstance(quantity, ExactColumn):
        values = quantity.values
    assert values is not None
    by_path = dict(zip(paths, values, strict=True))
    assert None not in by_path.values()
    return {path: float(value) for path, value in by_path.items() if value is not None}


def at(values: dict[str, float], leaf: str) -> float:
    return sum(value for path, value in values.items() if path.endswith(leaf))


@BOTH
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_no_kernel_runs_outside_a_leaf(name: str, workload: CaseWorkload) -> None:
    model = build_model(MODELS[name], device="cuda").fold()
    case = PreparedCase(model, workload, SEED)
    case.run()
    torch.cuda.synchronize()
    sums_of_steps = kernels_by_path(case.run, case.within, case.paths, steps=3)
    assert len(sums_of_steps) == 3
    for sums in sums_of_steps:
        assert (sums.outside_launches, sums.outside_seconds) == (0, 0.0)
        assert set(sums.launches) == set(sums.seconds) == set(model.leaves())
        assert sums.launches["lm_head"] <= 2  # a product, split or not
        assert sums.launches == sums_of_steps[0].launches


@BOTH
@pytest.mark.parametrize("name", MODELS)
def test_times_of_a_step(name: str, workload: CaseWorkload, benches: dict[str, TorchBench]) -> None:
    traced = measured(benches, "trace", name, workload)
    result = measured(benches, "time", name, workload)
    step, paths = result.step, benches[name].paths
    graph, eager, kernels = (
        median(each) for each in (step["graph_s"], step["eager_s"], traced.step["kernel_s"])
    )
    assert graph < 1.1 * eager
    # a replay has gaps between its kernels, and overlaps no two of them
    assert 0.5 * graph < kernels < 1.5 * graph
    assert sum(column(traced.operators["kernel_s"], paths).values()) == pytest.approx(
        kernels, rel=0.1
    )
    launches = traced.step["launches"]
    assert isinstance(launches, Exact)
    assert sum(column(traced.operators["launches"], paths).values()) == launches.value
    resident, peak = step["resident_memory_bytes"], step["peak_memory_bytes"]
    parameters, kv = step["parameters"], step["kv_allocated_bytes"]
    assert isinstance(resident, Exact)
    assert isinstance(peak, Exact)
    assert isinstance(parameters, Exact)
    assert isinstance(kv, Exact)
    tensors = 2 * parameters.value + kv.value
    assert tensors <= resident.value < 1.02 * tensors + 2**24
    assert resident.value < peak.value < resident.value + 2**29
    assert result.conditions.sm_clock_mhz is not None


def test_a_replay_takes_as_long_as_in_a_loop_that_chooses_tokens() -> None:
    """Its state must be that of decoding, not the one that eager steps leave behind."""
    model = build_model(tiny_model(**(DENSE | {"num_hidden_layers": 48, "hidden_size": 512,
        "ffn": DenseFfn(intermediate_size=1024)})), device="cuda").fold()  # fmt: skip
    case = PreparedCase(model, WORK, SEED)
    case.run()
    replay, flush = case.captured(), L2Flush()
    timed = cuda_seconds(replay, case.run, flush).graph_s
    logits = torch.rand(WORK.batch, VOCABULARY, device="cuda")
    case.run()
    pairs = []
    for _ in range(20):
        case.ids.copy_(logits.argmax(-1, keepdim=True))
        flush()  # for equally cold weights
        pair = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        pair[0].record()
        replay()
        pair[1].record()
        pairs.append(pair)
    torch.cuda.synchronize()
    decoding = [start.elapsed_time(end) * 1e-3 for start, end in pairs[5:]]
    assert statistics.median(timed) == pytest.approx(statistics.median(decoding), rel=0.01)
    assert max(timed) < 1.05 * min(timed)


def test_a_replay_computes_what_an_eager_step_does() -> None:
    model = build_model(MODELS["memory"], device="cuda").fold()
    case = PreparedCase(model, WORK, SEED)
    seen: list[torch.Tensor] = []
    model.leaves()["lm_head"].register_forward_hook(lambda _leaf, _inputs, out: seen.append(out))
    case.run()
    want = seen[-1].clone()
    replay = case.captured()
    graph = seen[-1]
    graph.zero_()
    for _ in range(2):
        replay()
    torch.cuda.synchronize()
    assert (graph.float() - want.float()).abs().max() < 0.02 * want.float().abs().max()


@pytest.mark.parametrize("name", ["dense", "moe"])
def test_counters_of_a_decode_step(name: str, benches: dict[str, TorchBench]) -> None:
    result = measured(benches, "counters", name, WORK)
    paths = benches[name].paths
    if isinstance(result.step["hbm_read_bytes"], Missing):
        pytest.skip("the counters are refused here")
    reads = column(result.operators["hbm_read_bytes"], paths)
    # weights stream through: nothing of them is in L2, which they pass
    assert at(reads, "lm_head") == pytest.approx(2 * WIDTH * VOCABULARY, rel=0.05)
    if name == "dense":
        assert at(reads, "ffn.gate_up") == pytest.approx(LAYERS * 4 * WIDTH * FFN, rel=0.05)
        assert at(reads, "ffn.down") == pytest.approx(LAYERS * 2 * WIDTH * FFN, rel=0.05)
    else:
        leaves = selectors(benches[name].model).values()
        touched = sum(len(leaf.selected.unique()) for leaf in leaves if leaf.selected is not None)
        experts = touched * 3 * 2 * WIDTH * 1024
        assert at(reads, "moe.experts") == pytest.approx(experts, rel=0.1)
    whole = median(result.step["hbm_read_bytes"])
    assert sum(reads.values()) == pytest.approx(whole, rel=0.1)
    # a step of few tokens writes little beside what it reads
    assert median(result.step["hbm_written_bytes"]) < 0.1 * whole


def test_tensor_flops_of_a_prefill(benches: dict[str, TorchBench]) -> None:
    """512 tokens fill every tile of these products: what is executed is what is counted."""
    result = measured(benches, "counters", "dense", PROMPT)
    if isinstance(result.step["flops_tensor"], Missing):
        pytest.skip("no tensor counter here")
    flops = column(result.operators["flops_tensor"], benches["dense"].paths)
    assert at(flops, "ffn.gate_up") == pytest.approx(LAYERS * 2 * 512 * WIDTH * 2 * FFN, rel=0.01)
    assert at(flops, "ffn.down") == pytest.approx(LAYERS * 2 * 512 * WIDTH * FFN, rel=0.01)
    assert at(flops, "_norm") == 0
    assert sum(flops.values()) == pytest.approx(median(result.step["flops_tensor"]), rel=0.01)


def test_energy_of_a_decode_step(benches: dict[str, TorchBench]) -> None:
    result = measured(benches, "energy", "dense", WORK).step
    if isinstance(result["energy_j"], Missing):
        pytest.skip(result["energy_j"].reason)
    watts, idle = median(result["power_w"]), median(result["idle_power_w"])
    assert 20 < idle < watts < 2000
    timed = measured(benches, "time", "dense", WORK).step
    step_s = median(timed["graph_s"])
    # power x time, but for L2, clocks, and the gaps between replays
    assert median(result["energy_j"]) == pytest.approx(watts * step_s, rel=0.25)
    if isinstance(result["instant_power_w"], Spread):
        assert median(result["instant_power_w"]) == pytest.approx(watts, rel=0.1)
