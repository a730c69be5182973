"""Published parameter counts and KV bytes, each under a convention that says what is counted."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from costmodel.costs.operators import build_operators
from costmodel.costs.totals import ParameterCounts, kv_bytes_per_token, parameter_counts
from costmodel.inputs.catalog import load_model
from costmodel.inputs.workload import Workload
from costmodel.layers.dtype import BF16
from costmodel.layers.ngram import Ngram
from costmodel.layers.operator import Operator, Weight
from costmodel.layers.product_key import ProductKey
from costmodel.questions.published.number import PublishedNumber, set_beside

TOTAL, WITHOUT = "total", "total_without_embeddings"
ACTIVE, HEAD = "active_without_embeddings", "active_with_lm_head"
BOTH = "active_with_embeddings"

TABLE_10 = "arXiv 2508.18756, Table 10"

CUT = "printed cut, not rounded"
UNEXPLAINED = "no convention we know gives it"

Keep = Callable[[Operator, Weight], bool]
"""Which parameters a convention counts."""


def everything(_operator: Operator, _weight: Weight) -> bool:
    """All of them."""
    return True


def matrices(_operator: Operator, weight: Weight) -> bool:
    """No norms, biases, sinks, correction vectors or Tucker cores."""
    return weight.matrix


def no_block_norms(operator: Operator, weight: Weight) -> bool:
    """No norms of the blocks and no QK-norm; the norms and cores of memory layers are in."""
    return weight.group != "norm" or ".memory." in operator.path


def no_router(_operator: Operator, weight: Weight) -> bool:
    """No norms and no router."""
    return weight.group not in ("norm", "router")


def tables(_operator: Operator, weight: Weight) -> bool:
    """Memory tables alone."""
    return weight.group == "memory_values"


def ngram_layers(operator: Operator, _weight: Weight) -> bool:
    """Memory layers of n-grams, whole."""
    return operator.leaf.startswith("ngram.")


CONVENTIONS: dict[Keep, str] = {  # norms of memory layers are no block norms
    everything: "",
    tables: "tables alone; ",
    ngram_layers: "the two n-gram layers alone; ",
    matrices: "no norms or biases; ",
    no_block_norms: "no block norms; ",
    no_router: "no norms or router; ",
}


def counted(operators: Iterable[Operator], keep: Keep) -> ParameterCounts:
    """Parameter counts with only the tensors that `keep` keeps."""
    return parameter_counts(
        replace(op, weights=tuple(w for w in op.weights if keep(op, w))) for op in operators
    )


def preset_count(
    name: str, field: str, published: str, *, keep: Keep, source: str, reason: str = ""
) -> PublishedNumber:
    """One count of a preset; its convention also names the exact count with everything in."""
    operators = build_operators(load_model(name), Workload().step())
    exact = f"all in: {getattr(counted(operators, everything), field):,}"
    return set_beside(
        what=f"{name}: {field.replace('_', ' ')}",
        published=published,
        ours=getattr(counted(operators, keep), field),
        convention=CONVENTIONS[keep] + exact + (f"; {reason}" if reason else ""),
        source=source,
    )


def ultramemv2() -> Iterator[PublishedNumber]:
    """The models of UltraMemV2's Table 10: by the formulas of their layers, and as printed."""
    moe, v2, v1, plus = (
        f"{name}-227m-1.2b" for name in ("olmoe", "ultramemv2", "ultramem", "memory-plus")
    )
    large, large_moe = "ultramemv2-1b-7b", "olmoe-1b-7b"
    by_hand = f"by hand from {TABLE_10}"
    for name, keep, *counts in (
        (moe, no_router, "188,743,680", "227,377,152", "1,179,648,000", "1,218,281,472"),
        (moe, matrices, "189,726,720", "228,360,192", "1,180,631,040", "1,219,264,512"),
        (v2, no_block_norms, "191,731,360", "230,364,832", "1,186,813,600", "1,225,447,072"),
        (v1, no_block_norms, "190,072,384", "228,705,856", "1,192,625,728", "1,231,259,200"),
        (plus, matrices, "202,715,136", "241,348,608", "1,196,817,408", "1,235,450,880"),
        (large_moe, no_router, "1,073,741,824"),
    ):
        for field, published in zip((ACTIVE, BOTH, WITHOUT, TOTAL), counts, strict=False):
            yield preset_count(name, field, published, keep=keep, source=by_hand)
    yield preset_count(large, WITHOUT, "6.08 B", keep=no_block_norms, source=by_hand)
    too_few = "its printed dimensions give less"
    for name, field, published, keep, reason in (
        (moe, BOTH, "227 M", no_router, ""),
        (moe, WITHOUT, "1.18 B", no_router, ""),
        (plus, BOTH, "228 M", matrices, UNEXPLAINED),
        (plus, WITHOUT, "1.19 B", matrices, CUT),
        (v1, BOTH, "225 M", no_block_norms, UNEXPLAINED),
        (v1, WITHOUT, "1.18 B", no_block_norms, UNEXPLAINED),
        (v2, BOTH, "225 M", no_block_norms, UNEXPLAINED),
        (v2, WITHOUT, "1.18 B", no_block_norms, CUT),
        (large_moe, ACTIVE, "1070 M", no_router, "printed to three digits"),
        (large_moe, WITHOUT, "6.71 B", matrices, ""),
        (large, HEAD, "1079 M", no_block_norms, UNEXPLAINED),
        (large, WITHOUT, "6.70 B", no_block_norms, too_few),
    ):
        yield preset_count(name, field, published, keep=keep, source=TABLE_10, reason=reason)


