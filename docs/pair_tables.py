"""The measured part of docs/comparison.md: tables of both backends.

Ratios are those of the MoE over the memory model, so that above 1 the memory model needs less.
"""

from collections.abc import Callable, Iterable, Sequence

from costmodel.recordings.case_workload import CaseWorkload
from docs.markdown import markdown
from docs.pair_measurements import (
    BACKENDS,
    BATCHES,
    CONTEXTS,
    GROUPED_BATCHES,
    GROUPED_PAIR,
    PAIRS,
    PROMPTS,
    SKEWED,
    Lack,
    Pair,
    bound_s,
    bound_share,
    bytes_share,
    decode,
    kernel_gain,
    measured,
    measured_share,
    prompt,
    short,
)

RATIO_HEAD = (
    *("bytes promised", "bound", "bytes read: torch", "fused"),
    *("time: torch", "fused", "energy: torch", "fused"),
)
STEP_HEAD = (
    *("bound, ms", "torch, ms", "fused, ms", "torch / fused", "HBM read, GB"),
    *("energy a token, mJ: torch", "fused"),
)


class Cells:
    """Cells of one table; the reasons of those without a number are told beneath it."""

    def __init__(self) -> None:
        self._lacks: dict[str, None] = {}

    def of(self, value: float | Lack, form: str = ".2f", scale: float = 1) -> str:
        """The number as the form writes it, or a dash."""
        if isinstance(value, Lack):
            self._lacks[value.reason] = None
            return "-"
        return format(value * scale, form)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], *, text: int = 1) -> str:
        """The table, and what its dashes mean."""
        because = f"\n`-`: {'; '.join(self._lacks)}.\n" if self._lacks else ""
        return markdown(head, rows, text=text) + because


def _ratios(
    first: Sequence[str], settings: Iterable[tuple[Sequence[str], Pair, CaseWorkload]]
) -> str:
    """Promised and measured ratios of a pair, a row for each setting after its own words."""
    cells = Cells()
    rows = []
    for words, pair, workload in settings:
        of = [
            bytes_share(pair, workload),
            bound_share(pair, workload),
            *(
                measured_share(pair, backend, workload, quantity)
                for quantity in ("hbm_read_bytes", "graph_s", "energy_j")
                for backend in BACKENDS
            ),
        ]
        rows.append((*words, *map(cells.of, of)))
    return cells.table((*first, *RATIO_HEAD), rows)


def _steps(
    first: Sequence[str], settings: Iterable[tuple[Sequence[str], str, CaseWorkload]]
) -> str:
    """Bound, measured times, bytes and energies of a model, a row for each setting."""
    cells = Cells()
    rows = []
    for words, name, workload in settings:
        tokens = workload.batch * workload.new_tokens
        rows.append((
            *words,
            cells.of(bound_s(name, workload), ".3f", 1e3),
            *(cells.of(measured(name, b, workload, "graph_s"), ".3f", 1e3) for b in BACKENDS),
            cells.of(kernel_gain(name, workload)),
            cells.of(measured(name, "torch", workload, "hbm_read_bytes"), ".3f", 1e-9),
            *(
                cells.of(measured(name, b, workload, "energy_j"), ".4g", 1e3 / tokens)
                for b in BACKENDS
            ),
        ))  # fmt: skip
    return cells.table((*first, *STEP_HEAD), rows)


def compared_decode() -> str:
    """Both pairs at every batch, 2,048 cached tokens, uniform routing."""
    return _ratios(
        ("pair", "batch"),
        (((pair.title, f"{batch:,}"), pair, decode(batch)) for pair in PAIRS for batch in BATCHES),
    )


def compared_steps() -> str:
    """The four models at every batch, 2,048 cached tokens, uniform routing."""
    return _steps(
        ("model", "batch"),
        (
            ((short(name), f"{batch:,}"), name, decode(batch))
            for pair in PAIRS
            for batch in BATCHES
            for name in (pair.moe, pair.memory)
        ),
    )


def compared_contexts() -> str:
    """Ratios of measured times over contexts, by batch and backend."""
    cells = Cells()
    rows = [
        (
            *(pair.title, backend, f"{context:,}"),
            *(
                cells.of(measured_share(pair, backend, decode(batch, context), "graph_s"))
                for batch in BATCHES
            ),
        )
        for pair in PAIRS
        for backend in BACKENDS
        for context in CONTEXTS
    ]
    head = ("pair", "backend", "context", "batch 1", *(f"{batch:,}" for batch in BATCHES[1:]))
    return cells.table(head, rows, text=2)


def compared_skewed() -> str:
    """Both pairs at every batch, 2,048 cached tokens, experts and rows drawn by Zipf's law."""
    return _ratios(
        ("pair", "batch"),
        (
            ((pair.title, f"{batch:,}"), pair, decode(batch, routing=SKEWED))
            for pair in PAIRS
            for batch in BATCHES
        ),
    )


def compared_prompts() -> str:
    """Both pairs over prompts of three lengths."""
    return _ratios(
        ("pair", "new tokens"),
        (((pair.title, f"{n:,}"), pair, prompt(n)) for pair in PAIRS for n in PROMPTS),
    )


def compared_prompt_steps() -> str:
    """The four models over prompts of three lengths."""
    return _steps(
        ("model", "new tokens"),
        (
            ((short(name), f"{tokens:,}"), name, prompt(tokens))
            for pair in PAIRS
            for tokens in PROMPTS
            for name in (pair.moe, pair.memory)
        ),
    )


def compared_grouped() -> str:
    """The larger pair with 4 key-value heads in each model, 2,048 cached tokens."""
    return _ratios(
        ("batch",),
        (((f"{batch}",), GROUPED_PAIR, decode(batch)) for batch in GROUPED_BATCHES),
    )


def compared_grouped_steps() -> str:
    """Both models with 4 key-value heads, 2,048 cached tokens."""
    return _steps(
        ("model", "batch"),
        (
            ((short(name), f"{batch}"), name, decode(batch))
            for batch in GROUPED_BATCHES
            for name in (GROUPED_PAIR.moe, GROUPED_PAIR.memory)
        ),
    )


TABLES: dict[str, Callable[[], str]] = {
    make.__name__: make
    for make in (
        *(compared_decode, compared_steps, compared_contexts, compared_skewed),
        *(compared_prompts, compared_prompt_steps, compared_grouped, compared_grouped_steps),
    )
}
