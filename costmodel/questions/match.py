"""The model of another kind with the parameters and FLOPs of a given one.

The papers that compare memory layers with experts pair their models so: the same total and the
same active parameters, on the same trunk (UltraMemV2, arXiv 2508.18756, Table 10).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log

from pydantic import ValidationError

from costmodel import units
from costmodel.costs.columns import Value, columns, predicted_columns
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import NOT_ASKED, Unknown
from costmodel.costs.operators import build_operators
from costmodel.costs.predict import predict
from costmodel.costs.totals import parameter_counts
from costmodel.errors import InputError, shown
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import MAX_NAME, ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.questions.matching.backbone import on_trunk
from costmodel.questions.matching.search import Weighed, nearest
from costmodel.questions.matching.sizes import SIZES, checked_steps, resized, size_of

FAR = log(1.01)  # beyond it, a nearest model on the border of what can be reached is no match
MAX_SOURCE = 2000
BATCHES = (1, 64, 1024)  # at which matched models are set side by side

# What is set side by side, by its name in the JSON of a prediction.
FIXED = (  # by no batch
    "parameters.active_without_embeddings",
    "memory.weights_bytes",
    "kv_cache.bytes_per_token",
    "memory.max_batch",
)
MOVING = (
    "hbm_bytes.compulsory",
    "hbm_bytes.weights",
    "hbm_bytes.table_rows",
    "hbm_bytes.kv",
    "routing.flops",
    "routing.hbm_bytes",
    "time.floor_s",
    "time.predicted_s",
    "energy.predicted_j",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A model sized as another one, and how near it comes.

    Parameters are without embeddings and LM head. FLOPs per token are those of one decode step of
    one sequence with `context` cached tokens: active parameters, attention and the LM head.
    """

    target: ModelConfig
    template: ModelConfig
    model: ModelConfig  # the template with other sizes, on the target's trunk or on its own
    fields: dict[str, tuple[int, int]]  # each varied size: of the template, and found
    steps: dict[str, int]  # found sizes are multiples of these
    context: int
    keep_trunk: bool
    wanted: Weighed
    found: Weighed
    candidates: int  # models weighed

    @property
    def parameters_ratio(self) -> float:
        """Total parameters without embeddings, found over wanted."""
        return self.found.parameters / self.wanted.parameters

    @property
    def flops_ratio(self) -> float:
        """FLOPs per token, found over wanted."""
        return self.found.flops / self.wanted.flops


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """One number of both models; `batch` is None where no workload changes it."""

    name: str  # as in the JSON of a prediction
    batch: int | None
    target: Value
    found: Value


def match(
    target: ModelConfig,
    template: ModelConfig,
    *,
    context: int = 2048,
    vary: Mapping[str, int] | None = None,
    keep_trunk: bool = False,
) -> Match:
    """`template` with the sizes that bring it nearest to the parameters and FLOPs of `target`.

    Two sizes vary: those named in `vary`, with their steps, else keys per side and FFN width of
    memory layers, or number and width of experts. Hidden size, layers, attention and vocabulary
    come from `target` unless `keep_trunk` is true. Of the sizes that the rules of the layers allow,
    the pair is taken whose larger |ln(found over wanted)|, of parameters and of FLOPs, is least.

    Raises:
        InputError: the template has no sparse layers or not these sizes, does not fit the trunk,
            or reaches nothing within 1 % of the target.
    """
    trunk = template if keep_trunk else target
    base = on_trunk(template, trunk)
    steps = checked_steps(base, vary)
    wanted = _weighed(target, context)
    x, y = _ordered(base, steps, context)
    weigh = _Weigher(base=base, names=(x, y), context=context)
    sizes = {name: replace(SIZES[name], step=steps[name]) for name in (x, y)}
    best = nearest(weigh, sizes[x], sizes[y], wanted)
    assert best is not None, "a step up or down is accepted, so some multiple of it is"
    chosen = dict(zip((x, y), best.point, strict=True))
    model = resized(base, chosen)
    found = _weighed(model, context)
    if not best.enclosed and best.distance > FAR:
        raise InputError(_unreachable(target, template, wanted, found, chosen))
    return Match(
        target=target,
        template=template,
        model=replace(
            model,
            name=f"{template.name} sized as {target.name}"[:MAX_NAME],
            source=(
                f"sparsecost match: {', '.join(steps)} of {template.name} set by the parameters"
                f" and FLOPs of {target.name}. {template.name}: {template.source}"
            )[:MAX_SOURCE],
        ),
        fields={name: (size_of(base, name), chosen[name]) for name in steps},
        steps=steps,
        context=context,
        keep_trunk=keep_trunk,
        wanted=wanted,
        found=found,
        candidates=len(weigh.seen),
    )


