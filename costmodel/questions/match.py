"""The model of another kind with the parameters and FLOPs of a given one.

The papers that compare memory layers with experts pair their models so: the same total and the
same active parameters, on the same backbone (UltraMemV2, arXiv 2508.18756, Table 10).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import log

from pydantic import ValidationError

from costmodel import units
from costmodel.costs.operators import build_operators
from costmodel.costs.totals import parameter_counts
from costmodel.errors import InputError, shown
from costmodel.inputs.model import MAX_NAME, ModelConfig
from costmodel.inputs.workload import DEFAULT_CONTEXT, Workload
from costmodel.questions.matching.backbone import on_backbone
from costmodel.questions.matching.search import Budget, Search
from costmodel.questions.matching.sizes import resized, size_of, varied_sizes

FAR = log(1.01)  # a pair beyond it is a match only where the steps of the sizes keep it there
MAX_SOURCE = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A model sized as another one, and how near it comes.

    Parameters are without embeddings and LM head. FLOPs per token are those of one decode step of
    one sequence with `context` cached tokens: active parameters, attention and the LM head.
    """

    target: ModelConfig
    template: ModelConfig
    model: ModelConfig  # the template with other sizes, on the target's backbone or on its own
    fields: dict[str, tuple[int, int]]  # each varied size: of the template, and of the match
    steps: dict[str, int]  # matched sizes are multiples of these
    context: int
    keep_backbone: bool
    wanted: Budget  # of the target
    reached: Budget  # of the match
    candidates: int  # models tried

    @property
    def parameters_ratio(self) -> float:
        """Total parameters without embeddings, reached over wanted."""
        return self.reached.parameters / self.wanted.parameters

    @property
    def flops_ratio(self) -> float:
        """FLOPs per token, reached over wanted."""
        return self.reached.flops / self.wanted.flops


def match(
    target: ModelConfig,
    template: ModelConfig,
    *,
    context: int = DEFAULT_CONTEXT["decode"],
    vary: Mapping[str, int | None] | None = None,
    keep_backbone: bool = False,
) -> Match:
    """`template` with the sizes that bring it nearest to the parameters and FLOPs of `target`.

    Two sizes vary: those named in `vary`, with their steps (None: the usual one), else keys per
    side and FFN width of memory layers, or number and width of experts. Hidden size, layers,
    attention and vocabulary come from `target` unless `keep_backbone` is true. Of the sizes that
    the rules of the layers allow, the pair is taken whose larger |ln(reached / wanted)|, of
    parameters and of FLOPs, is least.

    Raises:
        InputError: the template has no sparse layers or not these sizes, does not fit the backbone,
            or reaches nothing within 1 % of the target.
    """
    base = on_backbone(template, template if keep_backbone else target)
    sizes = varied_sizes(base, vary)
    first, second = sizes
    wanted = budget(target, context)

    def budget_of(*values: int) -> Budget | None:
        try:
            return budget(resized(base, dict(zip(sizes, values, strict=True))), context)
        except ValidationError:
            return None

    search = Search(budget=budget_of, sizes=(sizes[first], sizes[second]), wanted=wanted)
    pair = search.nearest()
    assert pair is not None, "a step up or down is accepted, so some multiple of it is"
    chosen = dict(zip(sizes, pair, strict=True))
    reached = budget_of(*pair)
    assert reached is not None, "the search returns no refused pair"
    if max(map(abs, reached.logs(wanted))) > FAR and not search.surrounds():
        raise InputError(_unreachable(target, template, wanted, reached, chosen))
    return Match(
        target=target,
        template=template,
        model=replace(
            resized(base, chosen),
            name=f"{template.name} sized as {target.name}"[:MAX_NAME],
            source=(
                f"sparsecost match: {', '.join(sizes)} of {template.name} set by the parameters"
                f" and FLOPs of {target.name}. {template.name}: {template.source}"
            )[:MAX_SOURCE],
        ),
        fields={name: (int(size_of(base, name)[1]), chosen[name]) for name in sizes},
        steps={name: size.step for name, size in sizes.items()},
        context=context,
        keep_backbone=keep_backbone,
        wanted=wanted,
        reached=reached,
        candidates=len(search.budgets),
    )


def budget(model: ModelConfig, context: int) -> Budget:
    """Parameters without embeddings and the FLOPs of one decode step of one sequence."""
    operators = build_operators(model, Workload(context=context).step())
    flops = sum(operator.count * operator.total("flops") for operator in operators)
    assert isinstance(flops, int)
    parameters = parameter_counts(operators).total_without_embeddings
    return Budget(parameters=parameters, flops=flops)


def _unreachable(
    target: ModelConfig,
    template: ModelConfig,
    wanted: Budget,
    reached: Budget,
    chosen: Mapping[str, int],
) -> str:
    sizes = ", ".join(f"{name}={value}" for name, value in chosen.items())
    p, f = reached.parameters / wanted.parameters - 1, reached.flops / wanted.flops - 1
    return (
        f"template={shown(template.name)}: reaches no"
        f" {units.parameters(wanted.parameters)} parameters without embeddings with"
        f" {units.flops(wanted.flops)} per token, as {shown(target.name)} has; the nearest,"
        f" {sizes}, has {units.parameters(reached.parameters)} ({p:+.1%}) and"
        f" {units.flops(reached.flops)} ({f:+.1%})"
    )
