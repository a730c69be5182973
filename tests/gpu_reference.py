"""What the reference models do on this GPU, measured: `python -m tests.gpu_reference OUT.json`.

Decode steps as CUDA graphs and eagerly, one UltraMemV2 layer by tokens, lookups in a table of 3e9
elements, and transformers' OLMoE in the same run. Times are medians and quartiles of 30 runs
between CUDA events after 5 warm-ups, bf16, random weights, cache and tokens. Weights and cache pass
L2 many times over; single layers are rotated over a whole model's, so that their weights do too. A
graph is compared with the eager step under deterministic kernels, where equal means equal bits.
"""

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.transformers_olmoe import olmoe, step_of
from costmodel.costs.step import step_costs
from costmodel.inputs.model import ModelConfig, load_model_toml
from costmodel.inputs.workload import Workload
from costmodel.layers.ultramem import UltraMem
from reference_model.cache import Cache
from reference_model.decode import DecodeStep
from reference_model.leaf import Factory
from reference_model.model import ReferenceModel, build_model
from reference_model.ultramem import UltraMemLayer
from reference_model.value_tables import dots, weighted_sum

PRESETS = Path(__file__).parents[1] / "costmodel" / "presets" / "models"
CONTEXT = 2048
BATCHES = (1, 16, 64, 256)
MODELS = (
    "olmoe-1b-7b",
    "ultramemv2-1b-7b",
    "olmoe-227m-1.2b",
    "ultramemv2-227m-1.2b",
    "llama-3.1-8b",
)
HBM_BYTES_PER_S = 4.8e12  # datasheet of the H200, for the floors
Found = dict[str, Any]


def preset(name: str) -> ModelConfig:
    return load_model_toml(PRESETS / f"{name}.toml")


def timed(run: Callable[[], object], *, repeats: int = 30) -> Found:
    """Median and quartiles of one run, in microseconds."""
    for _ in range(5):
        run()
    torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3)
    low, middle, high = statistics.quantiles(times, n=4)
    return {"median_us": round(middle, 2), "q1_us": round(low, 2), "q3_us": round(high, 2)}


