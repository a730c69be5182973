"""The paper's claims, C1 to C7: figures of each, and the verdict that follows from them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from costmodel import units
from costmodel.costs.predict import Prediction, predict
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import Mesh
from costmodel.layers.moe import MoeFfn
from costmodel.questions.claims.claim import Answer, Figure, Verdict, by_parts, claims, not_judged
from costmodel.questions.claims.figures import (
    BATCHES,
    CONTEXT,
    GPU,
    alike,
    computed,
    kept,
    measured,
    prediction,
    short,
)
from costmodel.questions.claims.variants import Change, changes
from costmodel.questions.published.figure_1c import access_ratio

SMALL = ("olmoe-227m-1.2b", "ultramemv2-227m-1.2b")
LARGE = ("olmoe-1b-7b", "ultramemv2-1b-7b")
HUGE = ("moe-2.5b-120b", "ultramemv2-2.5b-120b")
ALIKE = 0.05  # relative: what the verdicts call the same
FAR_LESS = 2.0  # times
TOTAL = "parameters.total_without_embeddings"
ACTIVE = "parameters.active_without_embeddings"
BYTES, FLOPS = "hbm_bytes.compulsory", "flops.total"
LONG = (2048, 32768, 131072)  # cached tokens
PRINTED = {16: "18.1", 64: "18.8", 256: "17.3", 1024: "13.0"}  # arXiv 2411.12364, Figure 1(c)
PUBLISHED_HUGE = {ACTIVE: 2.5e9, TOTAL: 120e9}
MESHES = (1, 2, 3, 6)  # GPUs; 18 key-value heads are divided over them
SMALL_RATIO = 0.1  # below it, a third decimal is written
QUALITY = "Quality is the paper's and is not judged here."


def equal_size() -> Answer:
    """C1: parameters, FLOPs and resident memory of both pairs."""
    figures = [
        computed(quantity, pair, batch=64)
        for pair in (SMALL, LARGE)
        for quantity in (TOTAL, ACTIVE, FLOPS, "memory.weights_bytes")
    ]
    figures += [_memory_share(pair[1]) for pair in (SMALL, LARGE)]
    parts = [
        (alike(one.ratio, ALIKE), f"{ratio_words(one)} in {short_what(one)} of {one.sides[0]}")
        for one in figures
        if one.unit in {"parameters", "flops"}
    ]
    return answer("C1", figures, by_parts(parts, also=QUALITY))


def _memory_share(name: str) -> Figure:
    """The part of a token's FLOPs that its memory layers do."""
    costs = prediction(load_model(name), 64).costs
    of_memory = sum(op.count * op.total("flops") for op in costs.operators if ".memory." in op.path)
    return Figure(
        what=f"share of model FLOPs in memory layers, context {CONTEXT:,}",
        unit="share",
        way="computed",
        sides=(short(name),),
        values=(float(of_memory / costs.totals.flops),),
        source="FLOPs of the operators memory over flops.total",
    )


def memory_access() -> Answer:
    """C2: HBM bytes by batch: weights and rows alone, with KV cache and attention, as counted."""
    whole = [computed(BYTES, LARGE, batch=batch) for batch in BATCHES]
    figures = [
        *(_sparse_alone(batch) for batch in BATCHES),
        *whole,
        *(computed(BYTES, LARGE, batch=16, context=context) for context in LONG[1:]),
        *kept(measured("hbm_read_bytes", LARGE, batch=batch) for batch in BATCHES),
    ]
    parts = [
        ((one.ratio or 0) >= FAR_LESS, f"{ratio_words(one)} at batch {batch:,}")
        for batch, one in zip(BATCHES, whole, strict=True)
    ]
    long = figures[2 * len(BATCHES)]
    alone = [one.ratio or 0 for one in figures[: len(BATCHES)]]
    also = (
        f"Experts, FFN and rows alone: up to {max(alone):.1f}x. At context {LONG[1]:,}, batch 16:"
        f" {ratio_words(long)}, as both have the same KV cache."
    )
    return answer("C2", figures, by_parts(parts, also=also))


