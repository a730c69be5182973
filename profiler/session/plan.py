"""The plan of a profile: which cases of a model are measured, in which order and kinds of run.

The cheapest and most useful cases come first, so that an interrupted profile is of use.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import get_args

from costmodel.backends import kernels_of
from costmodel.costs.operators import build_operators
from costmodel.errors import InputError, shown
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Backend, Phase, Workload
from costmodel.recordings.case_workload import IN_HBM, CaseWorkload, Dtype, TablesIn
from costmodel.recordings.quantities import RUNS, RunName
from costmodel.recordings.recording import MAX_CASES
from costmodel.strict import validated

UNIFORM = "uniform"
BATCHES = (1, 4, 16, 64, 256, 1024)
USUAL_CONTEXT = 2048
OTHER_CONTEXTS = (512, 8192)
LONG_CONTEXT, LONG_BATCHES = 32768, (1, 4, 16)
PROMPTS = (512, 2048, 8192)
OTHER_ROUTINGS = ("zipf:1.0", "scores")
ENERGY_BATCH = 16  # whose energy is measured at every context and routing but `scores`
# Between the others, so that they show how good interpolation is
BATCHES_BETWEEN, CONTEXTS_BETWEEN, BATCH_BETWEEN = (3, 12, 48, 192), (700, 3000, 12_000), 16
TIMES: tuple[RunName, ...] = ("time", "trace")
WITHOUT_ENERGY: tuple[RunName, ...] = (*TIMES, "counters")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCase:
    """A case and the kinds of run in which it is measured."""

    workload: CaseWorkload
    runs: tuple[RunName, ...]


def case_seed(workload: CaseWorkload) -> int:
    """The seed of a case's data, of 63 bits: the same in every profile and on every machine.

    Wherever tables stand, the data are the same.
    """
    fields = {name: value for name, value in asdict(workload).items() if name != "placement"}
    text = json.dumps(fields, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def chooses(model: ModelConfig) -> bool:
    """Whether any layer of the model chooses experts or rows, by scores or by token ids."""
    operators = build_operators(model, Workload().step())
    return any(operator.touched is not None for operator in operators)


def plan_from_lists(
    model: ModelConfig,
    *,
    phase: Phase,
    batches: Sequence[int],
    contexts: Sequence[int],
    new_tokens: Sequence[int],
    dtype: Dtype,
    routings: Sequence[str],
    runs: Sequence[RunName],
) -> tuple[PlannedCase, ...]:
    """All combinations of the lists, each a case with the same kinds of run.

    A model that chooses neither experts nor rows is measured under `uniform` alone.

    Raises:
        InputError: A value breaks a rule of `CaseWorkload`, there are too many combinations, or the
            model chooses nothing and `uniform` is not listed.
    """
    cases = len(batches) * len(contexts) * len(new_tokens) * len(routings)
    if cases > MAX_CASES:
        raise InputError(f"plan={cases}: a recording has at most {MAX_CASES:,} cases")
    used = routings if chooses(model) else [UNIFORM] if UNIFORM in routings else []
    if not used:
        raise InputError(
            f"routing={shown(','.join(routings))}: {model.name} chooses neither experts nor rows;"
            f" only {UNIFORM} says something of it"
        )
    return tuple(
        PlannedCase(
            workload=validated(
                CaseWorkload,
                {
                    "phase": phase,
                    "batch": batch,
                    "context": context,
                    "new_tokens": tokens,
                    "dtype": dtype,
                    "routing": routing,
                },
                where="case",
            ),
            runs=tuple(runs),
        )
        for routing, context, tokens, batch in product(used, contexts, new_tokens, batches)
    )


def with_tables_in(
    plan: Sequence[PlannedCase], model: ModelConfig, placement: str
) -> tuple[PlannedCase, ...]:
    """The plan with all memory tables in HBM or in host memory.

    Raises:
        InputError: The profiler puts no tables there, or the model has none.
    """
    tables = next((known for known in get_args(TablesIn) if known == placement), None)
    if tables is None:
        raise InputError(
            f"placement={shown(placement)}: a profile measures {' or '.join(get_args(TablesIn))}"
        )
    if tables != IN_HBM and not any(
        weight.group == "memory_values"
        for operator in build_operators(model, Workload().step())
        for weight in operator.weights
    ):
        raise InputError(f"placement={tables}: {model.name} has no memory table")
    return tuple(replace(case, workload=replace(case.workload, placement=tables)) for case in plan)


def check_backend(model: ModelConfig, plan: Sequence[PlannedCase], backend: Backend) -> None:
    """Check that a backend has kernels for all cases of a plan.

    Raises:
        InputError: It has none for one of them.
    """
    steps = {
        (each.phase, each.new_tokens, each.context > 0, each.dtype, each.placement): each
        for each in (case.workload for case in plan)
    }
    for workload in steps.values():
        refusal = _refusal(model, workload, backend)
        if refusal is not None:
            raise InputError(f"backend={backend}: {model.name}: {refusal}")


def _refusal(model: ModelConfig, workload: CaseWorkload, backend: Backend) -> str | None:
    """Why a backend has no kernels for a case; None: it has."""
    if backend != "torch" and workload.placement != IN_HBM:
        return f"reads tables in HBM alone, not with placement={workload.placement}"
    step = workload.to_workload().step()
    return kernels_of(backend, build_operators(model, step), step).refusal


def standard_plan(
    model: ModelConfig,
    *,
    dtype: Dtype,
    runs: Sequence[RunName] = RUNS,
    backend: Backend = "torch",
) -> tuple[PlannedCase, ...]:
    """The cases of the committed recordings, in those of their kinds of run that `runs` lists.

    Prefill is left out where the backend has no kernels for it.

    Energy takes longest, so it is measured at all batches of the usual context under uniform
    routing, and elsewhere at `ENERGY_BATCH`. The long context is measured of models without a
    sparse layer only, as the dense reference. Batches and contexts between the others have times.
    """

    def decode(
        context: int,
        routing: str = UNIFORM,
        batches: Sequence[int] = BATCHES,
        kinds: Sequence[RunName] = WITHOUT_ENERGY,
        energy: Sequence[int] = (),
    ) -> list[PlannedCase]:
        return [
            _planned(
                *("decode", batch, context, 1, dtype, routing),
                runs=RUNS if batch in energy else kinds,
            )
            for batch in batches
        ]

    one = (ENERGY_BATCH,)
    cases = decode(USUAL_CONTEXT, energy=BATCHES)
    for tokens in PROMPTS:
        kinds = RUNS if tokens == USUAL_CONTEXT else WITHOUT_ENERGY
        prompt = _planned("prefill", 1, 0, tokens, dtype, UNIFORM, kinds)
        if _refusal(model, prompt.workload, backend) is None:
            cases.append(prompt)
    sparse = chooses(model)
    for routing in OTHER_ROUTINGS if sparse else ():
        cases += decode(USUAL_CONTEXT, routing, energy=one if routing != "scores" else ())
    for context in OTHER_CONTEXTS:
        cases += decode(context, energy=one)
    if not sparse:
        cases += decode(LONG_CONTEXT, batches=LONG_BATCHES)
    cases += decode(USUAL_CONTEXT, batches=BATCHES_BETWEEN, kinds=TIMES)
    for context in CONTEXTS_BETWEEN:
        cases += decode(context, batches=(BATCH_BETWEEN,), kinds=TIMES)
    requested = (
        PlannedCase(workload=case.workload, runs=tuple(run for run in case.runs if run in runs))
        for case in cases
    )
    return tuple(case for case in requested if case.runs)


def _planned(  # noqa: PLR0917 - one row of the grid
    phase: Phase,
    batch: int,
    context: int,
    new_tokens: int,
    dtype: Dtype,
    routing: str,
    runs: Sequence[RunName],
) -> PlannedCase:
    workload = CaseWorkload(
        phase=phase,
        batch=batch,
        context=context,
        new_tokens=new_tokens,
        dtype=dtype,
        routing=routing,
    )
    return PlannedCase(workload=workload, runs=tuple(runs))


def workload_label(workload: CaseWorkload) -> str:
    """A workload in one line, for progress: `decode batch=16 context=2048 routing=uniform`.

    A prefill also states its new tokens; a dtype other than bf16 and tables outside HBM are stated.
    """
    words = [workload.phase, f"batch={workload.batch}", f"context={workload.context}"]
    if workload.phase == "prefill":
        words.append(f"new_tokens={workload.new_tokens}")
    if workload.dtype != "bf16":
        words.append(f"dtype={workload.dtype}")
    if workload.placement != IN_HBM:
        words.append(f"placement={workload.placement}")
    return " ".join([*words, f"routing={workload.routing}"])
