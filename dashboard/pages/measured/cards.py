"""The cards of one case, and all that its step achieved: measured, and what stands beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from costmodel import units
from costmodel.validation.counterparts import PREDICTED
from costmodel.validation.joined import Row
from costmodel.validation.utilisation import Figure, predicted_utilisation
from dashboard.app.widgets import not_measured
from dashboard.pages.measured.data import View

WHOLE = 1000.0  # tokens per second from which on fractions say nothing
ONLY_CHOOSE = "of the leaves that only choose experts or rows"


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
    beside = predicted_utilisation(found.side, made.time_of)
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
            f"kernels {ONLY_CHOOSE}",
        ),
    )


def achieved_rows(found: View) -> list[dict[str, str]]:
    """Rates, utilisation and the cost of routing: every figure of the step, or why there is none.

    A prediction stands beside those that `utilisation.predicted_utilisation` has, with their ratio.
    """
    made, beside = found.achieved, predicted_utilisation(found.side, found.achieved.time_of)
    lines: tuple[tuple[str, Figure, float | None, Callable[[float], str], str], ...] = (
        ("Tokens", made.tokens_per_s, beside.tokens_per_s, _tokens, "new tokens / time"),
        (
            "HBM bandwidth",
            made.hbm_bytes_per_s,
            None,
            lambda rate: units.scaled(rate, "B/s"),
            "bytes read and written, counted in a run of their own / time",
        ),
        (
            "FLOP rate",
            made.flops_per_s,
            None,
            lambda rate: units.scaled(rate, "FLOP/s"),
            "useful FLOPs / time",
        ),
        ("MBU", made.mbu, beside.mbu, _percent, "compulsory bytes / time / datasheet bandwidth"),
        ("MFU", made.mfu, beside.mfu, _percent, "useful FLOPs / time / dense peak"),
        (
            "Routing: time",
            made.routing_kernel_s,
            beside.routing_kernel_s,
            units.seconds,
            f"kernels {ONLY_CHOOSE}",
        ),
        (
            "Routing: share",
            made.routing_share,
            beside.routing_share,
            _percent,
            "that time / time of all kernels",
        ),
        (
            "Routing: launches",
            made.routing_launches,
            beside.routing_launches,
            units.count,
            f"kernels {ONLY_CHOOSE}",
        ),
        (
            "Routing: HBM bytes",
            made.routing_hbm_bytes,
            beside.routing_hbm_bytes,
            units.traffic,
            "read and written by those leaves, beside compulsory bytes",
        ),
        (
            "Routing: FLOPs",
            made.routing_flops,
            beside.routing_flops,
            units.flops,
            "counted in those leaves",
        ),
        (
            "Leaves' reads / step's reads",
            made.leaves_over_step,
            None,
            units.ratio,
            "HBM bytes read, summed over leaves, beside those of the whole step",
        ),
    )
    return [
        {
            "Figure": name,
            "Measured": not_measured(figure.reason or "")
            if figure.value is None
            else form(figure.value),
            "Predicted": "" if predicted is None else form(predicted),
            "Ratio": units.ratio(figure.value / predicted) if figure.value and predicted else "",
            "What it is": told,
        }
        for name, figure, predicted, form, told in lines
    ]


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
    """To three significant digits, zeros among them: 1.50 %."""
    return f"{Decimal(f'{100 * value:#.3g}'):f} %"