def _sparse_alone(batch: int) -> Figure:
    """The paper's way of counting: experts or FFN, memory layers and their rows, nothing else."""
    values = []
    for name in LARGE:
        step = prediction(load_model(name), batch)
        values.append(
            float(
                sum(
                    op.count * (op.total("weight_bytes") + op.total("row_bytes"))
                    for op in step.costs.operators
                    if any(part in op.path for part in (".ffn.", ".moe.", ".memory."))
                )
            )
        )
    return Figure(
        what=f"bytes of experts, FFN, memory layers and rows alone, batch {batch:,}",
        unit="bytes",
        way="computed",
        sides=tuple(map(short, LARGE)),
        values=tuple(values),
        source="weights and rows of the operators ffn, moe and memory",
    )


def long_contexts() -> Answer:
    """C3: the KV cache of long contexts."""
    figures = [
        computed("kv_cache.bytes_per_token", LARGE, batch=1),
        *(computed("kv_cache.stored_bytes", LARGE, batch=1, context=tokens) for tokens in LONG),
    ]
    return answer(
        "C3",
        figures,
        not_judged(
            "Quality is quoted, not computed. The KV cache of these contexts costs either model"
            f" {'the same' if figures[0].ratio == 1 else ratio_words(figures[0])}."
        ),
    )


def five_changes() -> Answer:
    """C4: each change with and without, at equal parameters."""
    figures = [one for change in changes() for one in change_figures(change)]
    parts = []
    for change in changes():
        ratios = [(one, one.ratio or 0) for one in change_figures(change) if one.unit != "count"]
        worst, least = min(ratios, key=lambda pair: pair[1])
        dearer = f"{1 / least:.2f}x of {short_what(worst)}"
        said = f"{change.name} ({dearer} at most)"
        parts.append((least >= 1 / (1 + ALIKE), said))
    return answer("C4", figures, by_parts(parts, also="Time is that of plain PyTorch's kernels."))


def change_figures(change: Change) -> list[Figure]:
    """FLOPs, bytes, launches and time of a change, without and with it."""
    of = f"{change.name}: "
    sides, names = (change.without, change.after), ("without", "with")
    return [
        computed(quantity, sides, batch=batch, names=names, of=of)
        for quantity, batch in (
            *((FLOPS, 64), (BYTES, 1), (BYTES, 64), ("launches", 64)),
            *(("time.predicted_s", 1), ("time.predicted_s", 64)),
        )
    ]


def two_experts() -> Answer:
    """C5: UltraMem against MoE of 8 of 64 and of 2 of 16 experts, four times as wide."""
    eight, ultramem = SMALL[0], "ultramem-227m-1.2b"
    two = fewer_experts(load_model(eight), 4)
    batches = (1, 16, 64)
    figures = [
        *(computed(BYTES, (eight, two), batch=batch) for batch in batches),
        *(computed(BYTES, (two, ultramem), batch=batch) for batch in batches),
        computed(FLOPS, (two, ultramem), batch=64),
        *kept(measured("graph_s", (eight, ultramem), batch=batch) for batch in BATCHES),
    ]
    apart = max(abs((one.ratio or 0) - 1) for one in figures[: len(batches)])
    return answer(
        "C5",
        figures,
        not_judged(
            "Quality decides it. Cost cannot: at equal parameters MoE of 2 and of 8 experts differ"
            f" by {100 * apart:.2g} % in HBM bytes, as the same share of experts is chosen."
        ),
    )


def fewer_experts(model: ModelConfig, times: int) -> ModelConfig:
    """The MoE with so many times fewer and wider experts; as many times fewer are chosen."""
    ffn = model.ffn
    assert isinstance(ffn, MoeFfn)
    wider = replace(
        ffn,
        num_experts=ffn.num_experts // times,
        num_experts_per_tok=ffn.num_experts_per_tok // times,
        moe_intermediate_size=ffn.moe_intermediate_size * times,
    )
    chosen = f"{wider.num_experts_per_tok} of {wider.num_experts} experts"
    return replace(model, name=f"MoE, {chosen}", ffn=wider)


