"""The command `sparsecost profile`: check the options, run the profile, report its outcome.

Only worker processes import torch, so that help and errors of the user need none.
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Annotated, Literal

import typer

from costmodel.cli.options import IgnoreKeyOpt, JsonOpt, ModelArgs
from costmodel.cli.typed_models import typed_models
from costmodel.errors import InputError, WorkError, shown
from costmodel.inputs.catalog import model_names
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.parse import (
    parse_batches,
    parse_contexts,
    parse_count,
    parse_counts,
    parse_routing,
    split_routings,
)
from costmodel.inputs.workload import (
    DEFAULT_CONTEXT,
    DEFAULT_NEW_TOKENS,
    MAX_NEW_TOKENS,
    Backend,
    Phase,
)
from costmodel.recordings.case_workload import IN_HBM, Dtype
from costmodel.recordings.folders import own_folder, refuse_shipped
from costmodel.recordings.quantities import RUNS, RunName
from costmodel.routing.by_population import POPULATIONS
from costmodel.show.text import printable
from profiler.session.plan import (
    PlannedCase,
    check_backend,
    plan_from_lists,
    standard_plan,
    with_tables_in,
)
from profiler.session.profile import run_profile
from profiler.session.progress import ProfileProgress
from profiler.session.protocol import DeviceChoice
from profiler.session.session import Outcome, PlannedModel, ProfileRequest, slug

WEIGHTS_SEED = 0  # of the weights of all recordings, so that any can be resumed
MAX_TIMEOUT_S = 86_400
ENDING_S = 10  # for a worker's end, and for the last file
INTERRUPTED = 130  # the usual exit code after Ctrl-C
ZIPF = re.compile(r"zipf:(\d{1,2})(?:\.(\d{1,6}))?", re.ASCII)
FILE_SUFFIX = re.compile(r"[^.]\.[a-z]\w*$", re.ASCII | re.IGNORECASE)  # of a.txt, not of v1.2
ROUTINGS = "is a list of uniform, scores, zipf:EXPONENT and experts=LAW,rows=LAW"


def profile(
    models: ModelArgs,
    *,
    plan: Annotated[
        Literal["standard"] | None,
        typer.Option(help="The grid of the committed recordings, in place of the lists below."),
    ] = None,
    phase: Annotated[
        Phase | None,
        typer.Option(help="One token a sequence, or a prompt. (Default: decode.)"),
    ] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="LIST", help="Sequences: 1,16. (Default: 1.)")
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Tokens cached per sequence. (Default: 2048 in decode, 0 in prefill.)",
        ),
    ] = None,
    new_tokens: Annotated[
        str | None,
        typer.Option(
            metavar="LIST", help="Tokens of a prompt, per sequence. (Default: 2048; decode: 1.)"
        ),
    ] = None,
    routing: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="uniform, zipf:EXPONENT, one of these for each as experts=LAW,rows=LAW, or scores,"
            " the model's own. (Default: uniform.)",
        ),
    ] = None,
    placement: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="tables=host: memory tables in pinned host memory, in the same recording as cases"
            " with tables=hbm.",
        ),
    ] = IN_HBM,
    dtype: Annotated[Dtype, typer.Option(help="Weights and KV cache.")] = "bf16",
    runs: Annotated[
        str, typer.Option(metavar="LIST", help="Kinds of run, of which each is a process.")
    ] = ",".join(RUNS),
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="A .json file for one model, or a folder: h200-olmoe-1b-7b.json and so on in it."
            " (Default: the folder of your own recordings, SPARSECOST_RECORDINGS or ./recordings.)",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Measure what the recording lacks, and keep the rest.")
    ] = False,
    device: Annotated[
        DeviceChoice,
        typer.Option(help="Where the model runs; auto: on a GPU if there is one."),
    ] = "auto",
    timeout: Annotated[
        str, typer.Option(metavar="S", help="Seconds without a sign of life that end a worker.")
    ] = "600",
    minutes: Annotated[
        str | None,
        typer.Option(metavar="M", help="End within so many minutes; --resume goes on from there."),
    ] = None,
    backend: Annotated[
        Literal["torch", "fused", "both"],
        typer.Option(
            help="Whose kernels run: PyTorch's own, or this project's fused ones, on a GPU."
            " Each has recordings of its own."
        ),
    ] = "torch",
    ignore_key: IgnoreKeyOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Run models in PyTorch and record what they cost, operator by operator.

    Example: sparsecost profile olmoe-1b-7b --batch 1,16,64 --context 512,2048
    """
    run_names = _run_names(runs)
    lists = {
        "phase": phase,
        "batch": batch,
        "context": context,
        "new_tokens": new_tokens,
        "routing": routing,
    }
    given = [name for name, value in lists.items() if value is not None]
    for name in given:
        if not lists[name]:
            raise InputError(f"{name}='': is empty")
    if plan is not None and given:
        raise InputError(f"plan={plan}: has its own {given[0]}; leave one of the two out")

    if backend != "torch" and device == "cpu":
        raise InputError(f"backend={backend}: needs a GPU, not device=cpu")

    def plan_of(model: ModelConfig, kernels: Backend) -> tuple[PlannedCase, ...]:
        cases = with_tables_in(cases_of(model, kernels), model, placement)
        check_backend(model, cases, kernels)
        return cases

    def cases_of(model: ModelConfig, kernels: Backend) -> tuple[PlannedCase, ...]:
        if plan is not None:
            return standard_plan(model, dtype=dtype, runs=run_names, backend=kernels)
        in_phase = phase or "decode"
        new = parse_counts(
            new_tokens or str(DEFAULT_NEW_TOKENS[in_phase]),
            field="new_tokens",
            low=1,
            high=MAX_NEW_TOKENS,
        )
        return plan_from_lists(
            model,
            phase=in_phase,
            batches=parse_batches(batch or "1"),
            contexts=parse_contexts(context or str(DEFAULT_CONTEXT[in_phase])),
            new_tokens=new,
            dtype=dtype,
            routings=_routings(routing or "uniform"),
            runs=run_names,
        )

    backends: tuple[Backend, ...] = ("torch", "fused") if backend == "both" else (backend,)
    planned = _planned_models(models, typed_models(models, ignore_key), backends, plan_of)
    request = ProfileRequest(
        models=planned,
        out=_out(out or own_folder(), len(planned)),
        device=device,
        dtype=dtype,
        weights_seed=WEIGHTS_SEED,
        resume=resume,
        timeout_s=parse_count(timeout, field="timeout", low=1, high=MAX_TIMEOUT_S),
        ends_s=_ends_s(minutes),
    )
    try:
        outcomes = run_profile(request, ProfileProgress())
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: what was measured is kept; go on with --resume\n")
        raise typer.Exit(INTERRUPTED) from None
    _report(outcomes, as_json=as_json)


