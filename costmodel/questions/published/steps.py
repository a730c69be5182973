"""Published numbers of a step: FLOPs, distinct experts, bytes that the 227M pair reads by batch."""

from collections.abc import Iterator

import numpy as np

from costmodel.costs.operators import build_operators
from costmodel.costs.totals import flops_by_kind, kv_bytes_per_token
from costmodel.inputs.catalog import load_model
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.numbers import Count, Number
from costmodel.layers.operator import INDEX_BYTES
from costmodel.layers.ultramem import UltraMem
from costmodel.questions.published import figure_1c
from costmodel.questions.published.counts import counted, no_router
from costmodel.questions.published.number import PublishedNumber, set_beside
from costmodel.routing.popularity import Uniform

V1 = "arXiv 2411.12364"
MOE, V2 = "olmoe-227m-1.2b", "ultramemv2-227m-1.2b"
SECTOR_BYTES = 32  # the least that a GPU reads from HBM at once
LARGEST_BATCH = 8192  # of the search for the crossover
NEARLY = (16, 64)  # batches whose experts miss the derived figure by 0.03 %


def decode_flops() -> Iterator[PublishedNumber]:
    """One token of each public model that attends to 4096 keys."""
    for name, published in (
        ("olmoe-1b-7b", "2.8946 G"),
        ("qwen3-30b-a3b", "9.3045 G"),
        ("mixtral-8x7b", "27.6447 G"),
        ("llama-3.1-8b", "17.1568 G"),
    ):
        kinds = flops_by_kind(build_operators(load_model(name), Workload(context=4095).step()))
        yield set_beside(
            what=f"{name}: FLOPs of a token, 4,096 keys",
            published=published,
            ours=kinds["matmul"] + kinds["attention"],
            convention="matmul (LM head in) and attention only",
            source="by hand from config.json",
        )


def ultramem_table_1() -> Iterator[PublishedNumber]:
    """Parameters and FLOPs per token of UltraMem's dense models and of its largest MoE."""
    out = "no embeddings, norms, attention core; shape inferred"
    twice = "2 x 1.61 B is 3.22"
    for name, model, parameters, flops, reason in (
        ("Dense-151M", figure_1c.dense(12, 1024), "0.15 B", "0.30 G", out),
        ("Dense-680M", figure_1c.dense(24, 1536), "0.68 B", "1.36 G", out),
        ("Dense-1.6B", figure_1c.dense(32, 2048), "1.61 B", "3.21 G", f"{out}; {twice}"),
        ("Dense-6.5B", figure_1c.dense(32, 4096), "6.44 B", "12.88 G", out),
        ("MoE-1.6B-2in34", figure_1c.moe_1b6(), "21.36 B", "3.52 G", f"{out}; no router"),
    ):
        operators = build_operators(model, Workload(context=0).step())
        body = [op for op in operators if op.path != "lm_head" and ".moe.router" not in op.path]
        for what, published, ours in (
            ("parameters", parameters, counted(body, no_router).total_without_embeddings),
            ("FLOPs per token", flops, flops_by_kind(body)["matmul"]),
        ):
            words = reason if what == "FLOPs per token" else out
            yield set_beside(f"{name}: {what}", published, ours, words, f"{V1}, Table 1")


def ultramem_figure_1c() -> Iterator[PublishedNumber]:
    """The ratio of memory accesses as printed, and when the KV cache and attention are counted."""
    printed = "FFN or min(2 B, 34) experts, value rows"
    for kv, attention, source, words, ratios in (
        (False, False, f"{V1}, Figure 1(c)", printed, ("18.11", "18.81", "17.27", "12.99")),
        (True, False, "by hand", f"{printed}, KV", ("4.44", "2.08", "1.28", "1.07")),
        (True, True, "by hand", f"{printed}, KV, attention", ("4.13", "2.05", "1.28", "1.07")),
    ):
        for batch, published in zip((16, 64, 256, 1024), ratios, strict=True):
            ours = figure_1c.access_ratio(batch, kv=kv, attention=attention)
            what = f"UltraMem-1.6B: MoE reads so many times more, batch {batch:,}"
            yield set_beside(what, published, ours, words, source)


