"""What serving a batch of requests costs: TTFT, TPOT, latency, throughput, energy and money.

B requests of P prompt and O output tokens each are served together. One prefill step of B P tokens
gives each its first token; O - 1 decode steps, over P to P + O - 2 cached tokens, give the others.
Each step takes what `predict` says of it, decode as a CUDA graph and prefill eagerly.

`LEFT_OUT` says what is left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import NOT_ASKED, Unknown
from costmodel.costs.predict import Prediction, predict
from costmodel.errors import InputError, shown
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import MAX_BATCH, MAX_NEW_TOKENS, Workload
from costmodel.questions.generation import NO_STEPS, PhaseCosts, one_step, steps_up_to

MAX_PRICE_PER_HOUR = 1e6  # so that no cost overflows
HOUR_S = 3600
MILLION = 10**6
LEFT_OUT = (
    "chunked prefill, queueing, requests that join or leave a running batch, cached prompts,"
    " tokenising, sampling, the network, an idle GPU"
)
NO_PRICE = Unknown(reason="no price given")
NO_DECODE = Unknown(reason="output=1: the only token comes from the prefill, no decode step runs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """B requests of one size, served together, and the price of a GPU.

    Raises:
        InputError: A number leaves its bounds, which are those of a workload.
    """

    prompt: int  # P, tokens of each request
    output: int  # O, tokens of each request
    batch: int = 1  # B
    price_per_hour: float | None = None  # USD for an hour of one GPU

    def __post_init__(self) -> None:
        for field, value, most in (
            ("prompt", self.prompt, MAX_NEW_TOKENS),
            ("output", self.output, MAX_NEW_TOKENS),
            ("batch", self.batch, MAX_BATCH),
        ):
            if not 1 <= value <= most:
                raise InputError(
                    f"{field}={shown(value)}: must be a whole number from 1 to {most:,}"
                )
        price = self.price_per_hour
        if price is not None and not 0 <= price <= MAX_PRICE_PER_HOUR:  # NaN is neither
            raise InputError(
                f"price_per_hour={shown(price)}: is a number from 0 to {MAX_PRICE_PER_HOUR:,.0f}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number derived from times: from roofline bounds, and from predicted times."""

    floor: float | Unknown
    predicted: float | Unknown

    def to(self, by: Callable[[float], float]) -> "Estimate":
        """`by` applied to both numbers; an unknown one stays unknown."""
        return Estimate(floor=_to(self.floor, by), predicted=_to(self.predicted, by))


def _to(value: float | Unknown, by: Callable[[float], float]) -> float | Unknown:
    return value if isinstance(value, Unknown) else by(value)