def beside(
    found: Match,
    hardware: Hardware,
    batches: Sequence[int] = BATCHES,
    calibration: Curves | Unknown = NOT_ASKED,
) -> list[Beside]:
    """What else differs between target and match: memory, KV cache, HBM bytes, times, energy.

    Decode steps at the context of the match, bf16, uniform routing. What a calibration would give
    is None where there is none.
    """
    lines: list[Beside] = []
    for batch in batches:
        workload = Workload(batch=batch, context=found.context)
        target, model = (
            _named(each, workload, hardware, calibration) for each in (found.target, found.model)
        )
        lines += [
            Beside(
                name=name,
                batch=None if name in FIXED else batch,
                target=target[name],
                found=model[name],
            )
            for name in (MOVING if lines else FIXED + MOVING)
        ]
    return lines


def _named(
    model: ModelConfig, workload: Workload, hardware: Hardware, calibration: Curves | Unknown
) -> dict[str, Value]:
    prediction = predict(model, workload, hardware, calibration)
    return predicted_columns(prediction.time, tokens=workload.batch) | columns(
        prediction.costs,
        prediction.memory,
        tokens=workload.batch,
        backend=workload.backend,
        floor=prediction.floor_s,
        bound=prediction.bound_by,
    )


def _weighed(model: ModelConfig, context: int) -> Weighed:
    """Parameters without embeddings and the FLOPs of one decode step of one sequence."""
    operators = build_operators(model, Workload(context=context).step())
    flops = sum(each.count * each.total("flops") for each in operators)
    assert isinstance(flops, int)
    parameters = parameter_counts(operators).total_without_embeddings
    return Weighed(parameters=parameters, flops=flops)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weigher:
    """Weighs `base` by the values of two sizes, each pair once; None where a rule refuses them."""

    base: ModelConfig
    names: tuple[str, str]
    context: int
    seen: dict[tuple[int, int], Weighed | None] = field(default_factory=dict)

    def __call__(self, x: int, y: int) -> Weighed | None:
        if (x, y) not in self.seen:
            try:
                model = resized(self.base, dict(zip(self.names, (x, y), strict=True)))
                self.seen[x, y] = _weighed(model, self.context)
            except ValidationError:
                self.seen[x, y] = None
        return self.seen[x, y]


def _ordered(base: ModelConfig, steps: Mapping[str, int], context: int) -> tuple[str, str]:
    """The two sizes, first the one that weighs more on parameters against FLOPs.

    Raises:
        InputError: the rules of the layers leave a size no other value.
    """
    first, second = steps
    weigh = _Weigher(base=base, names=(first, second), context=context)
    at = (size_of(base, first), size_of(base, second))
    here = weigh(*at)
    assert here is not None, "the template breaks no rule"
    changes = []
    for name, direction in ((first, (1, 0)), (second, (0, 1))):
        a, b = (steps[name] * each for each in direction)
        there = weigh(at[0] + a, at[1] + b) or weigh(at[0] - a, at[1] - b)
        if there is None:
            only = size_of(base, name)
            raise InputError(f"vary={name}: the layers' rules allow no value but {only}")
        changes.append([abs(change) for change in there.logs(here)])
    (p_first, f_first), (p_second, f_second) = changes
    in_order = p_first * f_second >= p_second * f_first
    return (first, second) if in_order else (second, first)


def _unreachable(
    target: ModelConfig,
    template: ModelConfig,
    wanted: Weighed,
    found: Weighed,
    chosen: Mapping[str, int],
) -> str:
    sizes = ", ".join(f"{name}={value}" for name, value in chosen.items())
    p, f = found.parameters / wanted.parameters - 1, found.flops / wanted.flops - 1
    return (
        f"template={shown(template.name)}: reaches no"
        f" {units.parameters(wanted.parameters)} parameters without embeddings with"
        f" {units.flops(wanted.flops)} per token, as {shown(target.name)} has; the nearest,"
        f" {sizes}, has {units.parameters(found.parameters)} ({p:+.1%}) and"
        f" {units.flops(found.flops)} ({f:+.1%})"
    )
