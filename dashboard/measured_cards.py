"""The cards of one case: what was measured, and what stands beside it."""

from collections.abc import Callable
from dataclasses import dataclass

from costmodel import units
from costmodel.achieved import Figure, expected
from costmodel.beside import PREDICTED
from costmodel.join import Row
from dashboard.measured import View

WHOLE = 1000.0  # tokens per second from which on fractions say nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A card: measured, and what stands beside it. `reason` is from a file: not for Markdown."""

    label: str
    measured: str | None
    beside: str | None
    told: str  # what the number is
    reason: str = ""


def compared(found: View) -> tuple[Compared, ...]:
    """The cards."""
    made = found.achieved
    beside = expected(found.side.prediction, made.time_of)
    return (
        _of_row("Time as a CUDA graph", found.step("graph_s"), units.seconds),
        _of_row("Time launched one by one", found.step("eager_s"), units.seconds),
        _of_row("HBM read", found.step("hbm_read_bytes"), units.traffic),
        _of_row("Energy", found.step("energy_j"), lambda joules: units.scaled(joules, "J")),
        _of_figure(
            "MBU",
            made.mbu,
            beside.mbu,
            _percent,
            "compulsory bytes / time / datasheet bandwidth",
        ),
        _of_figure("MFU", made.mfu, beside.mfu, _percent, "useful FLOPs / time / dense peak"),
        _of_figure(
            "Tokens per second",
            made.tokens_per_s,
            beside.tokens_per_s,
            _tokens,
            "new tokens of all sequences / time",
        ),
        _of_figure(
            "Routing, of kernel time",
            made.routing_share,
            beside.routing_share,
            _percent,
            "kernels of the leaves that only choose experts or rows",
        ),
    )


def _tokens(rate: float) -> str:
    return f"{rate:,.0f} /s" if rate >= WHOLE else f"{units.significant(rate)} /s"


def _of_row(label: str, row: Row, form: Callable[[float], str]) -> Compared:
    predicted = None if row.predicted is None else float(row.predicted)
    return _compared(label, row.measured, predicted, form, row.basis, row.reason, row.basis)


def _of_figure(
    label: str, figure: Figure, predicted: float | None, form: Callable[[float], str], told: str
) -> Compared:
    return _compared(label, figure.value, predicted, form, PREDICTED, figure.reason, told)


def _compared(  # noqa: PLR0917 - two callers above
    label: str,
    measured: float | None,
    predicted: float | None,
    form: Callable[[float], str],
    basis: str,
    reason: str | None,
    told: str,
) -> Compared:
    beside = None
    if predicted is not None:
        times = f" ({units.ratio(measured / predicted)})" if measured and predicted else ""
        name = basis.split(",", maxsplit=1)[0].removesuffix(" bytes")
        beside = f"{name} {form(predicted)}{times}"
    return Compared(
        label=label,
        measured=None if measured is None else form(measured),
        beside=beside,
        told=told,
        reason=reason or "",
    )


def _percent(value: float) -> str:
    return f"{units.significant(100 * value, 3)} %"
