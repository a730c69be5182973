"""The top of docs/comparison.md: who is faster at which batch, and how much of it is kernels.

A pair's ratio is the MoE's time over the memory model's. From PyTorch's kernels to the ratio of
roofline bounds it has some way to go, as a factor; fused kernels go a share of it.
"""

from collections.abc import Callable
from math import log

from costmodel.layers.attention import Attention
from docs.pair_measurements import (
    BATCHES,
    GROUPED_PAIR,
    LARGE,
    SMALL,
    Lack,
    Pair,
    bound_share,
    bytes_share,
    decode,
    measured_share,
    model_of,
    short,
)
from docs.pair_tables import Cells
from docs.pair_words import ALIKE, winners
from docs.wording import listed, span

ORDER = (LARGE, GROUPED_PAIR, SMALL)
EXAMPLE = LARGE, 16  # pair and batch whose share is worked out in words
HEAD = (
    *("size", "KV heads", "batch", "bytes promise", "PyTorch's kernels", "fused kernels"),
    "closed by kernels",
)


def compared_summary() -> str:
    """A line for each pair, one table of all, and one share worked out."""
    return "".join(map(_line, ORDER)) + f"\n{_table()}\n{_example()}"


def kernels_share(pair: Pair, batch: int) -> float | Lack:
    """How far fused kernels move the ratio of measured times towards that of the bounds.

    ln(fused / torch) / ln(bound / torch), of a decode step at the usual context: 0 where both
    backends give one ratio, 1 where the fused one is that of the bounds.
    """
    torch, fused = (
        measured_share(pair, backend, decode(batch), "graph_s") for backend in ("torch", "fused")
    )
    if isinstance(torch, Lack):
        return torch
    if isinstance(fused, Lack):
        return fused
    return log(fused / torch) / log(bound_share(pair, decode(batch)) / torch)


def fused_speeds() -> dict[str, str]:
    """Ratios of measured times by fused kernels, of the larger pair, for a sentence."""
    values = {}
    for name, pair in (("large", LARGE), ("grouped", GROUPED_PAIR)):
        shares = [
            measured_share(pair, "fused", decode(batch), "graph_s") for batch in _batches(pair)
        ]
        known = [f"{share:.2f}" for share in shares if not isinstance(share, Lack)]
        if known:
            values[f"pair_{name}_fused_times"] = listed(known)
    return values


def _line(pair: Pair) -> str:
    steps = [decode(batch) for batch in _batches(pair)]
    by_fused, by_torch = (
        winners(pair, backend, steps, named=_family) for backend in ("fused", "torch")
    )
    shares = [kernels_share(pair, batch) for batch in _batches(pair)]
    known = [100 * share for share in shares if not isinstance(share, Lack)]
    kernels = (
        " Of the gap between the times by PyTorch's kernels and what the bytes promise, fused"
        f" kernels close {span(known, '.0f')} %."
        if known
        else ""
    )
    return (
        f"- **{_size(pair.memory)}, {_kv_heads(pair)} KV heads{_origin(pair)}.** Fused kernels:"
        f" {by_fused} PyTorch's kernels: {by_torch}{kernels}\n"
    )


def _example() -> str:
    """How one cell of the last column comes about; empty where it was not measured."""
    pair, batch = EXAMPLE
    share = kernels_share(pair, batch)
    torch, fused = (
        measured_share(pair, backend, decode(batch), "graph_s") for backend in ("torch", "fused")
    )
    if isinstance(share, Lack) or isinstance(torch, Lack) or isinstance(fused, Lack):
        return ""
    bound = bound_share(pair, decode(batch))
    return (
        f"*Closed by kernels*, such as {_size(pair.memory)} with {_kv_heads(pair)} KV heads at"
        f" batch {batch}: bytes promise {_family(pair.memory)} {bound:.2f}x, PyTorch's kernels give"
        f" {torch:.2f}x, fused ones {fused:.2f}x. The gap is a factor of {bound / torch:.2f}, of"
        f" which fused kernels close {fused / torch:.2f}: {share:.0%} in logarithms.\n"
    ).replace("%", " %")


def _table() -> str:
    cells = Cells()
    rows = [
        (
            _size(pair.memory),
            _kv_heads(pair),
            f"{batch:,}",
            _faster(pair, bytes_share(pair, decode(batch)), cells),
            *(
                _faster(pair, measured_share(pair, backend, decode(batch), "graph_s"), cells)
                for backend in ("torch", "fused")
            ),
            cells.of(kernels_share(pair, batch), ".0%").replace("%", " %"),
        )
        for pair in ORDER
        for batch in _batches(pair)
    ]
    return cells.table(HEAD, rows)


def _batches(pair: Pair) -> tuple[int, ...]:
    """Those at which the published pair fits the GPU; the larger one at batch 1,024 does not."""
    return BATCHES if pair == SMALL else BATCHES[:-1]


def _kv_heads(pair: Pair) -> str:
    attention = model_of(pair.moe).attention
    assert isinstance(attention, Attention)
    return f"{attention.num_key_value_heads}"


def _origin(pair: Pair) -> str:
    return " in place of 16" if pair == GROUPED_PAIR else ", as published"


def _faster(pair: Pair, share: float | Lack, cells: Cells) -> str:
    """`UltraMemV2 1.78x`: which model needs less, and how much more the other one needs."""
    if isinstance(share, Lack):
        return cells.of(share)
    if max(share, 1 / share) <= 1 + ALIKE:
        return "alike"
    name = pair.memory if share > 1 else pair.moe
    return f"{_family(name)} {max(share, 1 / share):.2f}x"


def _family(name: str) -> str:
    return short(name).partition("-")[0]


def _size(name: str) -> str:
    return short(name).partition("-")[2].partition(",")[0]


TABLES: dict[str, Callable[[], str]] = {"compared_summary": compared_summary}
