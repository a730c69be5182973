"""The tables of README and measuring.md that recordings fill: `python -m docs.measured`.

A table stands between `<!-- name:begin -->` and `<!-- name:end -->`; names that are not in `TABLES`
are left alone. Measured numbers are medians.
"""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median

from docs.book import Book, Page, decode, measured, predicted, prefill, ratio

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "measuring.md")
BLOCK = re.compile(r"(?s)(<!-- (\w+):begin -->\n)(.*?)(<!-- \2:end -->)")

SMALL = "olmoe-227m-1.2b", "ultramemv2-227m-1.2b"
LARGE = "olmoe-1b-7b", "ultramemv2-1b-7b"
SPARSE = (SMALL[0], "ultramem-227m-1.2b", SMALL[1], "memory-plus-227m-1.2b", *LARGE)
DENSE = "llama-3.1-8b"
BATCHES = (1, 4, 16, 64, 256, 1024)
PROMPTS = (512, 2048, 8192)
PADDED = (  # leaf, model
    ("attention.qkv", DENSE),
    ("ffn.gate_up", DENSE),
    ("memory.query", LARGE[1]),
    ("moe.experts", LARGE[0]),
    ("attention.core", LARGE[0]),
    ("attention.core", DENSE),
)
RATES = (
    ("attention.core", LARGE[0]),
    ("ffn.gate_up", DENSE),
    ("moe.experts", LARGE[0]),
    ("moe.experts", SMALL[0]),
    ("memory.values", LARGE[1]),
    ("memory.retrieve", LARGE[1]),
)
EXACT = ("parameters", "buffer_bytes", "kv_held_bytes", "flops_counted")
ERRORS = ("graph_s", "kernel_s", "eager_s", "energy_j", "launches", "peak_memory_bytes")


def beside(book: Book) -> str:
    """Both pairs at four batches: predicted beside measured."""
    head = (
        "model",
        "batch",
        "graph, ms: predicted",
        "measured",
        "ratio",
        "HBM read, GB: compulsory",
        "measured",
        "ratio",
    )
    rows = []
    for pair in (SMALL, LARGE):
        for batch in (1, 16, 64, 256):
            for model in pair:
                step = book.page(model, decode(batch)).step
                time, read = step["graph_s"], step["hbm_read_bytes"]
                rows.append(
                    (
                        model,
                        f"{batch}",
                        f"{predicted(time) * 1e3:.2f}",
                        f"{measured(time) * 1e3:.2f}",
                        f"{ratio(time):.2f}",
                        f"{predicted(read) / 1e9:.3f}",
                        f"{measured(read) / 1e9:.3f}",
                        f"{ratio(read):.3f}",
                    )
                )
    return _table(head, rows)


def self_check(book: Book) -> str:
    """Each check: what is known, the least and most that any session measured, what held."""
    rows = []
    for name, checks in book.checks.items():
        found = [(check.measured or 0) / check.known for check in checks]
        tolerance = checks[0].tolerance
        rows.append(
            (
                name,
                f"{checks[0].known:,.0f}",
                f"{min(found):.5f} to {max(found):.5f}",
                f"{100 * tolerance:g} %" if tolerance else "none",
                f"{sum(check.passed is True for check in checks)} of {len(checks)}",
            )
        )
    return _table(("check", "known", "measured / known", "tolerance", "held"), rows)


def agreement(book: Book) -> str:
    """Counts that must be equal, and bytes and sums that must nearly be."""
    rows: list[tuple[str, ...]] = []
    for quantity in EXACT:
        both = [
            row for _, row in book.rows() if row.quantity == quantity and row.measured is not None
        ]
        equal = sum(row.predicted == row.measured for row in both)
        what = "steps and leaves" if quantity == "flops_counted" else "steps"
        rows.append((f"`{quantity}` of {what}: equal", f"{len(both):,}", f"{equal:,}"))
    reads = list(book.reads_over_compulsory())
    for words, found in (
        ("2,048 tokens and more", [share for context, share in reads if context >= PROMPTS[1]]),
        ("512 tokens", [share for context, share in reads if context == PROMPTS[0]]),
    ):
        rows.append((f"decode at {words}: HBM bytes read / compulsory", *_range(found)))
    for phase in ("decode", "prefill"):
        shares = [
            page.achieved.leaves_over_step.value or 0
            for (_, label), page in book.pages.items()
            if label.startswith(phase)
        ]
        rows.append((f"{phase}: reads summed over leaves / of the step", *_range(shares)))
    distinct = [
        _mean_distinct(page)
        for (model, label), page in book.pages.items()
        if model != DENSE and label.startswith("decode") and label.endswith("uniform")
        if page.case.workload.batch >= BATCHES[2]
    ]
    rows += [
        (
            "distinct experts or rows / expected, mean over layers, uniform, batch 16 and up",
            *_range(distinct),
        ),
        ("numbers below the bound", f"{len(book.pages)} cases", f"{book.below_bound}"),
    ]
    return _table(("what", "compared", "found"), rows)


def errors(book: Book) -> str:
    """How far predictions of steps are from measurements, by quantity and phase."""
    rows = []
    for quantity in ERRORS:
        for phase in ("decode", "prefill"):
            found = [
                ratio(page.step[quantity])
                for (_, label), page in book.pages.items()
                if label.startswith(phase) and page.step[quantity].measured is not None
            ]
            rows.append((f"`{quantity}`", phase, *_errors(found)))
    return _table(("step", "phase", "cases", "median", "error", "least", "most"), rows, text=2)