def distinct_experts() -> Iterator[PublishedNumber]:
    """Experts that a batch is expected to touch in one layer."""
    for experts, batch, published in ((64, 8, "42.009"), (128, 8, "51.62"), (64, 16, "56.4")):
        yield set_beside(
            what=f"distinct experts of {experts} at batch {batch}, top 8",
            published=published,
            ours=Uniform().expected_distinct(experts, 8, batch, kind="experts"),
            convention="uniform routing: E (1 - (1 - k/E)^B)",
            source="by hand",
        )


def example_227m() -> Iterator[PublishedNumber]:
    """The 227M/1.2B pair: what a decode step reads, and where memory layers stop reading less."""
    moe, v2 = load_model(MOE), load_model(V2)
    counted_parts = "bf16, uniform routing, no block norms"
    near = f"{counted_parts}; their 0.06 MB would make up the last digit"
    for batch, *cells in (
        (1, "285 MB", "59 MB", "230 MB"),
        (16, "2000 MB", "66 MB", "230 MB"),
        (64, "2267 MB", "90 MB", "230 MB"),
        (1024, "2267 MB", "556 MB", "230 MB"),
        (4096, "2267 MB", "1973 MB", "230 MB"),
    ):
        parts = (
            (f"{MOE}: experts and router", moe, ".moe."),
            (f"{V2}: memory layers", v2, ".memory."),
            (f"{V2}: FFN", v2, ".ffn."),
        )
        for (what, model, path), published in zip(parts, cells, strict=True):
            yield set_beside(
                what=f"{what}, read at batch {batch:,}",
                published=published,
                ours=_read(model, batch, path),
                convention=near if path == ".moe." and batch in NEARLY else counted_parts,
                source="by hand",
            )
    kv = kv_bytes_per_token(v2, Workload().step())
    for what, published, ours in (
        ("KV bytes per token", "61,440", kv),
        ("KV at batch 4,096, context 2,048", "515 GB", kv * 4096 * 2048),
        ("attention weights", "94 MB", _read(v2, 1, ".attention.")),
        ("LM head", "77 MB", _read(v2, 1, "lm_head")),
    ):
        yield set_beside(f"{V2}: {what}", published, ours, "bf16", "by hand")
    yield from _crossovers(moe, v2)


def _crossovers(moe: ModelConfig, v2: ModelConfig) -> Iterator[PublishedNumber]:
    """Between which batches UltraMemV2 reads fewer bytes than MoE."""
    batches = np.arange(1, LARGEST_BATCH + 1)
    (memory,) = v2.memory
    assert isinstance(memory, UltraMem)
    saved = _read(moe, batches, ".moe.") - _read(v2, batches, ".memory.", ".ffn.")
    selected = memory.num_heads * memory.knn * batches * v2.num_hidden_layers
    distinct = distinct_rows(v2, batches)
    sparse = "experts + router against memory + FFN"
    for end, published, extra_bytes, convention in (
        (0, "2", 0 * selected, sparse),
        (-1, "4,239", 0 * selected, sparse),
        (-1, "4,190", INDEX_BYTES * selected, f"{sparse}; 8 bytes a selected row"),
        (-1, "4,193", INDEX_BYTES * distinct, f"{sparse}; 8 bytes a distinct row (as we predict)"),
        (-1, "4,052", SECTOR_BYTES * selected, f"{sparse}; 32 bytes a selected row"),
    ):
        yield set_beside(
            what=f"{V2}: {'last' if end else 'first'} batch that reads less than OLMoE",
            published=published,
            ours=int(batches[saved > extra_bytes][end]),
            convention=convention,
            source="by hand",
        )


def distinct_rows(model: ModelConfig, batch: Count) -> Number:
    """Distinct rows that a step touches, summed over the memory layers."""
    rows: Number = 0
    for op in build_operators(model, Workload(context=0).step(batch=batch)):
        if op.path.endswith(".memory.values") and op.touched is not None:
            rows = rows + op.count * op.touched.distinct
    return rows


def _read(model: ModelConfig, batch: Count, *parts: str) -> Number:
    """Bytes of weights and rows that the operators with one of `parts` in their path read.

    Rows are those of each layer, summed: the published counts know no union over a shared table.
    """
    read: Number = 0
    for op in build_operators(model, Workload(context=0).step(batch=batch)):
        if any(part in op.path for part in parts):
            read = read + op.count * (op.total("weight_bytes") + op.row_read_bytes)
    return read
