"""Sentences of docs/comparison.md from recordings: who is faster where, how much is kernels.

Ratios are those of the MoE over the memory model, so that above 1 the memory model needs less.
"""

from collections.abc import Callable, Sequence
from math import log
from operator import itemgetter

from costmodel.inputs.workload import Backend
from costmodel.recordings.case_workload import CaseWorkload
from docs.pair_measurements import (
    BACKENDS,
    BATCHES,
    GROUPED_BATCHES,
    GROUPED_PAIR,
    LARGE,
    PROMPTS,
    SKEWED,
    SMALL,
    USUAL_CONTEXT,
    Lack,
    Pair,
    bound_share,
    bytes_share,
    decode,
    kernel_gain,
    measured_share,
    prompt,
    short,
)
from docs.wording import listed, span

ALIKE = 0.01  # shares of less than this are no difference


def compared_words() -> str:
    """Where each side wins, by how much, and how much of that is kernels: a list."""
    settings = (
        ("decode", [decode(batch) for batch in BATCHES]),
        ("decode, skewed", [decode(batch, routing=SKEWED) for batch in BATCHES]),
        ("prefill", [prompt(tokens) for tokens in PROMPTS]),
    )
    lines = []
    for pair in (LARGE, SMALL):
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


def _named(name: str) -> str:
    """The model's name without what both models of a pair have in common: `, 4 KV heads`."""
    return short(name).partition(",")[0]


def winners(
    pair: Pair,
    backend: Backend,
    workloads: Sequence[CaseWorkload],
    *,
    named: Callable[[str], str] = _named,
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
        f"{_named(name)} {span((_number(of[batch]) for batch in known), '.2f')} times"
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
        f" the time of {_named(pair.moe)} over that of {_named(pair.memory)} is"
        f" {span(torch, '.2f')} by `torch` and {span(fused, '.2f')} by `fused`, nearer to the ratio"
        f" of their bounds at {nearer} of {len(known)} batches."
    )


def _number(value: float | Lack) -> float:
    assert not isinstance(value, Lack)
    return value


def compared_grouped_words() -> str:
    """Where each side of the pair with 4 key-value heads wins, and how much of that is kernels."""
    steps = [decode(batch) for batch in GROUPED_BATCHES]
    lines = [f"- `{each}`: {winners(GROUPED_PAIR, each, steps)}" for each in BACKENDS]
    lines.append(f"- How much of it is kernels: {kernels(GROUPED_PAIR)}")
    return "".join(f"{line}\n" for line in lines)


TABLES: dict[str, Callable[[], str]] = {
    make.__name__: make for make in (compared_words, compared_grouped_words)
}
