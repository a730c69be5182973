"""The cards of one case, and its rates, utilisation and routing cost, measured and predicted."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from costmodel import units
from costmodel.validation.counterparts import PREDICTED
from costmodel.validation.join import Row
from costmodel.validation.utilisation import Figure, expected
from dashboard.app.widgets import not_measured
from dashboard.pages.measured.data import ComparedCase

WHOLE = 1000.0  # tokens per second from which on fractions say nothing
ROUTING_LEAVES = "of routers and selectors, the leaves that only choose experts or rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredCard:
    """A measured number and its counterpart, as text; None where there is none."""

    label: str
    measured: str | None
    counterpart: str | None
    meaning: str
    reason: str = ""  # why it was not measured; from a file, so not for Markdown


def measured_cards(case: ComparedCase) -> tuple[MeasuredCard, ...]:
    """The cards of a case."""
    made = case.achieved
    predicted = expected(case.side, made.time_of)
    return (
        _of_row("Time as a CUDA graph", case.step("graph_s"), units.seconds),
        _of_row("Time launched one by one", case.step("eager_s"), units.seconds),
        _of_row("HBM read", case.step("hbm_read_bytes"), units.traffic),
        _of_row("Energy", case.step("energy_j"), lambda joules: units.scaled(joules, "J")),
        _of_figure(
            "MBU",
            made.mbu,
            predicted.mbu,
            _percent,
            "compulsory bytes / time / datasheet bandwidth",
        ),
        _of_figure("MFU", made.mfu, predicted.mfu, _percent, "model FLOPs / time / dense peak"),
        _of_figure(
            "Tokens per second",
            made.tokens_per_s,
            predicted.tokens_per_s,
            _tokens,
            "new tokens of all sequences / time",
        ),
        _of_figure(
            "Routing, of kernel time",
            made.routing_share,
            predicted.routing_share,
            _percent,
            f"kernels {ROUTING_LEAVES}",
        ),
    )


def achieved_rows(case: ComparedCase) -> list[dict[str, str]]:
    """Rates, utilisation and the cost of routing: measured or why not, predicted, their ratio."""
    made, predicted = case.achieved, expected(case.side, case.achieved.time_of)
    figures: tuple[tuple[str, Figure, float | None, Callable[[float], str], str], ...] = (
        ("Tokens", made.tokens_per_s, predicted.tokens_per_s, _tokens, "new tokens / time"),
        (
            "HBM bandwidth",
            made.hbm_bytes_per_s,
            None,
            lambda rate: units.scaled(rate, "B/s"),
            "bytes read and written, measured in a run of their own / time",
        ),
        (
            "FLOP rate",
            made.flops_per_s,
            None,
            lambda rate: units.scaled(rate, "FLOP/s"),
            "model FLOPs / time",
        ),
        ("MBU", made.mbu, predicted.mbu, _percent, "compulsory bytes / time / datasheet bandwidth"),
        ("MFU", made.mfu, predicted.mfu, _percent, "model FLOPs / time / dense peak"),
        (
            "Routing: time",
            made.routing_kernel_s,
            predicted.routing_kernel_s,
            units.seconds,
            f"kernels {ROUTING_LEAVES}",
        ),
        (
            "Routing: share",
            made.routing_share,
            predicted.routing_share,
            _percent,
            "time of those kernels / time of all kernels",
        ),
        (
            "Routing: launches",
            made.routing_launches,
            predicted.routing_launches,
            units.count,
            f"kernels {ROUTING_LEAVES}",
        ),
        (
            "Routing: HBM bytes",
            made.routing_hbm_bytes,
            predicted.routing_hbm_bytes,
            units.traffic,
            "read and written by those leaves; predicted: compulsory bytes",
        ),
        (
            "Routing: FLOPs",
            made.routing_flops,
            predicted.routing_flops,
            units.flops,
            "counted in those leaves",
        ),
        (
            "Leaves' reads / step's reads",
            made.leaves_over_step,
            None,
            units.ratio,
            "HBM bytes read, summed over the leaves / those of the whole step",
        ),
    )
    return [
        {
            "Figure": name,
            "Measured": not_measured(figure.reason or "")
            if figure.value is None
            else form(figure.value),
            "Predicted": "" if value is None else form(value),
            "Ratio": units.ratio(figure.value / value) if figure.value and value else "",
            "What it is": meaning,
        }
        for name, figure, value, form, meaning in figures
    ]


def _tokens(rate: float) -> str:
    return f"{rate:,.0f} /s" if rate >= WHOLE else f"{units.significant(rate)} /s"


def _of_row(label: str, row: Row, form: Callable[[float], str]) -> MeasuredCard:
    predicted = None if row.predicted is None else float(row.predicted)
    return _card(label, row.measured, predicted, form, row.basis, row.reason, row.basis)


def _of_figure(
    label: str, figure: Figure, predicted: float | None, form: Callable[[float], str], meaning: str
) -> MeasuredCard:
    return _card(label, figure.value, predicted, form, PREDICTED, figure.reason, meaning)


def _card(  # noqa: PLR0917 - two callers above
    label: str,
    measured: float | None,
    predicted: float | None,
    form: Callable[[float], str],
    basis: str,
    reason: str | None,
    meaning: str,
) -> MeasuredCard:
    counterpart = None
    if predicted is not None:
        times = f" ({units.ratio(measured / predicted)})" if measured and predicted else ""
        name = basis.split(",", maxsplit=1)[0].removesuffix(" bytes")
        counterpart = f"{name} {form(predicted)}{times}"
    return MeasuredCard(
        label=label,
        measured=None if measured is None else form(measured),
        counterpart=counterpart,
        meaning=meaning,
        reason=reason or "",
    )


def _percent(value: float) -> str:
    """A share with three significant digits: 1.50 %."""
    return f"{Decimal(f'{100 * value:#.3g}'):f} %"