def _sum(a: float | Unknown, b: float | Unknown) -> float | Unknown:
    return a if isinstance(a, Unknown) else _to(b, lambda known: a + known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The costs of a batch of requests: sums over its steps, and what follows from them."""

    request: Request
    prefill_step: Prediction
    last_step: Prediction | None  # the last decode step; None where the output is one token
    prefill: PhaseCosts
    decode: PhaseCosts

    @property
    def ttft_s(self) -> Estimate:
        """Time to first token: the prefill step of the whole batch."""
        return Estimate(floor=self.prefill.floor_s, predicted=self.prefill.predicted_s)

    @property
    def tpot_s(self) -> Estimate:
        """Time per output token after the first: the mean decode step."""
        decode = self.decode
        if not decode.steps:
            return Estimate(floor=NO_DECODE, predicted=NO_DECODE)
        whole = Estimate(floor=decode.floor_s, predicted=decode.predicted_s)
        return whole.to(lambda seconds: seconds / decode.steps)

    @property
    def latency_s(self) -> Estimate:
        """From the start of the prefill to the last token: TTFT + (O - 1) TPOT."""
        return Estimate(
            floor=self.prefill.floor_s + self.decode.floor_s,
            predicted=_sum(self.prefill.predicted_s, self.decode.predicted_s),
        )

    @property
    def tokens_per_s(self) -> Estimate:
        """Output tokens of the batch, B O, over the latency; from the bounds, an upper limit."""
        return self.latency_s.to(lambda seconds: self.output_tokens / seconds)

    @property
    def tokens_per_s_per_user(self) -> Estimate:
        """Output tokens of one request over the latency."""
        return self.latency_s.to(lambda seconds: self.request.output / seconds)

    @property
    def output_tokens(self) -> int:
        """B O: output tokens of the batch."""
        return self.request.batch * self.request.output

    @property
    def total_tokens(self) -> int:
        """B (P + O): tokens of the batch, prompts in."""
        return self.request.batch * (self.request.prompt + self.request.output)

    @property
    def hbm_bytes(self) -> float:
        """Compulsory bytes of all steps."""
        return self.prefill.hbm_bytes + self.decode.hbm_bytes

    @property
    def flops(self) -> float:
        """FLOPs of all steps."""
        return self.prefill.flops + self.decode.flops

    @property
    def energy_j(self) -> float | Unknown:
        """Predicted energy of all steps."""
        return _sum(self.prefill.energy_j, self.decode.energy_j)

    @property
    def j_per_request(self) -> float | Unknown:
        """Predicted energy of one request's share."""
        return _to(self.energy_j, lambda joules: joules / self.request.batch)

    @property
    def j_per_million_output_tokens(self) -> float | Unknown:
        """Predicted energy, prefill in, by output tokens alone."""
        return _to(self.energy_j, lambda joules: joules / self.output_tokens * MILLION)

    @property
    def j_per_million_tokens(self) -> float | Unknown:
        """Predicted energy by prompt and output tokens alike."""
        return _to(self.energy_j, lambda joules: joules / self.total_tokens * MILLION)

    @property
    def usd(self) -> Estimate:
        """Price of all GPUs for the latency: what the whole batch costs."""
        price = self.request.price_per_hour
        if price is None:
            return Estimate(floor=NO_PRICE, predicted=NO_PRICE)
        return self.latency_s.to(lambda seconds: self.gpus * price * seconds / HOUR_S)

    @property
    def gpus(self) -> int:
        """The GPUs that serve the requests."""
        return self.prefill_step.gpus

    @property
    def usd_per_request(self) -> Estimate:
        """One request's share of the cost."""
        return self.usd.to(lambda usd: usd / self.request.batch)

    @property
    def usd_per_million_output_tokens(self) -> Estimate:
        """Cost, prefill in, by output tokens alone."""
        return self.usd.to(lambda usd: usd / self.output_tokens * MILLION)

    @property
    def usd_per_million_tokens(self) -> Estimate:
        """Cost by prompt and output tokens alike."""
        return self.usd.to(lambda usd: usd / self.total_tokens * MILLION)

    @property
    def end_step(self) -> Prediction:
        """The step after which most tokens are cached: P + O - 1, all but the last one."""
        return self.prefill_step if self.last_step is None else self.last_step

    @property
    def fits(self) -> bool:
        """Whether the GPU holds both the prefill step and the cache at the end."""
        return bool(self.prefill_step.memory.fits and self.end_step.memory.fits)

    @property
    def max_batch(self) -> int:
        """The largest batch of such requests that fits; 0 if not one does.

        The one-step prefill may be what limits it: `end_step.memory.max_batch` is the largest that
        fits at the end, where a prefill in small chunks would come close to it.
        """
        return int(min(self.prefill_step.memory.max_batch, self.end_step.memory.max_batch))


def step_usd_per_million_tokens(
    prediction: Prediction, price_per_hour: float | None
) -> float | Unknown:
    """What the GPUs cost, USD, while steps like this one give a million new tokens."""
    time, workload = prediction.time, prediction.workload
    if price_per_hour is None:
        return NO_PRICE
    if isinstance(time, Unknown):
        return time
    tokens = workload.batch * workload.new_tokens
    price = prediction.gpus * price_per_hour
    return price * float(time.predicted_s) / HOUR_S / tokens * MILLION


def serve(
    model: ModelConfig,
    request: Request,
    workload: Workload,
    hardware: Hardware,
    calibration: Curves | Unknown = NOT_ASKED,
) -> Served:
    """What serving `request` costs on `hardware`.

    `workload` gives the formats, the routing and the conventions; its phase and sizes give way to
    those of the request. Times and energies are predicted where `calibration` holds curves. On
    several GPUs all steps run on one mesh: see `_on_one_mesh`.
    """
    steps = request.output - 1
    prefill = replace(
        workload, phase="prefill", batch=request.batch, context=0, new_tokens=request.prompt
    )
    last = replace(
        workload,
        phase="decode",
        batch=request.batch,
        context=request.prompt + steps - 1,
        new_tokens=1,
    )
    prefill_step, *last_steps = _on_one_mesh(
        model, [prefill, last] if steps else [prefill], hardware, calibration
    )
    last_step = last_steps[0] if last_steps else None
    return Served(
        request=request,
        prefill_step=prefill_step,
        last_step=last_step,
        prefill=one_step(prefill_step),
        decode=NO_STEPS if last_step is None else steps_up_to(last_step, steps),
    )


def _on_one_mesh(
    model: ModelConfig,
    workloads: Sequence[Workload],
    hardware: Hardware,
    calibration: Curves | Unknown,
) -> list[Prediction]:
    """The prefill and the last decode step, on the same GPUs.

    A mesh that is left to be chosen is that of the last step if the prefill fits it as well, else
    that of the prefill.
    """
    predictions = [predict(model, workload, hardware, calibration) for workload in workloads]
    for chosen in reversed([prediction.workload.mesh for prediction in predictions]):
        predictions = [
            prediction
            if prediction.workload.mesh == chosen
            else predict(model, replace(workload, mesh=chosen), hardware, calibration)
            for workload, prediction in zip(workloads, predictions, strict=True)
        ]
        if all(prediction.memory.fits for prediction in predictions):
            break
    return predictions
