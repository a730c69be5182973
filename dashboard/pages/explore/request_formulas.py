"""The workings of served requests: what their steps sum to, with this case's values put in."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from costmodel import units
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction, predict
from costmodel.questions import generation as decoding
from costmodel.questions.generation import PhaseCosts, one_step
from costmodel.questions.request import HOUR_S, MILLION, NO_PRICE, Estimate, Served
from dashboard.pages.explore.formulas import (
    Documented,
    Working,
    documented,
    floor_line,
    largest_batch,
)
from dashboard.pages.explore.time_formulas import energy, predicted

BASES = (("predicted", "predicted"), ("by the floor", "floor"))  # in words, field of `Estimate`
MILLI = 1e3  # ms of a second
STEPS_ARE = "Steps of the whole batch, each costed as the step above is, at its own sizes"


def _doc(*names: str, sums: bool = True) -> Documented:
    """The docstrings of these quantities of `Served`, and how sums over decode steps are formed."""
    docs = [f"{name}: {inspect.getdoc(getattr(Served, name))}" for name in names]
    if sums:
        docs += [str(inspect.getdoc(decoding)), documented(PhaseCosts)["doc"]]
    where = ", ".join(f"Served.{name}" for name in names)
    return {"source": f"costmodel/questions/request.py, {where}", "doc": "\n\n".join(docs)}


def _by_basis(
    formula: str, values: Sequence[Estimate], result: Estimate, shown: Callable[[float], str]
) -> list[str]:
    """The formula with values in its braces, and what it gives: predicted and by the floor."""
    lines = []
    for words, basis in BASES:
        value = getattr(result, basis)
        if isinstance(value, Unknown):
            lines.append(f"{words}: {units.NOT_KNOWN} ({value.reason})")
        else:
            put_in = formula.format(*(getattr(each, basis) for each in values))
            lines.append(f"{words} = {put_in} = {shown(value)}")
    return lines


def _usd(usd: float) -> str:
    return f"{units.significant(usd)} USD"


def _speed(tokens_per_s: float) -> str:
    return units.scaled(tokens_per_s, "token/s")


def _times(served: Served) -> tuple[Estimate, Estimate]:
    """Of the prefill, and of all decode steps."""
    prefill, decode = (
        Estimate(floor=phase.floor_s, predicted=phase.predicted_s)
        for phase in (served.prefill, served.decode)
    )
    return prefill, decode


def _steps(served: Served) -> tuple[dict[str, Any], ...]:
    """The prefill, the first and the last decode step, and the sum of all decode steps."""
    found = [("prefill", "0", served.prefill)]
    last, steps = served.last_step, served.decode.steps
    if last is not None:
        workload = replace(last.workload, context=served.request.prompt)
        first = predict(last.model, workload, last.hardware, last.calibration)
        start, end = f"{workload.context:,}", f"{last.workload.context:,}"
        found += [
            ("first decode step", start, one_step(first)),
            ("last decode step", end, one_step(last)),
            (f"sum of all decode steps, {steps:,}", f"{start} to {end}", served.decode),
        ]
    rows = []
    for name, cached, phase in found:
        row = {"Step": name, "Tokens cached": cached, "Floor, ms": phase.floor_s * MILLI}
        if not isinstance(phase.predicted_s, Unknown):
            row["Predicted, ms"] = phase.predicted_s * MILLI
        if not isinstance(phase.energy_j, Unknown):
            row["Energy, J"] = phase.energy_j
        rows.append(row)
    return tuple(rows)


def _working(served: Served, lines: Sequence[str], doc: Documented) -> Working:
    return Working(lines=tuple(lines), terms=_steps(served), terms_are=STEPS_ARE, **doc)


def _ttft(served: Served) -> Working:
    step, request = served.prefill_step, served.request
    sums, time = step.costs.totals, predicted(step)
    size = f"{request.batch:,} x {request.prompt:,}"
    return replace(
        time,
        lines=(
            f"TTFT = time of one prefill step of B P = {size} tokens, none cached",
            *time.lines,
            floor_line(step, sums.compulsory_bytes, sums.flops, step.floor_s),
        ),
        source=_doc("ttft_s")["source"],
        doc=f"{_doc('ttft_s', sums=False)['doc']}\n\n{time.doc}",
    )


def _tpot(served: Served) -> Working:
    decode = served.decode
    how = ", each costed by itself" if decode.steps else ""
    if decode.evaluated < decode.steps:
        error = units.significant(100 * decode.error_bound, 2)
        how = f", {decode.evaluated:,} of them costed; the sum is off by at most {error} % (below)"
    lines = [
        "TPOT = sum of the times of the O - 1 decode steps / (O - 1), P to P + O - 2 tokens cached",
        f"O - 1 = {served.request.output:,} - 1 = {decode.steps:,} steps{how}",
        *_by_basis(
            f"{{:.6g}} s / {decode.steps:,}", _times(served)[1:], served.tpot_s, units.seconds
        ),
    ]
    return _working(served, lines, _doc("tpot_s"))


def _latency(served: Served) -> Working:
    lines = [
        "latency = TTFT + (O - 1) TPOT: the prefill, and all decode steps",
        *_by_basis("{:.6g} s + {:.6g} s", _times(served), served.latency_s, units.seconds),
    ]
    return _working(served, lines, _doc("latency_s"))


def _output_speed(served: Served) -> Working:
    batch, output = served.request.batch, served.request.output
    lines = []
    for head, tokens, speed in (
        ("of the batch = B O / latency", f"{batch:,} x {output:,}", served.tokens_per_s),
        ("of one request = O / latency", f"{output:,}", served.tokens_per_s_per_user),
    ):
        lines += ["", f"output speed {head}"]
        lines += _by_basis(f"{tokens} / {{:.6g}} s", [served.latency_s], speed, _speed)
    return _working(served, lines[1:], _doc("tokens_per_s", "tokens_per_s_per_user"))


def _shares(served: Served) -> tuple[tuple[str, str, str], ...]:
    """What a whole batch is divided by: in words, with values, and the end of the name."""
    request = served.request
    batch, output = f"{request.batch:,}", f"{request.output:,}"
    million = f" x {MILLION:,}"
    return (
        ("of one request", f" / {batch}", "request"),
        ("per 1M output tokens", f" / ({batch} x {output}){million}", "million_output_tokens"),
        (
            "per 1M tokens, prompts in",
            f" / ({batch} x ({request.prompt:,} + {output})){million}",
            "million_tokens",
        ),
    )


def _energy(served: Served) -> Working:
    lines = ["energy = that of the prefill + that of all decode steps"]
    joules = served.energy_j
    if isinstance(joules, Unknown):
        lines.append(f"not predicted: {joules.reason}")
    else:
        lines.append(
            f"= {served.prefill.energy_j:.6g} J + {served.decode.energy_j:.6g} J"
            f" = {units.scaled(joules, 'J')}"
        )
        for words, by, name in _shares(served):
            share = units.scaled(getattr(served, f"j_per_{name}"), "J")
            lines.append(f"{words} = {joules:.6g} J{by} = {share}")
        lines += ["", "of the prefill step:", *energy(served.prefill_step).lines]
    return _working(served, lines, _doc("energy_j", "j_per_million_output_tokens"))


def _cost(served: Served) -> Working:
    price, usd = served.request.price_per_hour, served.usd
    lines = [f"cost of the batch = price of the GPU for an hour x latency / {HOUR_S:,} s"]
    if price is None:
        lines.append(f"{units.NOT_KNOWN}: {NO_PRICE.reason}")
    else:
        formula = f"{price:.6g} USD x {{:.6g}} s / {HOUR_S:,} s"
        lines += _by_basis(formula, [served.latency_s], usd, _usd)
        for words, by, name in _shares(served):
            lines += ["", f"{words}:"]
            lines += _by_basis(f"{{:.6g}} USD{by}", [usd], getattr(served, f"usd_per_{name}"), _usd)
    return _working(served, lines, _doc("usd", "usd_per_million_output_tokens"))


def _largest_batch(served: Served) -> Working:
    def line(where: str, step: Prediction) -> str:
        return f"{where} = {largest_batch(step.memory, step.workload.batch)}"

    start, end = served.prefill_step, served.end_step
    most = [units.count(step.memory.max_batch) for step in (start, end)]
    held = served.request.prompt + served.request.output - 1
    return Working(
        lines=(
            "largest batch = min(that of the prefill step, that of the last step)",
            (
                "each = (capacity - weights - buffers) / (KV cache and activations of one request),"
                " rounded down, at least 0"
            ),
            line(f"prefill of {served.request.prompt:,} tokens", start),
            line(f"last step, {held:,} tokens in the KV cache", end),
            f"min({', '.join(most)}) = {units.count(served.max_batch)}",
        ),
        terms=(),
        terms_are="",
        **_doc("max_batch", "end_step", sums=False),
    )


REQUEST: dict[str, Callable[[Served], Working]] = {  # those that are cards under the cards' names
    "TTFT": _ttft,
    "TPOT": _tpot,
    "Output speed": _output_speed,
    "Latency of a request": _latency,
    "Energy per 1M output": _energy,
    "Cost per 1M output": _cost,
    "Largest batch of requests": _largest_batch,
}
