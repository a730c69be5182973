"""Quantities of served requests: the batch, its times, its work, its energy and cost, its memory.

What follows from times comes twice: as predicted, and from the roofline bounds of the steps.
"""

from costmodel.costs.quantities.meshes import OF_REQUESTS
from costmodel.costs.quantities.quantity import Quantity
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.units import Unit

_REQUEST = "costmodel.questions.request:Request"
_SERVED = "costmodel.questions.request:Served"
_DECODE = "costmodel.questions.generation:steps_up_to"
_FOOTPRINT = "costmodel.costs.footprint:footprint"
_NO_DECODE = "output=1: the only token comes from the prefill, no decode step runs"
_NO_PRICE = "no price given"
_SLACK = "the CUDA context and slack of the allocator"


def _from_times(
    name: str, *, label: str, unit: Unit, counts: str, formula: str, none_because: str = ""
) -> tuple[Quantity, Quantity]:
    """A number by the roofline bounds of the steps (`section.floor_x`), and `predicted_x`."""
    section, _, last = name.partition(".")
    bound, predicted = (
        Quantity(
            name=f"{section}.{basis}_{last}",
            label=label + words,
            unit=unit,
            counts=counts,
            formula=f"{_SERVED}.{formula}",
            calibrated=basis == "predicted",
            none_because=none_because,
        )
        for basis, words in (("floor", " at the roofline bound"), ("predicted", ""))
    )
    return bound, predicted


def _of_phases(of_step: str, section: str, end: str, total: str) -> tuple[Quantity, ...]:
    """A quantity of a step, summed over the prefill, over the decode steps and over both."""
    step = STEP_QUANTITIES[of_step]
    return tuple(
        Quantity(
            name=f"{section}.{phase}{end}",
            label=f"{step.label} of {words}",
            unit=step.unit,
            counts=f"{step.counts}; summed over the steps of the whole batch",
            leaves_out=step.leaves_out,
            formula=f"{_SERVED}.{total}" if phase == "total" else _DECODE,
            calibrated=step.calibrated,
        )
        for phase, words in (
            ("prefill", "the prefill"),
            ("decode", "the decode steps"),
            ("total", "all steps"),
        )
    )


ASKED = (
    Quantity(
        name="request.prompt",
        label="prompt tokens",
        unit="tokens",
        counts="P, of each request",
        formula=_REQUEST,
    ),
    Quantity(
        name="request.output",
        label="output tokens",
        unit="tokens",
        counts="O, of each request",
        formula=_REQUEST,
    ),
    Quantity(
        name="request.batch",
        label="batch of requests",
        unit="count",
        counts="B",
        formula=_REQUEST,
    ),
    Quantity(
        name="request.price_per_hour",
        label="price of a GPU hour",
        unit="usd",
        counts="what was given",
        formula=_REQUEST,
        none_because=_NO_PRICE,
    ),
    Quantity(
        name="request.output_tokens",
        label="output tokens of the batch",
        unit="tokens",
        counts="B O",
        formula=f"{_SERVED}.output_tokens",
    ),
    Quantity(
        name="request.total_tokens",
        label="prompt and output tokens of the batch",
        unit="tokens",
        counts="B (P + O)",
        formula=f"{_SERVED}.total_tokens",
    ),
)

TIMES = (
    *_from_times(
        "ttft.s",
        label="time to first token",
        unit="s",
        counts="the prefill of the whole batch",
        formula="ttft_s",
    ),
    Quantity(
        name="ttft.bound_by",
        label="limiting resource of the prefill",
        unit="text",
        counts="which term of the prefill's roofline bound is the longer",
        formula="costmodel.costs.roofline:bound_by",
    ),
    *_from_times(
        "tpot.s",
        label="time per output token",
        unit="s",
        counts="the mean decode step: each token after the first",
        formula="tpot_s",
        none_because=_NO_DECODE,
    ),
    *_from_times(
        "latency.s",
        label="request latency",
        unit="s",
        counts="from the start of the prefill to the last token",
        formula="latency_s",
    ),
    *_from_times(
        "throughput.tokens_per_s",
        label="output throughput",
        unit="tokens_per_s",
        counts="output tokens of the whole batch over the latency",
        formula="tokens_per_s",
    ),
    *_from_times(
        "throughput.tokens_per_s_per_user",
        label="output throughput of one request",
        unit="tokens_per_s",
        counts="output tokens of one request over the latency",
        formula="tokens_per_s_per_user",
    ),
    Quantity(
        name="decode.steps",
        label="decode steps",
        unit="count",
        counts="O - 1: the first token comes from the prefill",
        formula=_DECODE,
    ),
    Quantity(
        name="decode.evaluated",
        label="evaluated decode steps",
        unit="count",
        counts="decode steps that are costed; straight lines join the others",
        formula=_DECODE,
    ),
    Quantity(
        name="decode.error_bound",
        label="error bound of sums over decode steps",
        unit="share",
        counts="holds where a cost only rises or only falls between evaluated steps",
        formula=_DECODE,
    ),
)

