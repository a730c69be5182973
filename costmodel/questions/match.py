"""The model of another kind with the parameters and FLOPs of a given one, or its HBM bytes.

The papers that compare memory layers with experts pair their models so: the same total and the
same active parameters, on the same backbone (UltraMemV2, arXiv 2508.18756, Table 10). What a decode
step waits for is bytes, so that they can be set equal instead, at a batch and context.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import log
from typing import get_args

from pydantic import ValidationError

from costmodel import units
from costmodel.costs.operators import build_operators
from costmodel.costs.step import step_costs
from costmodel.costs.totals import parameter_counts
from costmodel.errors import InputError, shown
from costmodel.inputs.model import MAX_NAME, ModelConfig
from costmodel.inputs.workload import DEFAULT_CONTEXT, Workload
from costmodel.layers.mesh import ONE_GPU
from costmodel.questions.matching.backbone import on_backbone
from costmodel.questions.matching.search import USUAL, Budget, Equal, Search
from costmodel.questions.matching.sizes import resized, size_of, varied_sizes

FAR = log(1.01)  # a pair beyond it is a match only where the steps of the sizes keep it there
MAX_SOURCE = 2000
NAMES: tuple[Equal, ...] = get_args(Equal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A model sized as another one, and how near it comes.

    Parameters are without embeddings and LM head. FLOPs per token are those of one decode step of
    one sequence with `context` cached tokens: active parameters, attention and the LM head. HBM
    bytes are the compulsory ones of the decode step `step`, which has that context as well.
    """

    target: ModelConfig
    template: ModelConfig
    model: ModelConfig  # the template with other sizes, on the target's backbone or on its own
    fields: dict[str, tuple[int, int]]  # each varied size: of the template, and of the match
    steps: dict[str, int]  # matched sizes are multiples of these
    context: int
    step: Workload  # of which HBM bytes count, where they are set equal
    equal: tuple[Equal, Equal]
    keep_backbone: bool
    wanted: Budget  # of the target
    reached: Budget  # of the match
    candidates: int  # models tried

    @property
    def batch(self) -> int:
        """Sequences of the step: its own where HBM bytes are set equal, else 1."""
        return self.step.batch if "bytes" in self.equal else 1

    @property
    def parameters_ratio(self) -> float:
        """Total parameters without embeddings, reached over wanted."""
        return self.reached.ratio(self.wanted, "parameters")

    @property
    def flops_ratio(self) -> float:
        """FLOPs per token, reached over wanted."""
        return self.reached.ratio(self.wanted, "flops")


def match(
    target: ModelConfig,
    template: ModelConfig,
    *,
    context: int = DEFAULT_CONTEXT["decode"],
    vary: Mapping[str, int | None] | None = None,
    keep_backbone: bool = False,
    equal: tuple[Equal, Equal] = USUAL,
    step: Workload | None = None,
) -> Match:
    """`template` with the sizes that bring it nearest to two numbers of `target`.

    Two sizes vary: those named in `vary`, with their steps (None: the usual one), else keys per
    side and FFN width of memory layers, or number and width of experts. Hidden size, layers,
    attention and vocabulary come from `target` unless `keep_backbone` is true. Of the sizes that
    the rules of the layers allow, the pair is taken whose larger |ln(reached / wanted)|, of the two
    numbers, is least.

    Args:
        target: The model whose numbers are wanted.
        template: The model whose sizes vary.
        context: Cached tokens of a sequence, of FLOPs and of HBM bytes.
        vary: The two sizes, each with its step.
        keep_backbone: Whether the template keeps its own.
        equal: The two numbers that are set equal.
        step: The decode step whose HBM bytes are meant by `bytes`: its batch, formats and placement
            of tables. None: one sequence in bf16. Routing is uniform.

    Raises:
        InputError: the template has no sparse layers or not these sizes, does not fit the backbone,
            or reaches nothing within 1 % of the target.
    """
    base = on_backbone(template, template if keep_backbone else target)
    sizes = varied_sizes(base, vary)
    first, second = sizes
    step = replace(step or Workload(), context=context)
    if "bytes" in equal and step.mesh != ONE_GPU:
        raise InputError(
            f"gpus={shown(step.mesh.label)}: HBM bytes are set equal on one GPU alone; parameters"
            " and FLOPs can be on several"
        )
    counted = step if "bytes" in equal else None
    wanted = budget(target, context, counted)

    def budget_of(*values: int) -> Budget | None:
        try:
            return budget(resized(base, dict(zip(sizes, values, strict=True))), context, counted)
        except ValidationError:
            return None

    search = Search(
        budget=budget_of, sizes=(sizes[first], sizes[second]), wanted=wanted, equal=equal
    )
    pair = search.nearest()
    assert pair is not None, "a step up or down is accepted, so some multiple of it is"
    chosen = dict(zip(sizes, pair, strict=True))
    reached = budget_of(*pair)
    assert reached is not None, "the search returns no refused pair"
    if max(map(abs, reached.logs(wanted, equal))) > FAR and not search.surrounds():
        raise InputError(_unreachable(target, template, search, reached, chosen))
    return Match(
        target=target,
        template=template,
        model=replace(
            resized(base, chosen),
            name=f"{template.name} sized as {target.name}"[:MAX_NAME],
            source=(
                f"sparsecost match: {', '.join(sizes)} of {template.name} set by the"
                f" {_words(equal, step)} of {target.name}. {template.name}: {template.source}"
            )[:MAX_SOURCE],
        ),
        fields={name: (int(size_of(base, name)[1]), chosen[name]) for name in sizes},
        steps={name: size.step for name, size in sizes.items()},
        context=context,
        step=step,
        equal=equal,
        keep_backbone=keep_backbone,
        wanted=wanted,
        reached=reached,
        candidates=len(search.budgets),
    )