def memory_plus() -> Iterator[PublishedNumber]:
    """Memory+ of 1.3 B: the totals of four table sizes, three of which fix its dense part."""
    preset = load_model("memory-plus-1.3b")
    (memory,) = preset.memory
    assert isinstance(memory, ProductKey)
    alike = "all in; printed alike for one memory layer and for three"
    for num_keys, published, convention in (
        (2048, "9.823 B", "all in, but biases of projections"),
        (4096, "35.618 B", "all in, but biases of projections"),
        (8192, "138.748 B", "all in, but biases of projections"),
        (1024, "3.377 B", alike),
    ):
        model = replace(preset, memory=(replace(memory, num_keys=num_keys),))
        yield set_beside(
            what=f"memory-plus-1.3b with {num_keys:,}^2 values: total",
            published=published,
            ours=parameter_counts(build_operators(model, Workload().step())).total,
            convention=convention,
            source="arXiv 2412.09764, Table 1",
        )


def ngram_tables() -> Iterator[PublishedNumber]:
    """Tables of n-grams that ship: rows and bytes by configuration, parameters as printed."""
    v41 = "engram-v4.1-flash-moe-reconstruction"
    qwen = "ple-qwen3.8-flash-next-reconstruction"
    demo = "engram-demo-30l-reconstruction"
    config = "config.json of DeepSeek-V4.1-Flash: engram_num_embeddings"
    for name, published, keep, source, reason in (
        (v41, "196,613,849,600", tables, f"by hand from {config} and engram_head_dim", ""),
        (v41, "196 B", tables, "as the makers print it, 552 B + 196 B", CUT),
        (demo, "1,334,867,328", ngram_layers, "by hand from the demo of arXiv 2601.07372", ""),
        (qwen, "51,200,245,760", tables, "by hand from config.json of Qwen3.8-Flash-Next", ""),
    ):
        yield preset_count(name, TOTAL, published, keep=keep, source=source, reason=reason)
    model = load_model(v41)
    (memory,) = model.memory
    assert isinstance(memory, Ngram)
    for layer, published, rows in zip(
        (1, 14), ("384,006,168", "384,016,682"), memory.table_rows(2), strict=True
    ):
        yield set_beside(
            what=f"{v41}: rows of layer {layer}'s table",
            published=published,
            ours=rows,
            convention="24 consecutive primes from 16,000,000 on, the next 24 in the second layer",
            source=config,
        )
    assert model.storage is not None
    step = Workload(formats=model.storage.weights).step()
    bytes_read = [
        op.rows.read_bytes
        for op in build_operators(model, step)
        if op.leaf == "ngram.rows"
        if op.rows
    ]
    yield set_beside(
        what=f"{v41}: bytes of rows that a token reads in a layer",
        published="6,336",
        ours=bytes_read[0],
        convention="24 rows of 256 values in fp8, with a scale of 8 bits for each 32",
        source="by hand from the checkpoint's tensors",
    )


