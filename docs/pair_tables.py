"""The measured part of docs/comparison.md: tables of both backends, sentences computed from them.

Ratios are those of the MoE over the memory model, so that above 1 the memory model needs less.
"""

from collections.abc import Callable, Iterable, Sequence
from math import log
from operator import itemgetter

from costmodel.inputs.workload import Backend
from costmodel.recordings.case_workload import CaseWorkload
from docs.markdown import markdown
from docs.pair_measurements import (
    BACKENDS,
    BATCHES,
    CONTEXTS,
    GROUPED_PAIR,
    LARGE,
    PAIRS,
    PROMPTS,
    USUAL_CONTEXT,
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
from docs.wording import listed, span

SKEWED = "zipf:1.0"
ALIKE = 0.01  # shares of less than this are no difference
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
        ("pair", "batch"),
        (((GROUPED_PAIR.title, f"{b:,}"), GROUPED_PAIR, decode(b)) for b in BATCHES[:-1]),
    )


def compared_words() -> str:
    """Where each side wins, by how much, and how much of that is kernels: a list."""
    settings = (
        ("decode", [decode(batch) for batch in BATCHES]),
        ("decode, skewed", [decode(batch, routing=SKEWED) for batch in BATCHES]),
        ("prefill", [prompt(tokens) for tokens in PROMPTS]),
    )
    lines = []
    for pair in (LARGE, *(pair for pair in PAIRS if pair != LARGE)):
        lines.append(f"- **{short(pair.moe)} or {short(pair.memory)}?** {_promise(pair)}")
        for backend in BACKENDS:
            lines += [
                f"  - `{backend}`, {words}: {winners(pair, backend, workloads)}"
                for words, workloads in settings
            ]
        lines.append(f"  - How much of it is kernels: {kernels(pair)}")
    return "".join(f"{line}\n" for line in lines)


def _promise(pair: Pair) -> str:
    """What the bytes and the bound say of decode steps at the usual context."""
    promised = [bytes_share(pair, decode(batch)) for batch in BATCHES]
    bounds = [bound_share(pair, decode(batch)) for batch in BATCHES]
    at = BATCHES[promised.index(max(promised))]
    return (
        f"Decode at {USUAL_CONTEXT:,} cached tokens, batch {BATCHES[0]} to {BATCHES[-1]:,}: bytes"
        f" promise {short(pair.memory)} {span(promised, '.2f')} times the speed (most at batch"
        f" {at}), the roofline bound {span(bounds, '.2f')} times."
    )


def winners(
    pair: Pair,
    backend: Backend,
    workloads: Sequence[CaseWorkload],
    *,
    named: Callable[[str], str] = short,
) -> str:
    """Which model takes less time where, and how much less at most; models by `named`."""
    shares: dict[CaseWorkload, float] = {}
    lacks: dict[str, list[CaseWorkload]] = {}
    for workload in workloads:
        share = measured_share(pair, backend, workload, "graph_s")
        if isinstance(share, Lack):
            lacks.setdefault(share.reason, []).append(workload)
        else:
            shares[workload] = share
    if not shares:
        return f"{listed(list(lacks))}."
    said = []
    for name, speeds in (
        (pair.memory, shares),
        (pair.moe, {workload: 1 / share for workload, share in shares.items()}),
    ):
        faster = {workload: speed for workload, speed in speeds.items() if speed > 1 + ALIKE}
        if faster:
            best, most = max(faster.items(), key=itemgetter(1))
            at = "" if len(faster) == 1 else f" at {_places([best])}"
            said.append(
                f"{named(name)} is faster at {_places(list(faster))}, {'up to ' if at else ''}"
                f"{most:.2f} times as fast{at}"
            )
    alike = [each for each, share in shares.items() if max(share, 1 / share) <= 1 + ALIKE]
    if alike:
        said.append(f"within {100 * ALIKE:.0f} % they are alike at {_places(alike)}")
    said += [f"{_places(places)}: {reason}" for reason, places in lacks.items()]
    return f"{'; '.join(said)}."


def _places(workloads: Sequence[CaseWorkload]) -> str:
    """`batch 1, 4 and 16`, or `512 and 2,048 tokens` of prompts."""
    if workloads[0].phase == "prefill":
        return f"{listed([f'{each.new_tokens:,}' for each in workloads])} tokens"
    return f"batch {listed([f'{each.batch:,}' for each in workloads])}"


def kernels(pair: Pair) -> str:
    """How much time other kernels save each model, and how much of the pair's ratio that moves."""
    gains = {
        name: {batch: kernel_gain(name, decode(batch)) for batch in BATCHES}
        for name in (pair.moe, pair.memory)
    }
    known = [
        batch for batch in BATCHES if not any(isinstance(of[batch], Lack) for of in gains.values())
    ]
    if not known:
        lacks = dict.fromkeys(
            gain.reason for of in gains.values() for gain in of.values() if isinstance(gain, Lack)
        )
        return f"{next(iter(lacks))}."
    spans = [
        f"{short(name)} {span((_number(of[batch]) for batch in known), '.2f')} times"
        for name, of in gains.items()
    ]
    torch, fused = (
        [_number(measured_share(pair, backend, decode(batch), "graph_s")) for batch in known]
        for backend in BACKENDS
    )
    bounds = [bound_share(pair, decode(batch)) for batch in known]
    nearer = sum(
        abs(log(f / bound)) < abs(log(t / bound))
        for bound, t, f in zip(bounds, torch, fused, strict=True)
    )
    return (
        f"with `fused` in place of `torch`, {listed(spans)} as fast"
        f" (batch {known[0]} to {known[-1]:,});"
        f" the time of {short(pair.moe)} over that of {short(pair.memory)} is"
        f" {span(torch, '.2f')} by `torch` and {span(fused, '.2f')} by `fused`, nearer to the ratio"
        f" of their bounds at {nearer} of {len(known)} batches."
    )


def _number(value: float | Lack) -> float:
    assert not isinstance(value, Lack)
    return value


TABLES: dict[str, Callable[[], str]] = {
    make.__name__: make
    for make in (
        *(compared_words, compared_decode, compared_steps, compared_contexts, compared_skewed),
        *(compared_prompts, compared_prompt_steps, compared_grouped),
    )
}