def budget(model: ModelConfig, context: int, counted: Workload | None = None) -> Budget:
    """Parameters without embeddings and the FLOPs of one decode step of one sequence.

    Also the compulsory HBM bytes of the step `counted`, unless it is None.
    """
    operators = build_operators(model, Workload(context=context).step())
    flops = sum(operator.count * operator.total("flops") for operator in operators)
    assert isinstance(flops, int)
    hbm_bytes = None
    if counted is not None:
        step = counted.of_model(model).step()
        hbm_bytes = float(step_costs(model, step).totals.compulsory_bytes)
    return Budget(
        parameters=parameter_counts(operators).total_without_embeddings,
        flops=flops,
        hbm_bytes=hbm_bytes,
    )


def parse_equal(text: str) -> tuple[Equal, Equal]:
    """Total parameters and one number more, with a comma between: `parameters,bytes`.

    FLOPs and bytes alone would not do: neither tells table rows that no token reads.

    Raises:
        InputError: It is none of the pairs.
    """
    for name in NAMES[1:]:
        if [item.strip() for item in text.split(",")] == [NAMES[0], name]:
            return NAMES[0], name
    pairs = " or ".join(f"{NAMES[0]},{name}" for name in NAMES[1:])
    raise InputError(f"equal={shown(text)}: must be {pairs}")


def _words(equal: tuple[Equal, Equal], step: Workload) -> str:
    bytes_words = f"HBM bytes at batch {step.batch:,} and context {step.context:,}"
    words: dict[Equal, str] = {"parameters": "parameters", "flops": "FLOPs", "bytes": bytes_words}
    return " and ".join(words[name] for name in equal)


def _unreachable(
    target: ModelConfig,
    template: ModelConfig,
    search: Search,
    reached: Budget,
    chosen: Mapping[str, int],
) -> str:
    sizes = ", ".join(f"{name}={value}" for name, value in chosen.items())
    wanted, equal = search.wanted, search.equal
    off = [f"{_shown(reached, name)} ({reached.ratio(wanted, name) - 1:+.1%})" for name in equal]
    wanted_words = " with ".join(_shown(wanted, name, is_whole=True) for name in equal)
    return (
        f"template={shown(template.name)}: reaches no {wanted_words}, as {shown(target.name)}"
        f" has; the nearest, {sizes}, has {' and '.join(off)}"
    )


def _shown(budget: Budget, name: Equal, *, is_whole: bool = False) -> str:
    """One of the numbers in its unit, and what it is if `is_whole`."""
    if name == "parameters":
        whole = " parameters without embeddings"
        return f"{units.parameters(budget.parameters)}{whole if is_whole else ''}"
    if name == "flops":
        return f"{units.flops(budget.flops)}{' per token' if is_whole else ''}"
    return f"{units.formatted(budget.of(name), 'bytes')}{' of HBM' if is_whole else ''}"
