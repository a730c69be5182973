"""Power and energy of whole models that others measured, as `presets/public/energy.csv` holds them.

Each row is also a row of times (`PublicRow`), so that it has the same bound. Joules a token are
measured power over output tokens per second: the prefill of other requests is in them.
"""

from dataclasses import dataclass
from functools import cache

from costmodel.questions.published.public_rows import (
    PublicRow,
    Source,
    public_row,
    public_sources,
    records,
)

REAL_TEXT = "ml-energy/"  # a benchmark whose prompts are real


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyRow:
    """One published point: the power of some GPUs that serve a model, and joules a token.

    Attributes:
        row: The same point as a time: seconds between tokens as published, else sequences over
            tokens per second, which has the prefill in it.
        task: What was asked of the model, as the source names it.
        tokens_per_s: Output tokens of all sequences.
        power_w: The mean of all GPUs of the replica together.
        j_per_token: Joules of an output token.
    """

    row: PublicRow
    task: str
    tokens_per_s: float
    power_w: float
    j_per_token: float


@cache
def energy_rows() -> tuple[EnergyRow, ...]:
    """All rows, in the order of the file."""
    sources = public_sources()
    return tuple(
        EnergyRow(
            row=_as_time(row, sources[row["source"]]),
            task=row["task"],
            tokens_per_s=float(row["tokens_per_s"]),
            power_w=float(row["power_w"]),
            j_per_token=float(row["j_per_token"]),
        )
        for row in records("energy")
    )


def _as_time(row: dict[str, str], source: Source) -> PublicRow:
    """The row as a time, in the columns of `latency.csv`."""
    between = row["itl_ms"]  # tokens of a sequence
    mean_ms = 1e3 * float(row["batch"]) / float(row["tokens_per_s"])
    columns = {
        "engine_version": "",
        "running": row["batch"],
        "ttft_ms": "",
        "tpot_ms": between or repr(mean_ms),
        "timed": "itl-median" if between else "e2e",
        "prompts": "real text" if source.address.startswith(REAL_TEXT) else "not stated",
    }
    return public_row(row | columns, source)
