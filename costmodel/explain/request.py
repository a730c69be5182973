"""The numbers of served requests explained: what their steps sum to, and what follows from times.

P is the prompt and O the output of a request, in tokens, B the requests served together. The
prefill is one step, explained as any step is; the decode steps are summed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from costmodel.costs.beyond_histogram import is_unknown
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction, predict
from costmodel.costs.quantities.quantity import Quantity
from costmodel.costs.quantities.requests import REQUEST_QUANTITIES
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.errors import InputError, shown
from costmodel.explain.explanation import (
    Column,
    Derivation,
    Equation,
    Explanation,
    Terms,
    Value,
    explain_quantity,
)
from costmodel.explain.numbers import explain_step
from costmodel.layers.letters import Letter
from costmodel.questions.generation import MAX_EVALUATED, PhaseCosts, one_step
from costmodel.questions.request import HOUR_S, MILLION, Served
from costmodel.show.request_json import numbers

BASES = {"predicted": "predicted", "floor": "at the roofline bound"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCase:
    """A number of served requests, with its value."""

    quantity: Quantity
    served: Served
    value: Value

    def equation(self, formula: str, *letters: Letter) -> Equation:
        """The number's equation, in these letters and B, P and O."""
        request, quantity = self.served.request, self.quantity
        sizes = (
            Letter("B", request.batch, "requests served together"),
            Letter("P", request.prompt, "prompt tokens of a request"),
            Letter("O", request.output, "output tokens of a request"),
        )
        return Equation.of(quantity.label, formula, (*letters, *sizes), quantity.unit)

    def in_words(self, words: str, values: str = "") -> Equation:
        """The number's equation where it is no formula."""
        quantity = self.quantity
        return Equation(
            name=quantity.label, formula=words, values=values, result=self.value, unit=quantity.unit
        )


Builder: TypeAlias = Callable[[RequestCase], Derivation]


def _given(case: RequestCase) -> Derivation:
    return Derivation(equations=(case.in_words("as given"),))


def _formula(formula: str, *letters: Callable[[Served], Letter]) -> Builder:
    """A number that follows from others by a formula, beside the steps that are summed."""

    def build(case: RequestCase) -> Derivation:
        known = [letter(case.served) for letter in letters]
        return Derivation(equations=(case.equation(formula, *known),), terms=_steps(case.served))

    return build


def _phase_s(phase: str, basis: str) -> Callable[[Served], Letter]:
    """The time of the prefill, or of all decode steps, in seconds."""
    words = "the prefill step" if phase == "prefill" else "all decode steps"

    def letter(served: Served) -> Letter:
        seconds = getattr(getattr(served, phase), f"{basis}_s")
        return Letter(phase, seconds, f"seconds of {words}, {BASES[basis]}")

    return letter


def _other(name: str, number: str) -> Callable[[Served], Letter]:
    """Another number of the same requests."""

    def letter(served: Served) -> Letter:
        return Letter(name, numbers(served)[number], number)

    return letter


def _steps_letter(served: Served) -> Letter:
    return Letter("steps", served.decode.steps, "steps that decode, O - 1")


def _price(served: Served) -> Letter:
    price = served.request.price_per_hour
    assert price is not None
    return Letter("price", price, "USD for an hour of one GPU")


def _cost(latency: Callable[[Served], Letter]) -> Builder:
    """The price of all GPUs for the latency."""

    def build(case: RequestCase) -> Derivation:
        served = case.served
        gpus = Letter("gpus", served.gpus, "GPUs that serve the requests")
        letters = (_price(served), latency(served), gpus)
        formula = f"price latency / {HOUR_S}"
        if served.gpus > 1:
            formula = f"gpus {formula}"
        return Derivation(equations=(case.equation(formula, *letters),), terms=_steps(served))

    return build


def _of_step(number: str, step: Callable[[Served], Prediction]) -> Builder:
    """A number of one step of the requests: the same equations under the request's name."""

    def build(case: RequestCase) -> Derivation:
        of_step = explain_step(step(case.served), number)
        first, *others = of_step.equations
        named = replace(first, name=case.quantity.label)
        return Derivation(equations=(named, *others), terms=of_step.terms)

    return build


