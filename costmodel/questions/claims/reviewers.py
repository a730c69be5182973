"""The reviewers' points, R1 to R7: figures of each, and the verdict that follows from them."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from costmodel.inputs.catalog import load_model
from costmodel.questions.claims.claim import Answer, Figure, by_parts, not_judged
from costmodel.questions.claims.figures import BATCHES, alike, computed, kept, measured
from costmodel.questions.claims.paper import (
    ACTIVE,
    ALIKE,
    BYTES,
    FLOPS,
    LARGE,
    SMALL,
    TOTAL,
    answer,
    change_figures,
    ratio_words,
    short_what,
)
from costmodel.questions.claims.variants import (
    COUNTS,
    expansions,
    of_memory,
    product_key_memory,
    with_layers,
)

if TYPE_CHECKING:
    from costmodel.inputs.model import ModelConfig

MEMORY_PLUS, ULTRAMEM, V2 = "memory-plus-227m-1.2b", "ultramem-227m-1.2b", SMALL[1]
BACKENDS = ("torch", "fused")
TIME = "time.predicted_s"
CLEARLY = 0.01  # relative: less than this is no saving
STEPS = ("hbm_read_bytes", "graph_s", "energy_j")  # measured


def unreported() -> Answer:
    """R1: KV cache, routing FLOPs and traffic of both pairs."""
    costs = (("kv_cache.stored_bytes", 64), ("routing.flops", 64), (BYTES, 1), (BYTES, 64))
    figures = [
        computed(quantity, pair, batch=batch)
        for pair in (SMALL, LARGE)
        for quantity, batch in costs
    ]
    parts = _same(figures)
    for pair in (SMALL, LARGE):
        figures += kept(measured("hbm_read_bytes", pair, batch=batch) for batch in (1, 64))
    return answer("R1", figures, by_parts(parts))


def memory_plus() -> Answer:
    """R2: Memory+ beside UltraMemV2, and beside the MoE."""
    figures = [
        computed(quantity, (MEMORY_PLUS, V2), batch=batch)
        for quantity, batch in ((TOTAL, 64), (ACTIVE, 64), (FLOPS, 64), (BYTES, 1), (BYTES, 64))
    ]
    parts = _same(figures)
    figures += [computed(BYTES, (SMALL[0], MEMORY_PLUS), batch=batch) for batch in (1, 16, 64)]
    for name in STEPS:
        figures += kept(measured(name, (SMALL[0], MEMORY_PLUS), batch=batch) for batch in BATCHES)
    also = "Who matched 8 experts first is a question of quality, which is not judged here."
    return answer("R2", figures, by_parts(parts, also=also))


def latency() -> Answer:
    """R3: measured time, bytes and energy of the larger pair, by batch and backend."""
    figures: list[Figure] = []
    parts = []
    for backend in BACKENDS:
        for name in STEPS:
            of_batches = [measured(name, LARGE, batch=batch, backend=backend) for batch in BATCHES]
            figures += kept(of_batches)
            if name == "graph_s":
                parts += [
                    (one.ratio > 1, f"{ratio_words(one)} at batch {batch:,}, {backend}")
                    for batch, one in zip(BATCHES, of_batches, strict=True)
                    if one.ratio is not None
                ]
    largest = BATCHES[-1]
    lacking = [
        backend
        for backend in BACKENDS
        if measured("graph_s", LARGE, batch=largest, backend=backend).ratio is None
    ]
    also = "A ratio is the MoE's time over the memory model's."
    if lacking:
        also += f" Batch {largest:,} was not measured ({' and '.join(lacking)})."
    return answer("R3", figures, by_parts(parts, also=also))


def placement() -> Answer:
    """R4: a decode step by the number of memory layers, at equal parameters."""
    few, every = COUNTS[0], COUNTS[-1]
    figures = [
        computed(
            quantity,
            (with_layers(every), with_layers(count)),
            batch=64,
            names=(f"{every} memory layers", f"{count}"),
        )
        for count in COUNTS[:-1]
        for quantity in (FLOPS, BYTES, "launches", TIME)
    ]
    times = [one for one in figures if one.unit == "s"]
    return answer(
        "R4",
        figures,
        not_judged(
            "Training cost is not modelled yet, and quality is not computed. At inference"
            f" {every} memory layers take {ratio_words(times[0])} the time of {few}, at equal"
            " parameters (plain PyTorch's kernels)."
        ),
    )


def added_layers() -> Answer:
    """R5: what each added memory layer costs."""
    figures = []
    slopes = []
    for few, more in pairwise(COUNTS):
        sides = (with_layers(more), with_layers(few))
        names = (f"{more} memory layers", f"{few}")
        pair = [
            computed(quantity, sides, batch=64, names=names)
            for quantity in (TIME, "routing.flops", BYTES)
        ]
        figures += pair
        after, before = pair[0].values
        slopes.append(((after or 0) - (before or 0)) / (more - few))
    return answer(
        "R5",
        figures,
        not_judged(
            "The published accuracies are not repeated here, and none is computed. Each added"
            f" memory layer takes {1e6 * min(slopes):.0f} to {1e6 * max(slopes):.0f} us of a decode"
            " step of 64 sequences, at equal parameters (plain PyTorch's kernels)."
        ),
    )


def simpler_expansion() -> Answer:
    """R6: both forms of value expansion, all else equal, and at equal parameters."""
    base = load_model(V2)
    grouped, shared = (
        of_memory(base, value_expansion=2, value_expansion_outputs=outputs)
        for outputs in ("per_group", "shared")
    )
    names = ("one for each group", "one projection")
    figures = [
        computed(quantity, (grouped, shared), batch=batch, names=names, of="all else equal: ")
        for quantity, batch in ((TOTAL, 1), (FLOPS, 64), (BYTES, 1), (BYTES, 64), (TIME, 64))
    ]
    figures += change_figures(expansions())
    parts = [
        (
            (one.ratio or 0) > 1 + CLEARLY,
            f"{ratio_words(one)} of {short_what(one)}, {_where(one)}",
        )
        for one in figures
        if one.unit in {"flops", "bytes", "s"}
    ]
    also = "The published models have no expansion (1), where both forms are the same."
    return answer("R6", figures, by_parts(parts, also=also))


def predecessors() -> Answer:
    """R7: UltraMemV2 beside UltraMem, Memory+ and PKM of its size."""
    others: tuple[str | ModelConfig, ...] = (ULTRAMEM, MEMORY_PLUS, product_key_memory())
    costs = ((FLOPS, 64), (BYTES, 1), (BYTES, 64), ("routing.flops", 64), (TIME, 64))
    figures = [
        computed(quantity, (other, V2), batch=batch)
        for other in others
        for quantity, batch in costs
    ]
    parts = _same(figures)
    for other in (ULTRAMEM, MEMORY_PLUS):
        figures += kept(measured("graph_s", (other, V2), batch=batch) for batch in BATCHES)
    also = "C4 has the same change by change. How light a contribution is, is not judged here."
    return answer("R7", figures, by_parts(parts, also=also))


def reviewers() -> Iterator[Answer]:
    """All of them."""
    for make in (
        *(unreported, memory_plus, latency, placement, added_layers),
        *(simpler_expansion, predecessors),
    ):
        yield make()


def _same(figures: Sequence[Figure]) -> list[tuple[bool, str]]:
    """Whether the sides of each figure agree, with the ratio in words."""
    return [(alike(one.ratio, ALIKE), _of_sides(one)) for one in figures]


def _of_sides(figure: Figure) -> str:
    """`1.57x of compulsory HBM bytes, A over B, batch 64`."""
    sides = " over ".join(figure.sides)
    return f"{ratio_words(figure)} of {short_what(figure)}, {sides}{_batch(figure)}"


def _batch(figure: Figure) -> str:
    """`, batch 64` where the figure has a batch."""
    _, found, rest = figure.what.partition(", batch ")
    return f", batch {rest.partition(', context')[0]}" if found else ""


def _where(figure: Figure) -> str:
    equal = figure.what.startswith("all else equal")
    return f"{'all else equal' if equal else 'at equal parameters'}{_batch(figure)}"
