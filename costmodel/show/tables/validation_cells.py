"""The cells of validation's tables: quantities in words, ratios, and where a row was measured."""

from collections.abc import Iterable, Sequence

from costmodel import units
from costmodel.layers.numbers import Number
from costmodel.recordings.error_measures import LOG_ERROR, MAPE
from costmodel.recordings.quantities import QUANTITIES
from costmodel.show.text import Table
from costmodel.validation.counterparts import (
    BOUND_BASES,
    COMPULSORY,
    MODEL_FLOPS,
    PREDICTED,
    ROOFLINE,
)
from costmodel.validation.error_line import ErrorLine
from costmodel.validation.error_stats import BOTH_PHASES, Entry, Origin
from costmodel.validation.validate import leaf_name

NONE = "-"
USUAL_BACKEND = "torch"  # goes without saying
WIDTH = 120  # columns of a terminal that people have
LEAST_AT = 18  # columns of the last cell, however wide the others are
AGAINST = {
    PREDICTED: "",
    COMPULSORY: " / compulsory",
    ROOFLINE: " / bound",
    MODEL_FLOPS: " / model",
}


def label(line: ErrorLine) -> str:
    """The quantity and, where one stands for a prediction, the bound: `HBM ... / compulsory`."""
    of, _, choices = line.basis.partition(",")
    against = AGAINST.get(of, "")
    return f"{QUANTITIES[line.quantity].title}{against}{choices and ', as uniform'}"


def of_backend(backend: str) -> str:
    """In a title: the backend that was measured, where it is not plain PyTorch."""
    return "" if backend == USUAL_BACKEND else f", kernels of {backend}"


def errors_table(
    title: str,
    named: Sequence[tuple[str, ErrorLine]],
    *,
    header: str = "quantity",
    leaves: bool = False,
    sections: Iterable[int] = (),
    notes: Sequence[str] = (),
) -> Table:
    """Lines of errors under a name each; the worst row at the end, with its leaf if asked for."""
    by_time = ("MAPE by\ntime",) if leaves else ()
    headers = (
        *("n", "median\nratio", "10th\nperc.", "90th\nperc.", MAPE),
        *(*by_time, LOG_ERROR.replace(" ", "\n"), "worst\nratio"),
    )
    return fitted(
        Table(
            title=title,
            headers=(header, "phase", *headers, "at"),
            rows=tuple(
                (
                    name,
                    "" if line.phase == BOTH_PHASES else line.phase,
                    f"{line.pairs if leaves else line.compared:,}",
                    *map(ratio, (line.median_ratio, line.low_ratio, line.high_ratio)),
                    share(line.mape),
                    *((share(line.weighted_mape),) if leaves else ()),
                    share(line.error),
                    ratio(line.worst.row.ratio if line.worst else None),
                    entry_at(line.worst, leaf=leaves) if line.worst else "",
                )
                for name, line in named
            ),
            text_columns=2,
            ends_in_text=True,
            sections=frozenset(sections),
            notes=tuple(notes),
        )
    )


def fitted(table: Table) -> Table:
    """The table with its last cells cut, so that it is read without folding."""
    others = list(zip(table.headers, *table.rows, strict=True))[:-1]
    taken = sum(max(map(len, "\n".join(cells).splitlines())) + 2 for cells in others)
    left = max(WIDTH - taken, LEAST_AT)
    rows = tuple((*row[:-1], cut(row[-1], left)) for row in table.rows)
    return Table(
        title=table.title,
        headers=table.headers,
        rows=rows,
        text_columns=table.text_columns,
        ends_in_text=table.ends_in_text,
        sections=table.sections,
        notes=table.notes,
    )


def cut(text: str, most: int) -> str:
    """At most so many characters of it; `...` stands for the rest."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def at(origin: Origin) -> str:
    """`OLMoE-227M 4 x 2,048, zipf:1.0` of a decode step, `OLMoE-227M prefill 2,048` of prefill."""
    work = origin.workload
    if work.phase == "decode":
        size = f"{work.batch:,} x {work.context:,}"
    else:
        after = f" after {work.context:,}" if work.context else ""
        batch = f"{work.batch:,} x " if work.batch > 1 else ""
        size = f"prefill {batch}{work.new_tokens:,}{after}"
    odd = [
        word
        for word, usual in (
            (work.dtype, "bf16"),
            (work.routing, "uniform"),
            (origin.backend, USUAL_BACKEND),
        )
        if word != usual
    ]
    return ", ".join([f"{origin.model} {size}", *odd])


def entry_at(entry: Entry, *, leaf: bool = True) -> str:
    """The case of a row, and its leaf without the layer: `...: moe.experts`."""
    path = entry.row.path
    return f"{at(entry.origin)}: {leaf_name(path)}" if leaf and path else at(entry.origin)


def ratio(value: float | None) -> str:
    """A ratio, or that there is none."""
    return NONE if value is None else units.ratio(value)


def percent(share: float) -> str:
    """`12.3 %`."""
    return units.formatted(share, "share")


def share(value: float | None) -> str:
    """A share in per cent, or that there is none."""
    return NONE if value is None else percent(value)


def amount(value: Number | None, quantity: str) -> str:
    """A number of a measured quantity, in its unit."""
    return NONE if value is None else units.formatted(value, QUANTITIES[quantity].unit)


def is_bound(line: ErrorLine) -> bool:
    """Whether the line stands over a bound, which nothing is expected to equal."""
    return line.basis.startswith(BOUND_BASES)
