"""The top of docs/comparison.md: who is faster at which batch, and how much of it is kernels.

A pair's ratio is the MoE's time over the memory model's. From PyTorch's kernels to the ratio of
roofline bounds it has some way to go, as a factor; fused kernels go a share of it.
"""

from collections.abc import Callable
from math import log

from docs.pair_measurements import (
    BATCHES,
    LARGE,
    PAIRS,
    USUAL_CONTEXT,
    Lack,
    Pair,
    bound_share,
    bytes_share,
    decode,
    measured_share,
    short,
)
from docs.pair_tables import ALIKE, Cells, winners
from docs.wording import listed, span

ORDER = (LARGE, *(pair for pair in PAIRS if pair != LARGE))
HEAD = (
    *("pair", "batch", "bytes promise", "bound says", "`torch`: faster", "`fused`: faster"),
    "share by kernels",
)


def compared_summary() -> str:
    """A paragraph for each pair, and one table of both."""
    return "\n".join(f"{_paragraph(pair)}\n" for pair in ORDER) + f"\n{_table()}"


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
    """The larger pair's ratios of measured times by fused kernels, for a sentence."""
    shares = [measured_share(LARGE, "fused", decode(batch), "graph_s") for batch in BATCHES]
    known = [f"{share:.2f}" for share in shares if not isinstance(share, Lack)]
    return {"pair_large_fused_times": listed(known)} if known else {}


def _paragraph(pair: Pair) -> str:
    steps = [decode(batch) for batch in BATCHES]
    shares = [kernels_share(pair, batch) for batch in BATCHES]
    known = [100 * share for share in shares if not isinstance(share, Lack)]
    by_kernels = (
        f"Of the way from the ratio of times by `torch` to the ratio of bounds, `fused` goes"
        f" {span(known, '.0f')} %: that much was kernels."
        if known
        else "How much of it is kernels: not measured (no case has both backends)."
    )
    return (
        f"**{short(pair.moe)} or {short(pair.memory)}**, decode at {USUAL_CONTEXT:,} cached tokens."
        f" By fused kernels on both sides, {winners(pair, 'fused', steps)}"
        f" By PyTorch's kernels, {winners(pair, 'torch', steps)} {by_kernels}"
    )


def _table() -> str:
    cells = Cells()
    rows = [
        (
            f"{_family(pair.moe)} or {_family(pair.memory)}, {_size(pair.memory)}",
            f"{batch:,}",
            _faster(pair, bytes_share(pair, decode(batch)), cells),
            _faster(pair, bound_share(pair, decode(batch)), cells),
            *(
                _faster(pair, measured_share(pair, backend, decode(batch), "graph_s"), cells)
                for backend in ("torch", "fused")
            ),
            cells.of(kernels_share(pair, batch), ".0%").replace("%", " %"),
        )
        for pair in ORDER
        for batch in BATCHES
    ]
    return cells.table(HEAD, rows)


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
    return short(name).partition("-")[2]


TABLES: dict[str, Callable[[], str]] = {"compared_summary": compared_summary}