def large_pair() -> Answer:
    """C6: parameters of the reconstructed pair, the GPUs that it needs, its bound there."""
    figures = [computed(quantity, HUGE, batch=64) for quantity in PUBLISHED_HUGE]
    on_needed = [_on_needed(name) for name in HUGE]
    needed = [step.gpus for step in on_needed]
    bound = [step.floor_s for step in on_needed]
    read = [float(step.costs.totals.compulsory_bytes) for step in on_needed]
    sides = tuple(map(short, HUGE))
    rows: tuple[tuple[str, units.Unit, Sequence[float], str], ...] = (
        ("GPUs that hold weights, cache and activations", "count", needed, "memory.fits"),
        ("roofline bound of a decode step on them, batch 64", "s", bound, "time.floor_s"),
        ("compulsory HBM bytes of all of them, batch 64", "bytes", read, BYTES),
    )
    for what, unit, values, source in rows:
        figures.append(
            Figure(
                what=f"{what}, context {CONTEXT:,}, {GPU}",
                unit=unit,
                way="computed",
                sides=sides,
                values=tuple(map(float, values)),
                source=f"sparsecost predict: {source}",
            )
        )
    parts = [
        (
            all(alike((value or 0) / printed, 0.01) for value in one.values),
            f"{short_what(one)} of {_amounts(one)} beside {printed / 1e9:g} B",
        )
        for one, printed in zip(figures, PUBLISHED_HUGE.values(), strict=False)
    ]
    parts += [
        (needed[1] <= needed[0], f"{needed[1]} GPUs, as the MoE needs {needed[0]}"),
        (bound[1] < bound[0], f"a bound {bound[0] / bound[1]:.2f} times as short"),
    ]
    also = "Sizes are reconstructed: the paper prints neither width nor depth. None was measured."
    return answer("C6", figures, by_parts(parts, also=also))


def _on_needed(name: str) -> Prediction:
    """The decode step on the fewest GPUs that hold it."""
    model, hardware = load_model(name), load_hardware(GPU)
    for gpus in MESHES:
        workload = Workload(batch=64, context=CONTEXT, mesh=Mesh(tp=gpus))
        step = predict(model, workload, hardware)
        if step.memory.fits:
            return step
    raise AssertionError(name)


def figure_1c() -> Answer:
    """C7: the printed ratios, and what they become with KV cache and attention."""
    figures, parts = [], []
    for batch, printed in PRINTED.items():
        for words, kv, attention in (
            ("FFN, experts and rows alone", False, False),
            ("with KV cache", True, False),
            ("with KV cache and attention's weights", True, True),
        ):
            ratio = access_ratio(batch, kv=kv, attention=attention)
            figures.append(
                Figure(
                    what=f"bytes of MoE over UltraMem, {words}, batch {batch:,}",
                    unit="ratio",
                    way="computed",
                    sides=("MoE over UltraMem",),
                    values=(ratio,),
                    source="costmodel/questions/published/figure_1c.py",
                )
            )
        alone, whole = figures[-3].values[0] or 0, figures[-1].values[0] or 0
        parts += [
            (f"{alone:.1f}" == printed, f"{alone:.1f} at batch {batch:,} as printed"),
            (whole > FAR_LESS, f"{whole:.2f} at batch {batch:,} with KV cache and attention"),
        ]
    parts.sort(key=lambda part: "with" in part[1])
    return answer("C7", figures, by_parts(parts, also="Shapes are inferred from printed counts."))


def paper() -> Iterator[Answer]:
    """All of them."""
    for make in (
        *(equal_size, memory_access, long_contexts, five_changes, two_experts),
        *(large_pair, figure_1c),
    ):
        yield make()


def answer(name: str, figures: list[Figure], verdict: Verdict) -> Answer:
    """The answer to the claim of this id."""
    return Answer(claim=claims()[name], figures=tuple(figures), verdict=verdict)


def ratio_words(figure: Figure) -> str:
    """The first side over the second: `1.57x`."""
    if figure.ratio is None:
        return units.NOT_KNOWN
    return f"{figure.ratio:.{2 if figure.ratio > SMALL_RATIO else 3}f}x"


def short_what(figure: Figure) -> str:
    """The quantity without its circumstances and without what it is a figure of."""
    return figure.what.rpartition(": ")[2].partition(", batch")[0]


def _amounts(figure: Figure) -> str:
    return " and ".join(f"{(value or 0) / 1e9:.4g} B" for value in figure.values)
