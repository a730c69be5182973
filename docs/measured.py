"""The tables of README and measuring.md that come from the recordings: `python docs/measured.py`.

A table stands between `<!-- name:begin -->` and `<!-- name:end -->`; names that are not in `TABLES`
are left alone. Measured numbers are medians.
"""

import math
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from statistics import fmean, median

from costmodel.beside import Gpus
from costmodel.bound import required, whole
from costmodel.inputs.recording import Check, Recording, load_recording
from costmodel.join import Row
from costmodel.observed import recorded_distinct
from costmodel.validate import validate

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "measuring.md")
BLOCK = re.compile(r"(?s)(<!-- (\w+):begin -->\n)(.*?)(<!-- \2:end -->)")
PREFIX = "h200-"

PAIRS = (
    ("olmoe-227m-1.2b", "ultramemv2-227m-1.2b", (1, 4, 16, 64, 256, 1024)),
    ("olmoe-1b-7b", "ultramemv2-1b-7b", (1, 4, 16, 64, 256)),
)
SPARSE = (
    "olmoe-227m-1.2b",
    "ultramem-227m-1.2b",
    "ultramemv2-227m-1.2b",
    "memory-plus-227m-1.2b",
    "olmoe-1b-7b",
    "ultramemv2-1b-7b",
)
MODELS = (*SPARSE, "llama-3.1-8b")
BATCHES = (1, 4, 16, 64, 256, 1024)
PROMPTS = (512, 2048, 8192)
PADDED = (  # leaf, model: whose tiles are shown
    ("attention.qkv", "llama-3.1-8b"),
    ("ffn.gate_up", "llama-3.1-8b"),
    ("memory.query", "ultramemv2-1b-7b"),
    ("moe.experts", "olmoe-1b-7b"),
    ("attention.core", "olmoe-1b-7b"),
    ("attention.core", "llama-3.1-8b"),
)
RATES = (  # leaf, model: whose bandwidth is shown
    ("moe.experts", "olmoe-227m-1.2b"),
    ("moe.experts", "olmoe-1b-7b"),
    ("ffn.gate_up", "llama-3.1-8b"),
    ("attention.core", "olmoe-1b-7b"),
    ("memory.retrieve", "ultramemv2-1b-7b"),
    ("memory.values", "ultramemv2-1b-7b"),
)
EXACT = ("parameters", "buffer_bytes", "kv_held_bytes", "flops_counted")
ERRORS = ("graph_s", "kernel_s", "eager_s", "energy_j", "launches", "peak_memory_bytes")


class Book:
    """All committed recordings beside their predictions."""

    @cached_property
    def recordings(self) -> dict[str, Recording]:
        """By the name of the preset."""
        paths = sorted((ROOT / "recordings").glob("*.json"))
        return {path.stem.removeprefix(PREFIX): load_recording(path) for path in paths}

    def __init__(self) -> None:
        found = validate(list(self.recordings.items()), Gpus())
        self.below_bound = found.violations
        self.achieved = {(each.recording, each.case): each.achieved for each in found.figures}
        self.entries = [entry for group in found.groups for entry in group]
        self.steps = {
            (entry.recording, entry.case, entry.row.run, entry.row.quantity): entry.row
            for entry in self.entries
            if entry.row.path is None
        }

    def step(self, model: str, label: str, run: str, quantity: str) -> Row:
        """A row of the whole step."""
        return self.steps[model, label, run, quantity]

    def leaf_sum(self, model: str, label: str, run: str, quantity: str, leaf: str) -> Row:
        """The sum over the layers of one leaf: of both sides, in a row of the first."""
        rows = [
            entry.row
            for entry in self._of(model, label)
            if (entry.row.run, entry.row.quantity) == (run, quantity)
            and (entry.row.path or "").endswith(f".{leaf}")
        ]
        return rows[0]._replace(
            predicted=sum(row.predicted or 0 for row in rows),
            measured=sum(row.measured or 0 for row in rows),
        )

    def _of(self, model: str, label: str) -> Iterator:  # type: ignore[type-arg]
        return (each for each in self.entries if (each.recording, each.case) == (model, label))

    def checks(self) -> dict[str, list[Check]]:
        """The self-checks of all sessions, by name."""
        found: dict[str, list[Check]] = {}
        for recording in self.recordings.values():
            for session in recording.sessions:
                for check in session.self_check:
                    found.setdefault(check.name, []).append(check)
        return found


def decode(batch: int) -> str:
    """The label of a decode case at the usual context."""
    return f"decode, batch {batch:,}, context 2,048, bf16, uniform"


def prefill(tokens: int) -> str:
    """The label of a prompt of one sequence."""
    return f"prefill, batch 1, context 0, {tokens:,} new tokens, bf16, uniform"