def _prefill_step(served: Served) -> Prediction:
    return served.prefill_step


def _end_step(served: Served) -> Prediction:
    return served.end_step


def _decode_sum(of_step: str) -> Builder:
    """A sum over decode steps."""

    def build(case: RequestCase) -> Derivation:
        decode, request = case.served.decode, case.served.request
        first, last = request.prompt, request.prompt + max(decode.steps - 1, 0)
        words = (
            f"sum of {STEP_QUANTITIES[of_step].label} over {decode.steps:,} steps of the decode,"
            f" S from {first:,} to {last:,}"
        )
        if decode.evaluated < decode.steps:
            words += f"; {decode.evaluated:,} of them costed, straight lines between them"
        return Derivation(equations=(case.in_words(words),), terms=_steps(case.served))

    return build


def _both_fit(case: RequestCase) -> Derivation:
    fits = [bool(step.memory.fits) for step in (case.served.prefill_step, case.served.end_step)]
    values = " and ".join("yes" if fit else "no" for fit in fits)
    words = "memory.prefill_fits and memory.end_fits"
    return Derivation(equations=(case.in_words(words, values),))


def _max_batch(case: RequestCase) -> Derivation:
    served = case.served
    ends = {"prefill": served.prefill_step, "last": served.end_step}
    letters = [
        Letter(name, step.memory.max_batch, f"largest batch with which the {name} step fits")
        for name, step in ends.items()
    ]
    of_steps = [
        replace(equation, name=f"{equation.name}, {name} step")
        for name, step in ends.items()
        for equation in explain_step(step, "memory.max_batch").equations
    ]
    return Derivation(equations=(case.equation("min(prefill, last)", *letters), *of_steps))


def _steps(served: Served) -> Terms:
    """The prefill, the first and the last decode step, and the sum of all decode steps."""
    rows = [("prefill", "0", served.prefill)]
    last = served.last_step
    if last is not None:
        workload = replace(last.workload, context=served.request.prompt)
        first = predict(last.model, workload, last.hardware, last.calibration)
        start, end = f"{workload.context:,}", f"{last.workload.context:,}"
        rows += [
            ("first decode step", start, one_step(first)),
            ("last decode step", end, one_step(last)),
            (f"all decode steps ({served.decode.steps:,})", f"{start} to {end}", served.decode),
        ]
    return Terms(
        title="steps of the whole batch",
        columns=(
            Column(header="step", unit="text"),
            Column(header="tokens cached", unit="text"),
            Column(header=BASES["floor"], unit="s"),
            Column(header="predicted", unit="s"),
            Column(header="energy", unit="j"),
        ),
        rows=tuple((name, cached, *_sums(phase)) for name, cached, phase in rows),
    )


def _sums(phase: PhaseCosts) -> tuple[float | None, float | None, float | None]:
    predicted, energy = phase.predicted_s, phase.energy_j
    return (
        None if is_unknown(phase.floor_s) else phase.floor_s,
        None if isinstance(predicted, Unknown) else predicted,
        None if isinstance(energy, Unknown) else energy,
    )


def _from_times(basis: str) -> dict[str, Builder]:
    """What follows from the times of steps, of one basis."""
    prefill, decode = _phase_s("prefill", basis), _phase_s("decode", basis)
    latency = _other("latency", f"latency.{basis}_s")
    usd = _other("usd", f"cost.{basis}_usd")
    return {
        f"ttft.{basis}_s": _of_step(f"time.{basis}_s", _prefill_step),
        f"tpot.{basis}_s": _formula("decode / steps", decode, _steps_letter),
        f"latency.{basis}_s": _formula("prefill + decode", prefill, decode),
        f"throughput.{basis}_tokens_per_s": _formula("B O / latency", latency),
        f"throughput.{basis}_tokens_per_s_per_user": _formula("O / latency", latency),
        f"cost.{basis}_usd": _cost(latency),
        f"cost.{basis}_usd_per_request": _formula("usd / B", usd),
        f"cost.{basis}_usd_per_million_output_tokens": _formula(f"usd / (B O) {MILLION}", usd),
        f"cost.{basis}_usd_per_million_tokens": _formula(f"usd / (B (P + O)) {MILLION}", usd),
    }