def public_models() -> Iterator[PublishedNumber]:
    """Counts and KV bytes that follow from config.json, and counts that the makers print."""
    by_hand, printed = "by hand from config.json", "the makers' paper or model card"
    transformers = "the model on the meta device in transformers 5.24"
    for name, kv_bytes, *counts in (
        ("olmoe-1b-7b", "131,072", "6.919 B", "1.076 B", "1.179 B", "1.282 B"),
        ("mixtral-8x7b", "131,072", "46.703 B", "12.618 B", "12.749 B", "12.880 B"),
        ("qwen3-30b-a3b", "98,304", "30.532 B", "2.730 B", "3.042 B", "3.353 B"),
        ("gpt-oss-20b", "49,152", "20.91 B", "3.028 B", "3.607 B", "4.186 B"),
        ("deepseek-v3", "70,272", "671.03 B", "35.70 B", "36.62 B", "37.55 B"),
        ("deepseek-v3.2", "85,888", "671.88 B", "36.55 B", "37.48 B", "38.40 B"),
        ("deepseek-v4-flash", "50,912", "284.33 B", "12.74 B", "13.27 B", "13.80 B"),
        ("deepseek-v4.1-flash", "44,160"),
        ("minimax-m3", "137,472", "426.17 B", "23.50 B", "24.73 B", "25.96 B"),
        ("qwen3.8-flash-next", "27,648"),
        ("deepseek-v2-lite", "31,104", "15.706 B", "2.242 B", "2.451 B", "2.661 B"),
        ("llama-3.1-8b", "131,072", "8.030 B"),
        ("llama-3.1-70b", "327,680", "70.55 B"),
    ):
        for field, published in zip((TOTAL, ACTIVE, HEAD, BOTH), counts, strict=False):
            yield preset_count(name, field, published, keep=matrices, source=by_hand)
        yield set_beside(
            what=f"{name}: KV bytes per token",
            published=kv_bytes,
            ours=kv_bytes_per_token(load_model(name), Workload().step()),
            convention="bf16; within every window",
            source=by_hand,
        )
    for name, field, published, source, reason in (
        ("gpt-oss-20b", ACTIVE, "3.029 B", by_hand, ""),
        ("gpt-oss-20b", HEAD, "3.608 B", by_hand, ""),
        ("gpt-oss-20b", BOTH, "4.187 B", by_hand, ""),
        ("deepseek-v3", HEAD, "36.63 B", by_hand, ""),
        ("olmoe-1b-7b", TOTAL, "6.9 B", printed, ""),
        ("olmoe-1b-7b", BOTH, "1.3 B", printed, ""),
        ("mixtral-8x7b", TOTAL, "46.7 B", printed, ""),
        ("mixtral-8x7b", BOTH, "12.9 B", printed, ""),
        ("qwen3-30b-a3b", TOTAL, "30.5 B", printed, ""),
        ("qwen3-30b-a3b", BOTH, "3.3 B", printed, CUT),
        ("gpt-oss-20b", TOTAL, "20.91 B", printed, ""),
        ("gpt-oss-20b", HEAD, "3.61 B", printed, ""),
        ("deepseek-v3", TOTAL, "671 B", printed, ""),
        ("deepseek-v3", HEAD, "37 B", printed, ""),
        ("deepseek-v4-flash", TOTAL, "284 B", printed, ""),
        ("deepseek-v4-flash", HEAD, "13 B", printed, ""),
        ("deepseek-v4.1-flash", TOTAL, "748 B", printed, "552 B of backbone and 196 B of tables"),
        ("deepseek-v2-lite", TOTAL, "15.7 B", printed, ""),
        ("deepseek-v2-lite", HEAD, "2.4 B", printed, CUT),
        ("llama-3.1-8b", TOTAL, "8.03 B", printed, ""),
        ("llama-3.1-70b", TOTAL, "70.6 B", printed, ""),
        ("lfm2-350m", TOTAL, "354,483,968", printed, ""),
        ("lfm2-8b-a1b", TOTAL, "8.3 B", printed, ""),
        ("lfm2-8b-a1b", BOTH, "1.5 B", printed, CUT),
        ("qwen3.5-27b", TOTAL, "27 B", printed, ""),
        ("qwen3.5-122b-a10b", TOTAL, "122 B", printed, ""),
        ("qwen3.5-122b-a10b", BOTH, "10 B", printed, ""),
        ("llama-4-maverick", TOTAL, "400 B", printed, f"the text model; {CUT}"),
        ("llama-4-maverick", BOTH, "17 B", printed, ""),
        ("granite-4.0-h-small", TOTAL, "32 B", printed, ""),
        ("granite-4.0-h-small", HEAD, "9 B", printed, ""),
        ("nemotron-3-ultra", TOTAL, "550 B", printed, "printed to two digits"),
        ("nemotron-3-ultra", HEAD, "55 B", printed, ""),
        ("longcat-flash-chat", TOTAL, "560 B", printed, CUT),
        ("longcat-flash-chat", HEAD, "27 B", printed, ""),
        ("gemma-4-31b", TOTAL, "30.7 B", printed, ""),
        ("mimo-v2-flash", TOTAL, "309 B", printed, ""),
        ("mimo-v2-flash", BOTH, "15 B", printed, ""),
        ("kimi-linear-48b-a3b", WITHOUT, "48 B", printed, ""),
        ("kimi-linear-48b-a3b", ACTIVE, "3 B", printed, ""),
        ("qwen3-32b", TOTAL, "32.8 B", printed, ""),
        ("mistral-7b", TOTAL, "7.24 B", printed, ""),
        ("minimax-m2.5", TOTAL, "230 B", printed, "printed to two digits"),
        ("minimax-m2.5", ACTIVE, "10 B", printed, ""),
        ("qwen3.8-flash-next", TOTAL, "176,943,899,520", transformers, ""),
        ("qwen3.8-flash-next", ACTIVE, "6,035,598,720", transformers, ""),
        ("qwen3.8-flash-next", HEAD, "6,671,297,920", transformers, ""),
        ("qwen3.8-flash-next", BOTH, "7,306,997,120", transformers, ""),
    ):
        yield preset_count(name, field, published, keep=everything, source=source, reason=reason)