def beside(book: Book) -> str:
    """Both pairs at four batches: predicted beside measured."""
    rows = []
    for moe, memory, _ in PAIRS:
        for batch in (1, 16, 64, 256):
            for model in (moe, memory):
                time = book.step(model, decode(batch), "time", "graph_s")
                read = book.step(model, decode(batch), "counters", "hbm_read_bytes")
                rows.append(
                    (
                        model,
                        f"{batch}",
                        *_three(time, 1e3, ".2f"),
                        *_three(read, 1e-9, ".2f", ratio=".3f"),
                    )
                )
    head = "model|batch|ms predicted|ms measured|ratio|GB compulsory|GB read|ratio"
    return _table(head, rows)


def self_check(book: Book) -> str:
    """Each check: what is known, what all sessions measured, and whether it held."""
    rows = []
    for name, checks in book.checks().items():
        ratios = [(check.measured or 0) / check.known for check in checks]
        rows.append(
            (
                name,
                f"{checks[0].known:,.0f}",
                f"{min(ratios):.5f}",
                f"{max(ratios):.5f}",
                f"{100 * checks[0].tolerance:g} %" if checks[0].tolerance else "exact",
                f"{sum(check.passed is True for check in checks)} of {len(checks)}",
            )
        )
    return _table("check|known|least measured / known|most|tolerance|held", rows)


def agreement(book: Book) -> str:
    """Counts that must be equal, and bytes and sums that must nearly be."""
    rows = []
    for quantity in EXACT:
        both = [e.row for e in book.entries if e.row.quantity == quantity and e.row.predicted]
        compared = [row for row in both if row.measured is not None]
        equal = sum(row.predicted == row.measured for row in compared)
        rows.append((f"`{quantity}`, steps and leaves", f"{len(compared):,}", f"equal: {equal:,}"))
    decoding = list(_reads_over_required(book))
    for words, wanted in (
        ("2,048 tokens and more", [v for context, v in decoding if context >= PROMPTS[1]]),
        ("512 tokens", [v for context, v in decoding if context == PROMPTS[0]]),
    ):
        rows.append((f"decode at {words}: HBM bytes read / compulsory", *_range(wanted)))
    for phase in ("decode", "prefill"):
        shares = [
            each.leaves_over_step.value
            for (_, label), each in book.achieved.items()
            if label.startswith(phase) and each.leaves_over_step.value is not None
        ]
        rows.append((f"{phase}: reads summed over leaves / of the step", *_range(shares)))
    rows += [
        ("distinct experts or rows of a layer / expected, uniform, batch 16 up", *_distinct(book)),
        ("reads and times below the bound", f"{len(book.recordings)} models", _below(book)),
    ]
    return _table("what|compared|found", rows, numbers=0)


def errors(book: Book) -> str:
    """How far predictions are from measurements, by quantity and phase."""
    rows = []
    for quantity in ERRORS:
        for phase in ("decode", "prefill"):
            found = [
                row
                for (_, label, _, name), row in book.steps.items()
                if name == quantity and label.startswith(phase) and row.ratio is not None
            ]
            rows.append((f"`{quantity}`", phase, *_errors([row.ratio or 0 for row in found])))
    return _table("step|phase|cases|median ratio|error|least|most", rows, text=2)


def kinds(book: Book) -> str:
    """Kernel time of leaves by kind of operator."""
    by_kind: dict[str, list[float]] = {}
    for entry in book.entries:
        row = entry.row
        if row.quantity == "kernel_s" and row.kind is not None and row.ratio:
            by_kind.setdefault(row.kind, []).append(row.ratio)
    rows = [(kind, *_errors(ratios)) for kind, ratios in sorted(by_kind.items())]
    return _table("leaves of kind|leaves|median ratio|error|least|most", rows)


def pairs(book: Book) -> str:
    """The MoE over the memory model, at equal batch."""
    rows = []
    for moe, memory, batches in PAIRS:
        for batch in batches:
            quotients = []
            for run, quantity in (
                ("counters", "hbm_read_bytes"),
                ("time", "graph_s"),
                ("energy", "energy_j"),
            ):
                one, two = (book.step(m, decode(batch), run, quantity) for m in (moe, memory))
                quotients.append(f"{(one.measured or 0) / (two.measured or 1):.2f}")
            one, two = (book.step(m, decode(batch), "time", "graph_s") for m in (moe, memory))
            quotients.append(f"{float(one.predicted or 0) / float(two.predicted or 1):.2f}")
            rows.append((f"{moe} / {memory}", f"{batch:,}", *quotients))
    return _table("pair|batch|bytes read|time|energy|time predicted", rows)


def mbu(book: Book) -> str:
    """Model bandwidth utilisation of decode."""
    return _by_batch(book, MODELS, lambda model, label: book.achieved[model, label].mbu.value)


def routing(book: Book) -> str:
    """Share of the step's kernel time in leaves that only choose."""
    return _by_batch(
        book, SPARSE, lambda model, label: book.achieved[model, label].routing_share.value
    )