def captured(run: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """The work as a CUDA graph, after warm-ups on a side stream."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph


def filled_cache(model: ReferenceModel, batch: int, context: int) -> Cache:
    """A cache of `context` random tokens, with room for one more."""
    cache = model.new_cache(batch, context + 1)
    for layer in cache.kv_layers:
        layer.keys.normal_()
        if layer.values is not None:
            layer.values.normal_()
    cache.length = context
    return cache


@torch.no_grad()
def graph_equals_eager(model: ReferenceModel, batch: int) -> Found:
    """Logits of the replayed step against the eager one, with deterministic kernels."""
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    try:
        ids = torch.randint(0, model.config.vocab_size, (batch, 1), device="cuda")
        cache = filled_cache(model, batch, CONTEXT)
        eager = DecodeStep(model, cache, graph=False)(ids).clone()
        replayed = DecodeStep(model, cache, graph=True)(ids)
        worst = float((replayed.float() - eager.float()).abs().max())
        return {"graph_equals_eager": torch.equal(replayed, eager), "max_abs_difference": worst}
    finally:
        torch.use_deterministic_algorithms(mode=False)


def distinct(model: ReferenceModel) -> float | None:
    """Experts or rows that the last step chose, mean over the layers that choose."""
    selections = [leaf.selected for leaf in model.leaves().values() if hasattr(leaf, "selected")]
    counts = [len(rows.unique()) for rows in selections if isinstance(rows, Tensor)]
    return statistics.fmean(counts) if counts else None


@torch.no_grad()
def decode(model: ReferenceModel, batch: int) -> Found:
    found = graph_equals_eager(model, batch)
    cache = filled_cache(model, batch, CONTEXT)
    ids = torch.randint(0, model.config.vocab_size, (batch, 1), device="cuda")
    graph = DecodeStep(model, cache, graph=True)
    graph(ids)
    found |= {"distinct": distinct(model)}
    found |= {f"graph_{key}": value for key, value in timed(graph).items()}
    eager = DecodeStep(model, cache, graph=False)
    eager(ids)
    found |= {f"eager_{key}": value for key, value in timed(eager, repeats=10).items()}
    sums = step_costs(model.config, Workload(batch=batch, context=CONTEXT).step()).totals
    floor = float(sums.compulsory_bytes) / HBM_BYTES_PER_S
    return found | {"floor_us": round(floor * 1e6, 1)}


@torch.no_grad()
def memory_layer(name: str, tokens: int) -> Found:
    """One memory layer: a graph over all layers of the model, divided by their number."""
    config = preset(name)
    (kind,) = config.memory
    assert isinstance(kind, UltraMem)
    count, tables = config.num_hidden_layers, dict[str, nn.Parameter]()
    factory = Factory(
        device=torch.device("cuda"),
        dtype=torch.bfloat16,
        hidden_size=config.hidden_size,
        generator=torch.Generator("cuda").manual_seed(0),
    )
    layers = [
        UltraMemLayer(factory, kind, index=index, num_layers=count, tables=tables)
        for index in range(count)
    ]
    for layer in layers:
        layer.retrieve.fold()
    x = torch.randn(1, tokens, config.hidden_size, device="cuda", dtype=torch.bfloat16)

    def run() -> None:
        for layer in layers:
            layer(x)

    whole = timed(captured(run).replay)
    return {key: round(value / count, 2) for key, value in whole.items()} | {"layers": count}


def big_table() -> Found:
    """Rows of a table of 3e9 elements: a weighted sum and dots, against float32 on the rows."""
    width, tokens, reads = 192, 64, 32
    rows = 3_000_000_000 // width + 1
    table = torch.empty(rows, width, device="cuda", dtype=torch.bfloat16)
    chosen = torch.randint(0, rows, (tokens, reads), device="cuda")
    chosen[:, 0] = rows - 1
    table[chosen] = torch.randn(tokens, reads, width, device="cuda", dtype=torch.bfloat16)
    kept = table[chosen].float()
    weights = torch.randn(tokens, reads, 2, device="cuda", dtype=torch.bfloat16)
    x = torch.randn(tokens, width, device="cuda", dtype=torch.bfloat16)

    def error(got: Tensor, want: Tensor) -> float:
        return float((got.float() - want).abs().max() / want.abs().max())

    summed = (kept * weights.float().repeat_interleave(width // 2, dim=-1)).sum(1)
    dotted = torch.einsum("nmw,nw->nm", kept, x.float())
    return {
        "elements": table.numel(),
        "weighted_sum_relative_error": error(weighted_sum(table, chosen, weights), summed),
        "dots_relative_error": error(dots(table, chosen, x), dotted),
    }


@torch.no_grad()
def transformers_olmoe(batch: int) -> Found:
    """The decode step of transformers' OlmoeForCausalLM of the same size, as a CUDA graph."""
    model = olmoe()
    return timed(captured(step_of(model, model, batch)).replay)


def cases() -> dict[str, Callable[[], Found]]:
    found: dict[str, Callable[[], Found]] = {"table of 3e9 elements": big_table}
    for name in ("ultramemv2-227m-1.2b", "ultramemv2-1b-7b"):
        for tokens in (1, 64, 1024):
            found[f"{name} memory layer, {tokens} tokens"] = partial(memory_layer, name, tokens)
    for batch in BATCHES:
        found[f"transformers olmoe-1b-7b, batch {batch}"] = partial(transformers_olmoe, batch)
    return found


def main() -> None:
    out, start = Path(sys.argv[1]), time.time()
    results: Found = {
        "machine": {
            "gpu": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
        }
    }

    def attempt(name: str, run: Callable[[], Found]) -> None:
        """Run a case; how it failed is a result too, and each is on disk before the next begins."""
        try:
            results[name] = run()
        except Exception as error:  # noqa: BLE001 - one case must not end the others
            results[name] = {"error": f"{type(error).__name__}: {error}"[:600]}
        gc.collect()
        torch.cuda.empty_cache()
        out.write_text(json.dumps(results, indent=1) + "\n")
        print(f"{time.time() - start:.0f} s {name}: {json.dumps(results[name])}", flush=True)

    for name, run in cases().items():
        attempt(name, run)
    for name in MODELS:
        began = time.time()
        model = build_model(preset(name), device="cuda").fold()
        torch.cuda.synchronize()
        results[f"{name} built"] = {"seconds": round(time.time() - began, 2)}
        for batch in BATCHES:
            attempt(f"{name}, batch {batch}", partial(decode, model, batch))
        del model


if __name__ == "__main__":
    main()
