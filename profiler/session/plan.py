"""What a profile measures of a model: cases in the order of their worth, and the runs of each.

The cheap and most wanted cases come first, so that a profile that is cut short is of use.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Literal

from costmodel.costs.operators import build_operators
from costmodel.errors import InputError, shown
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.recordings.quantities import RUNS, RunName
from costmodel.recordings.recording import MAX_CASES, CaseWorkload
from costmodel.strict import validated

UNIFORM = "uniform"
BATCHES = (1, 4, 16, 64, 256, 1024)
USUAL_CONTEXT = 2048
OTHER_CONTEXTS = (512, 8192)
LONG_CONTEXT, LONG_BATCHES = 32768, (1, 4, 16)
PROMPTS = (512, 2048, 8192)
OTHER_ROUTINGS = ("zipf:1.0", "scores")
WITHOUT_ENERGY: tuple[RunName, ...] = ("time", "trace", "counters")

Dtype = Literal["bf16", "fp32"]
Phase = Literal["decode", "prefill"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A case, and the kinds of run in which it is measured."""

    workload: CaseWorkload
    runs: tuple[RunName, ...]


def case_seed(workload: CaseWorkload) -> int:
    """The seed of a case's data, 63 bits: the same in every repeat, and on every machine."""
    text = json.dumps(asdict(workload), sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def chooses(model: ModelConfig) -> bool:
    """Whether any layer chooses experts or rows, so that a routing means something."""
    operators = build_operators(model, Workload().step())
    return any(part.routing for operator in operators for part in operator.parts)


def from_lists(
    model: ModelConfig,
    *,
    phase: Phase,
    batches: Sequence[int],
    contexts: Sequence[int],
    new_tokens: Sequence[int],
    dtype: Dtype,
    routings: Sequence[str],
    runs: Sequence[RunName],
) -> tuple[Planned, ...]:
    """Every combination of the lists.

    A model that chooses nothing is measured once, under `uniform`, whatever else is listed.

    Raises:
        InputError: A value breaks a rule of a case, or the model knows none of the routings.
    """
    cases = len(batches) * len(contexts) * len(new_tokens) * len(routings)
    if cases > MAX_CASES:
        raise InputError(f"plan={cases}: a recording has at most {MAX_CASES:,} cases")
    known = routings if chooses(model) else [each for each in routings if each == UNIFORM]
    if not known:
        raise InputError(
            f"routing={shown(','.join(routings))}: {model.name} chooses neither experts nor rows;"
            f" only {UNIFORM} says something of it"
        )
    return tuple(
        Planned(
            workload=validated(
                CaseWorkload,
                {
                    "phase": phase,
                    "batch": batch,
                    "context": context,
                    "new_tokens": new,
                    "dtype": dtype,
                    "routing": routing,
                },
                where="case",
            ),
            runs=tuple(runs),
        )
        for routing, context, new, batch in product(known, contexts, new_tokens, batches)
    )


def standard(
    model: ModelConfig, *, dtype: Dtype, runs: Sequence[RunName] = RUNS
) -> tuple[Planned, ...]:
    """The grid of the committed recordings; of it the runs that are asked for.

    Energy is measured at the usual context and under uniform routing only, since it takes longest;
    the long context only of models without a sparse layer, the dense yardstick.
    """

    def decode(
        context: int,
        routing: str = UNIFORM,
        batches: Sequence[int] = BATCHES,
        kinds: Sequence[RunName] = WITHOUT_ENERGY,
    ) -> list[Planned]:
        return [_planned("decode", batch, context, 1, dtype, routing, kinds) for batch in batches]

    found = decode(USUAL_CONTEXT, kinds=RUNS)
    for tokens in PROMPTS:
        kinds = RUNS if tokens == USUAL_CONTEXT else WITHOUT_ENERGY
        found.append(_planned("prefill", 1, 0, tokens, dtype, UNIFORM, kinds))
    sparse = chooses(model)
    for routing in OTHER_ROUTINGS if sparse else ():
        found += decode(USUAL_CONTEXT, routing)
    for context in OTHER_CONTEXTS:
        found += decode(context)
    if not sparse:
        found += decode(LONG_CONTEXT, batches=LONG_BATCHES)
    chosen = (
        Planned(workload=each.workload, runs=tuple(run for run in each.runs if run in runs))
        for each in found
    )
    return tuple(each for each in chosen if each.runs)


def _planned(  # noqa: PLR0917 - one row of the grid
    phase: Phase,
    batch: int,
    context: int,
    new_tokens: int,
    dtype: Dtype,
    routing: str,
    runs: Sequence[RunName],
) -> Planned:
    workload = CaseWorkload(
        phase=phase,
        batch=batch,
        context=context,
        new_tokens=new_tokens,
        dtype=dtype,
        routing=routing,
    )
    return Planned(workload=workload, runs=tuple(runs))


def described(workload: CaseWorkload) -> str:
    """A case in one line: `decode batch=16 context=2048 routing=uniform`.

    A prefill says its new tokens as well, weights that are not bf16 their dtype.
    """
    words = [workload.phase, f"batch={workload.batch}", f"context={workload.context}"]
    if workload.phase == "prefill":
        words.append(f"new_tokens={workload.new_tokens}")
    if workload.dtype != "bf16":
        words.append(f"dtype={workload.dtype}")
    return " ".join([*words, f"routing={workload.routing}"])