def _planned_models(
    names_or_paths: Sequence[str],
    models: Sequence[ModelConfig],
    backends: Sequence[Backend],
    plan_of: Callable[[ModelConfig, Backend], tuple[PlannedCase, ...]],
) -> tuple[PlannedModel, ...]:
    """The models with their plans, each under a different name, once for each backend."""
    planned: list[PlannedModel] = []
    names: set[str] = set()
    for typed, model in zip(names_or_paths, models, strict=True):
        preset = typed.lower() if typed.lower() in model_names() else None
        name = slug(preset or model.name)
        if name in names:
            raise InputError(f"models={shown(typed)}: two models would be filed as {name}")
        names.add(name)
        for kernels in backends:
            plan = plan_of(model, kernels)
            planned.append(
                PlannedModel(name=name, preset=preset, model=model, backend=kernels, plan=plan)
            )
    return tuple(planned)


def _ends_s(minutes: str | None) -> float | None:
    """When workers are to be ended, by `time.monotonic`; a worker may take seconds to end."""
    if minutes is None:
        return None
    limit_s = 60 * parse_count(minutes, field="minutes", low=1, high=MAX_TIMEOUT_S // 60)
    return monotonic() + limit_s - ENDING_S


def _run_names(text: str) -> tuple[RunName, ...]:
    """The kinds of run in a comma-separated list, in the order in which they are measured."""
    items = text.split(",")
    if not set(items) <= set(RUNS) or len(set(items)) != len(items):
        raise InputError(f"runs={shown(text)}: is a list of {', '.join(RUNS)}, each once")
    return tuple(run for run in RUNS if run in items)


def _routings(text: str) -> tuple[str, ...]:
    """The routings in a comma-separated list, spelt alike: zipf:1 and zipf:1.00 become zipf:1.0."""
    routings = [item if item == "scores" else _spelt(item) for item in split_routings(text)]
    if len(set(routings)) != len(routings):
        raise InputError(f"routing={shown(text)}: a value is listed twice")
    return tuple(routings)


def _spelt(routing: str) -> str:
    """One routing as recordings spell it: both populations where they differ, experts first."""
    if "=" not in routing:
        return _spelt_law(routing)
    parse_routing(routing, files=False)  # refuses what is no list of populations
    laws: dict[str, str] = dict.fromkeys(POPULATIONS, "uniform")
    for item in routing.split(","):
        population, _, law = item.partition("=")
        laws[population] = _spelt_law(law)
    if len(set(laws.values())) == 1:
        return laws["experts"]
    return ",".join(f"{population}={law}" for population, law in laws.items())


def _spelt_law(law: str) -> str:
    zipf = ZIPF.fullmatch(law)
    if zipf is None and law != "uniform":
        raise InputError(f"routing={shown(law)}: {ROUTINGS}")
    decimals = (zipf[2] or "").rstrip("0") or "0" if zipf else ""
    return f"zipf:{int(zipf[1])}.{decimals}" if zipf else law


def _out(path: Path, recordings: int) -> Path:
    """The path of `--out`: a .json file of one model, or a folder, but no shipped recording.

    A folder that is to be made has a name without a suffix of letters, as a file has one.
    """
    refuse_shipped(path, field="out")
    named = shown(str(path))
    if path.suffix.lower() == ".json" and not path.is_dir():
        if recordings > 1:
            raise InputError(
                f"out={named}: is one file; a folder is expected for {recordings} recordings"
            )
    elif path.exists() != path.is_dir() or (not path.exists() and FILE_SUFFIX.search(path.name)):
        raise InputError(f"out={named}: is neither a folder nor a .json file")
    return path


def _report(outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    """Write the outcomes to stdout.

    Raises:
        WorkError: Nothing was measured, or a worker was lost and a run with it.
    """
    if not any(outcome.measured for outcome in outcomes):
        reasons = (outcome.reason for outcome in outcomes if outcome.reason)
        raise WorkError(f"nothing was measured: {next(reasons, 'nothing was asked for')}")
    if as_json:
        rows = [
            {"path": str(outcome.path), "measured": outcome.measured, "lacking": outcome.lacking}
            for outcome in outcomes
        ]
        sys.stdout.write(json.dumps({"recordings": rows}, indent=2) + "\n")
    else:
        for outcome in outcomes:
            line = f"{outcome.path}: {outcome.measured} measured, {outcome.lacking} lacking"
            sys.stdout.write(f"{printable(line)}\n")
    if lost := sum(outcome.lost for outcome in outcomes):
        runs = "1 run" if lost == 1 else f"{lost} runs"
        raise WorkError(f"{runs} ended with a worker that was lost; --resume tries again")