def kinds(book: Book) -> str:
    """Kernel time of leaves by kind of operator."""
    by_kind: dict[str, list[float]] = {}
    for _, row in book.rows():
        if row.quantity == "kernel_s" and row.kind is not None:
            by_kind.setdefault(row.kind, []).append(ratio(row))
    rows = [(kind, *_errors(found)) for kind, found in sorted(by_kind.items())]
    return _table(("leaves of kind", "leaves", "median", "error", "least", "most"), rows)


def pairs(book: Book) -> str:
    """The MoE over the memory model, at equal batch."""
    rows = []
    for (moe, memory), batches in ((SMALL, BATCHES), (LARGE, BATCHES[:-1])):
        for batch in batches:
            one, two = (book.page(model, decode(batch)) for model in (moe, memory))
            times = predicted(one.step["graph_s"]) / predicted(two.step["graph_s"])
            quotients = [
                one.value(name) / two.value(name)
                for name in ("hbm_read_bytes", "graph_s", "energy_j")
            ]
            cells = [f"{each:.2f}" for each in (*quotients, times)]
            rows.append((f"{moe} / {memory}", f"{batch:,}", *cells))
    return _table(("pair", "batch", "bytes read", "time", "energy", "time, predicted"), rows)


def mbu(book: Book) -> str:
    """Model bandwidth utilisation of decode."""
    return _by_batch(book, (*SPARSE, DENSE), lambda page: page.achieved.mbu.value)


def routing(book: Book) -> str:
    """Share of the step's kernel time in leaves that only choose."""
    return _by_batch(book, SPARSE, lambda page: page.achieved.routing_share.value)


def tiles(book: Book) -> str:
    """Tensor FLOPs executed over useful ones."""
    rows = []
    for leaf, model in PADDED:
        found = []
        for batch in BATCHES[:-1]:
            useful, executed = book.page(model, decode(batch)).leaf("flops_tensor", leaf)
            found.append(f"{executed / useful:.1f}")
        rows.append((f"`{leaf}`", model, *found))
    return _table(("leaf", "model", "batch 1", "4", "16", "64", "256"), rows, text=2)


def rates(book: Book) -> str:
    """HBM bytes read in leaves over their kernel time, in GB/s."""
    rows = []
    for leaf, model in RATES:
        found = []
        for batch in BATCHES[:-1]:
            page = book.page(model, decode(batch))
            _, read = page.leaf("hbm_read_bytes", leaf)
            _, seconds = page.leaf("kernel_s", leaf)
            found.append(f"{read / seconds / 1e9:,.0f}")
        rows.append((f"`{leaf}`", model, *found))
    return _table(("leaf", "model", "batch 1", "4", "16", "64", "256"), rows, text=2)


def prompts(book: Book) -> str:
    """Prefill: bytes read over compulsory ones, and time over predicted time."""
    rows = []
    for model in (*SPARSE, DENSE):
        steps = [book.page(model, prefill(tokens)).step for tokens in PROMPTS]
        found = [step[name] for name in ("hbm_read_bytes", "graph_s") for step in steps]
        rows.append((model, *(f"{ratio(row):.2f}" for row in found)))
    head = ("model", "bytes: 512", "2,048", "8,192", "time: 512", "2,048", "8,192")
    return _table(head, rows)


def _mean_distinct(page: Page) -> float:
    """What the layers touched over what they are expected to, as the run `counters` saw it."""
    rows = [row for row in page.leaves if (row.run, row.quantity) == ("counters", "distinct")]
    return sum(map(measured, rows)) / sum(map(predicted, rows))


def _range(values: Sequence[float]) -> tuple[str, str]:
    found = f"{min(values):.4f} to {max(values):.4f}, median {median(values):.4f}"
    return f"{len(values):,}", found


def _errors(ratios: Sequence[float]) -> tuple[str, ...]:
    """How many, the median, exp(mean |ln ratio|) - 1 as `validate` has it, and both ends."""
    error = math.exp(fmean(abs(math.log(each)) for each in ratios)) - 1
    ends = (f"{min(ratios):.2f}", f"{max(ratios):.2f}")
    return f"{len(ratios):,}", f"{median(ratios):.2f}", f"{100 * error:.1f} %", *ends


def _by_batch(book: Book, models: Sequence[str], share: Callable[[Page], float | None]) -> str:
    rows = []
    for model in models:
        pages = [book.pages.get((model, decode(batch))) for batch in BATCHES]
        found = [None if page is None else share(page) for page in pages]
        rows.append((model, *("-" if v is None else f"{100 * v:.1f} %" for v in found)))
    return _table(("model", "batch 1", *(f"{batch:,}" for batch in BATCHES[1:])), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, text: int = 1) -> str:
    """Markdown, with `text` columns of words and the others of numbers."""
    marks = ["---"] * text + ["---:"] * (len(head) - text)
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, marks, *rows))


TABLES: dict[str, Callable[[Book], str]] = {
    make.__name__: make
    for make in (
        *(beside, self_check, agreement, errors, kinds),
        *(pairs, mbu, routing, tiles, rates, prompts),
    )
}


def current(text: str, book: Book) -> str:
    """The page with its tables as the recordings have them."""

    def table(match: re.Match[str]) -> str:
        make = TABLES.get(match[2])
        return match[0] if make is None else f"{match[1]}{make(book)}{match[4]}"

    return BLOCK.sub(table, text)


def main() -> None:
    """Write the tables of both pages anew."""
    book = Book()
    for page in PAGES:
        page.write_text(current(page.read_text(encoding="utf-8"), book), encoding="utf-8")


if __name__ == "__main__":
    main()