def embedding_tables() -> Iterator[PublishedNumber]:
    """Tables that token ids address at the input: parameters, and bytes that a token reads."""
    longcat = "longcat-flash-lite"
    gemma_4, gemma_3n = "gemma-4-e2b", "gemma-3n-e4b"
    by_hand, printed = "by hand from config.json", "the makers' model card"
    for name, parameters, row_bytes in (
        (gemma_3n, "2,348,810,240", "17,920"),
        (gemma_4, "2,348,810,240", "17,920"),
        (longcat, "31,406,985,216", "6,144"),
    ):
        operators = build_operators(load_model(name), Workload().step())
        tables = [(op, w) for op in operators for w in op.weights if w.group == "memory_values"]
        yield set_beside(
            what=f"{name}: parameters of the tables at the input",
            published=parameters,
            ours=sum(weight.parameters for _, weight in tables),
            convention="all rows",
            source=by_hand,
        )
        yield set_beside(
            what=f"{name}: bytes of rows that a token reads",
            published=row_bytes,
            ours=sum(w.active_parameters for _, w in tables) * BF16.bits // 8,
            convention="bf16",
            source=by_hand,
        )
    counts = parameter_counts(build_operators(load_model(gemma_4), Workload().step()))
    yield set_beside(
        what=f"{gemma_4}: total without the per-layer table",
        published="2.3 B",
        ours=counts.total - counts.by_group["memory_values"],
        convention="effective parameters",
        source=printed,
    )
    yield preset_count(longcat, TOTAL, "68.5 B", keep=everything, source=printed, reason=CUT)