WORK = (
    *_of_phases("hbm_bytes.compulsory", "hbm_bytes", "", "hbm_bytes"),
    *_of_phases("flops.total", "flops", "", "flops"),
    *_of_phases("energy.predicted_j", "energy", "_j", "energy_j"),
)

_PER = (
    ("request", "per request", "one request's share of the batch"),
    ("million_output_tokens", "per million output tokens", "prefill in, by output tokens alone"),
    ("million_tokens", "per million tokens", "by prompt and output tokens alike"),
)

ENERGY_AND_COST = (
    *(
        Quantity(
            name=f"energy.j_per_{per}",
            label=f"energy {words}",
            unit="j",
            counts=counts,
            formula=f"{_SERVED}.j_per_{per}",
            calibrated=True,
        )
        for per, words, counts in _PER
    ),
    *_from_times(
        "cost.usd",
        label="cost of the batch",
        unit="usd",
        counts="price of all GPUs for the latency",
        formula="usd",
        none_because=_NO_PRICE,
    ),
    *(
        quantity
        for per, words, counts in _PER
        for quantity in _from_times(
            f"cost.usd_per_{per}",
            label=f"cost {words}",
            unit="usd",
            counts=counts,
            formula=f"usd_per_{per}",
            none_because=_NO_PRICE,
        )
    ),
)

MEMORY = (
    Quantity(
        name="memory.prefill_bytes",
        label="memory needed in the prefill",
        unit="capacity",
        counts="weights, buffers, KV cache, recurrent state and activations",
        leaves_out=_SLACK,
        formula=_FOOTPRINT,
    ),
    Quantity(
        name="memory.end_bytes",
        label="memory needed at the last step",
        unit="capacity",
        counts="weights, buffers, KV cache, recurrent state and activations",
        leaves_out=_SLACK,
        formula=_FOOTPRINT,
    ),
    Quantity(
        name="memory.kv_end_bytes",
        label="KV cache at the last step",
        unit="capacity",
        counts="P + O - 1 tokens of each request: the last token never enters it",
        formula=_FOOTPRINT,
    ),
    Quantity(
        name="memory.prefill_fits",
        label="prefill fits GPU memory",
        unit="bool",
        counts="whether the prefill of the whole batch is within the capacity",
        leaves_out=_SLACK,
        formula=_FOOTPRINT,
    ),
    Quantity(
        name="memory.end_fits",
        label="last step fits GPU memory",
        unit="bool",
        counts="whether the step with the fullest cache is within the capacity",
        leaves_out=_SLACK,
        formula=_FOOTPRINT,
    ),
    Quantity(
        name="memory.fits",
        label="requests fit GPU memory",
        unit="bool",
        counts="whether both the prefill and the last step fit",
        leaves_out=_SLACK,
        formula=f"{_SERVED}.fits",
    ),
    Quantity(
        name="memory.max_batch",
        label="largest batch of requests that fits",
        unit="count",
        counts="such requests, of which prefill and last step fit; 0 if not one does",
        leaves_out="prefill in chunks, with which more would fit",
        formula=f"{_SERVED}.max_batch",
    ),
    Quantity(
        name="memory.max_batch_at_end",
        label="largest batch whose last step fits",
        unit="count",
        counts="such requests, if only the last step had to fit",
        leaves_out=_SLACK,
        formula=_FOOTPRINT,
    ),
)

REQUEST_QUANTITIES: dict[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        *ASKED,
        *TIMES,
        *WORK,
        *ENERGY_AND_COST,
        *MEMORY,
        *OF_REQUESTS,
        STEP_QUANTITIES["memory.capacity_bytes"],
    )
}