def tiles(book: Book) -> str:
    """Tensor FLOPs executed over useful ones."""
    rows = []
    for leaf, model in PADDED:
        found = [
            book.leaf_sum(model, decode(batch), "counters", "flops_tensor", leaf)
            for batch in (1, 4, 16, 64, 256)
        ]
        rows.append((f"`{leaf}`", model, *(f"{row.ratio or 0:.1f}" for row in found)))
    return _table("leaf|model|batch 1|4|16|64|256", rows, text=2)


def rates(book: Book) -> str:
    """HBM bytes read in leaves over their kernel time."""
    rows = []
    for leaf, model in RATES:
        cells = []
        for batch in (1, 4, 16, 64, 256):
            read = book.leaf_sum(model, decode(batch), "counters", "hbm_read_bytes", leaf)
            time = book.leaf_sum(model, decode(batch), "time", "kernel_s", leaf)
            cells.append(f"{(read.measured or 0) / (time.measured or 1) / 1e12:.2f}")
        rows.append((f"`{leaf}`", model, *cells))
    return _table("leaf|model|batch 1|4|16|64|256", rows, text=2)


def prompts(book: Book) -> str:
    """Prefill: bytes read over compulsory ones, and the time over the predicted one."""
    rows = []
    for model in MODELS:
        read = [book.step(model, prefill(t), "counters", "hbm_read_bytes") for t in PROMPTS]
        time = [book.step(model, prefill(t), "time", "graph_s") for t in PROMPTS]
        rows.append((model, *(f"{row.ratio or 0:.2f}" for row in (*read, *time))))
    return _table("model|read: 512|2,048|8,192|time: 512|2,048|8,192", rows)


def _reads_over_required(book: Book) -> Iterator[tuple[int, float]]:
    """Of each decode case its context, and bytes read over those of what its run touched."""
    for recording in book.recordings.values():
        for case in recording.cases:
            run = case.runs.get("counters")
            if case.workload.phase == "decode" and run is not None:
                touched = recorded_distinct(recording, run)
                read = run.step["hbm_read_bytes"].median  # type: ignore[union-attr]
                yield (
                    case.workload.context,
                    read / whole(required(recording, case, touched)).read_bytes,
                )


def _distinct(book: Book) -> tuple[str, str]:
    ratios = [
        entry.row.ratio
        for entry in book.entries
        if entry.row.quantity == "distinct" and entry.row.run == "time" and entry.row.ratio
        if entry.case.endswith("uniform") and not re.search(r"decode, batch [14],", entry.case)
    ]
    return _range(ratios)


def _below(book: Book) -> str:
    return f"{len(book.below_bound)}" if book.below_bound else "none"


def _range(values: list[float]) -> tuple[str, str]:
    return f"{len(values):,}", f"{min(values):.4f} to {max(values):.4f}, median {median(values):.4f}"


def _errors(ratios: list[float]) -> tuple[str, ...]:
    """How many, the median, exp(mean |ln ratio|) - 1, and both ends."""
    error = math.exp(fmean(abs(math.log(ratio)) for ratio in ratios)) - 1
    return (
        f"{len(ratios):,}",
        f"{median(ratios):.2f}",
        f"{100 * error:.1f} %",
        f"{min(ratios):.2f}",
        f"{max(ratios):.2f}",
    )


def _three(row: Row, scale: float, form: str, ratio: str = ".2f") -> tuple[str, str, str]:
    return (
        f"{float(row.predicted or 0) * scale:{form}}",
        f"{(row.measured or 0) * scale:{form}}",
        f"{row.ratio or 0:{ratio}}",
    )


def _by_batch(
    book: Book, models: tuple[str, ...], value: Callable[[str, str], float | None]
) -> str:
    rows = []
    for model in models:
        found = [value(model, decode(batch)) for batch in BATCHES]
        rows.append((model, *("-" if v is None else f"{100 * v:.1f} %" for v in found)))
    assert book.achieved
    return _table("model|batch 1|4|16|64|256|1,024", rows)


def _table(head: str, rows: list[tuple[str, ...]], *, text: int = 1, numbers: int = 1) -> str:
    names = head.split("|")
    marks = ["---"] * text + ["---:" if numbers else "---"] * (len(names) - text)
    return "".join(f"| {' | '.join(row)} |\n" for row in (names, marks, *rows))


TABLES: dict[str, Callable[[Book], str]] = {
    each.__name__: each
    for each in (
        beside,
        self_check,
        agreement,
        errors,
        kinds,
        pairs,
        mbu,
        routing,
        tiles,
        rates,
        prompts,
    )
}


def current(text: str, book: Book) -> str:
    """The page with its tables as the recordings have them."""

    def table(match: re.Match[str]) -> str:
        make = TABLES.get(match[2])
        return match[0] if make is None else f"{match[1]}{make(book)}{match[4]}"

    return BLOCK.sub(table, text)


if __name__ == "__main__":
    BOOK = Book()
    for page in PAGES:
        page.write_text(current(page.read_text(encoding="utf-8"), BOOK), encoding="utf-8")
