"""Times of whole models that others measured and published, as `presets/public` holds them.

Measured figures only, each with the place that it was taken from and that place's licence, where
one is stated. Rows that cannot be compared (requests that wait, layouts that contradict themselves,
speculative decoding) were left out when the table was collected; none was left out because a bound
exceeds it. `docs/public_latency.py` made the files.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias, cast

FOLDER = Path(__file__).parents[2] / "presets" / "public"

Timed: TypeAlias = Literal["tpot", "itl-median", "decode", "e2e"]
Prompts: TypeAlias = Literal[
    "real text", "random tokens", "one sequence", "one prompt repeated", "not stated"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where rows are from.

    Attributes:
        key: The short name in rows.
        address: Repository, commit and path, or the thread of an issue.
        origin: Who measured it and when, and what is odd about the machine; empty: not stated.
        context_rule: How a row's context follows from its lengths. `isl+osl/2`: half the output
            is there on average. `0.9(isl+osl/2)`: lengths are drawn from 0.8 to 1 of the nominal.
            `E[L^2]/2E[L]`: of the published output lengths alone, as prompts were not published.
            `osl/2`: the same of one length.
        licence: As its repository or page states it.
    """

    key: str
    address: str
    origin: str
    context_rule: str
    licence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicRow:
    """One published point: a model in an engine on some GPUs at a batch, and seconds a token.

    Attributes:
        id: Its name here; where `place` is empty it holds the source's own.
        model: Our preset, where the shapes are a preset's; else the Hugging Face id.
        source_model: As the source names it.
        gpu: Our preset, where there is one.
        gpus: Of one replica.
        tp: GPUs that divide a layer, as the source says; so `ep` of experts and `dp` of groups of
            sequences. They share the same GPUs.
        engine: As the source names it, as is its version.
        weights: The storage format as the source names it.
        kv: That of the KV cache, or `not stated`.
        batch: Sequences that were asked for at once, or a mean that was measured.
        running: Sequences that decode, on average over time: fewer than `batch` where prompts take
            a share, so below 1 of one sequence.
        isl: Nominal tokens of a prompt; None: not published.
        osl: Nominal tokens of an output.
        context: Cached tokens that a decode step sees, the mean; see `Source.context_rule`.
        ttft_s: To the first token, seconds; None: not published.
        measured_s: Seconds a token and sequence.
        timed: `tpot` after the first token; `itl-median` the median between tokens; `decode` a run
            without prompts; `e2e` a whole request over its output tokens, prefill in.
        prompts: What filled the batch: it decides whether tokens choose the same experts.
        place: In the source.
    """

    id: str
    model: str
    source_model: str
    gpu: str
    gpus: int
    tp: int
    ep: int
    dp: int
    engine: str
    engine_version: str
    weights: str
    kv: str
    batch: float
    running: float
    isl: float | None
    osl: float | None
    context: float
    ttft_s: float | None
    measured_s: float
    timed: Timed
    prompts: Prompts
    source: Source
    place: str


@cache
def public_rows() -> tuple[PublicRow, ...]:
    """All rows, in the order of the file."""
    sources = public_sources()
    return tuple(public_row(row, sources[row["source"]]) for row in records("latency"))


@cache
def public_sources() -> Mapping[str, Source]:
    """Where rows are from, by the short name."""
    return {
        row["source"]: Source(
            key=row["source"],
            address=row["address"],
            origin=row["origin"],
            context_rule=row["context_rule"],
            licence=row["licence"],
        )
        for row in records("sources")
    }


def records(name: str) -> Iterator[dict[str, str]]:
    """The rows of a file of `presets/public`, as texts by column."""
    text = (FOLDER / f"{name}.csv").read_text(encoding="utf-8")
    yield from csv.DictReader(text.splitlines())


def public_row(row: Mapping[str, str], source: Source) -> PublicRow:
    """The point of a row with the columns of `latency.csv`."""
    ttft_ms = number(row["ttft_ms"])
    return PublicRow(
        id=row["id"],
        model=row["model"],
        source_model=row["source_model"] or row["model"],
        gpu=row["gpu"],
        gpus=int(row["gpus"]),
        tp=int(row["tp"]),
        ep=int(row["ep"]),
        dp=int(row["dp"]),
        engine=row["engine"],
        engine_version=row["engine_version"],
        weights=row["weights"],
        kv=row["kv"],
        batch=float(row["batch"]),
        running=float(row["running"]),
        isl=number(row["isl"]),
        osl=number(row["osl"]),
        context=float(row["context"]),
        ttft_s=None if ttft_ms is None else ttft_ms / 1e3,
        measured_s=float(row["tpot_ms"]) / 1e3,
        timed=cast("Timed", row["timed"]),
        prompts=cast("Prompts", row["prompts"]),
        source=source,
        place=row["row"],
    )


def number(text: str) -> float | None:
    """A number; None of an empty text."""
    return float(text) if text else None