_ENERGY = _other("energy", "energy.total_j")

REQUEST_BUILDERS: dict[str, Builder] = {
    **_from_times("predicted"),
    **_from_times("floor"),
    "ttft.bound_by": _of_step("time.bound_by", _prefill_step),
    "energy.prefill_j": _of_step("energy.predicted_j", _prefill_step),
    "energy.decode_j": _decode_sum("energy.predicted_j"),
    "energy.total_j": _formula(
        "prefill + decode",
        _other("prefill", "energy.prefill_j"),
        _other("decode", "energy.decode_j"),
    ),
    "energy.j_per_request": _formula("energy / B", _ENERGY),
    "energy.j_per_million_output_tokens": _formula(f"energy / (B O) {MILLION}", _ENERGY),
    "energy.j_per_million_tokens": _formula(f"energy / (B (P + O)) {MILLION}", _ENERGY),
    "hbm_bytes.prefill": _of_step("hbm_bytes.compulsory", _prefill_step),
    "hbm_bytes.decode": _decode_sum("hbm_bytes.compulsory"),
    "hbm_bytes.total": _formula(
        "prefill + decode",
        _other("prefill", "hbm_bytes.prefill"),
        _other("decode", "hbm_bytes.decode"),
    ),
    "flops.prefill": _of_step("flops.total", _prefill_step),
    "flops.decode": _decode_sum("flops.total"),
    "flops.total": _formula(
        "prefill + decode", _other("prefill", "flops.prefill"), _other("decode", "flops.decode")
    ),
    "memory.prefill_bytes": _of_step("memory.total_bytes", _prefill_step),
    "memory.end_bytes": _of_step("memory.total_bytes", _end_step),
    "memory.kv_end_bytes": _of_step("kv_cache.stored_bytes", _end_step),
    "memory.capacity_bytes": _of_step("memory.capacity_bytes", _end_step),
    "memory.prefill_fits": _of_step("memory.fits", _prefill_step),
    "memory.end_fits": _of_step("memory.fits", _end_step),
    "memory.fits": _both_fit,
    "memory.max_batch": _max_batch,
    "memory.max_batch_at_end": _of_step("memory.max_batch", _end_step),
    "parallel.prefill_exchanges_s": _of_step("parallel.communication.time_s", _prefill_step),
    "parallel.last_decode_exchanges_s": _of_step("parallel.communication.time_s", _end_step),
    "decode.steps": lambda case: Derivation(equations=(case.equation("O - 1"),)),
    "decode.evaluated": lambda case: Derivation(
        equations=(case.equation(f"min(O - 1, {MAX_EVALUATED})"),)
    ),
    "decode.error_bound": lambda case: Derivation(
        equations=(case.in_words("largest relative error of a sum, from the steps costed"),)
    ),
    "request.prompt": _given,
    "request.output": _given,
    "request.batch": _given,
    "request.price_per_hour": _given,
    "request.output_tokens": lambda case: Derivation(equations=(case.equation("B O"),)),
    "request.total_tokens": lambda case: Derivation(equations=(case.equation("B (P + O)"),)),
}
"""By name in the JSON of a request."""


def explain_request(served: Served, number: str) -> Explanation:
    """The explanation of one of the numbers of `REQUEST_BUILDERS`.

    Raises:
        InputError: It is of several GPUs, and these requests lack it.
    """
    quantity, values = REQUEST_QUANTITIES[number], numbers(served)
    if number not in values:
        raise InputError(
            f"number={shown(number)}: is of several GPUs; these requests have none of it"
        )
    value = values[number]
    if isinstance(value, Unknown):
        derivation = Derivation(equations=())
        return explain_quantity(quantity, value=None, reason=value.reason, derivation=derivation)
    derivation = REQUEST_BUILDERS[number](
        RequestCase(quantity=quantity, served=served, value=value)
    )
    return explain_quantity(quantity, value=value, reason="", derivation=derivation)
