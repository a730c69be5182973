"""`sparsecost profile`: what is asked for, checked; then the profile, and what came of it.

Help and mistakes need no torch; only the workers import it.
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from costmodel.cli.options import JsonOpt, ModelArgs
from costmodel.errors import InputError, WorkError, shown
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.parse import parse_batches, parse_contexts, parse_count, parse_counts
from costmodel.inputs.workload import DEFAULT_CONTEXT, DEFAULT_NEW_TOKENS, MAX_NEW_TOKENS
from costmodel.recordings.quantities import RUNS, RunName
from costmodel.show.text import printable
from profiler.session.plan import Planned, from_lists, standard
from profiler.session.progress import Progress
from profiler.session.run import run_profile
from profiler.session.session import Outcome, Request, Target, slug

WEIGHTS_SEED = 0  # every recording's weights are drawn from it, so that any can be resumed
MAX_TIMEOUT_S = 86_400
INTERRUPTED = 130  # the exit code of a program that Ctrl-C ended
ZIPF = re.compile(r"zipf:(\d{1,2})(?:\.(\d{1,6}))?", re.ASCII)
ROUTINGS = "is a list of uniform, scores and zipf:EXPONENT"

Dtype = Literal["bf16", "fp32"]
Phase = Literal["decode", "prefill"]


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
            help="uniform, zipf:EXPONENT or scores, the model's own. (Default: uniform.)",
        ),
    ] = None,
    dtype: Annotated[Dtype, typer.Option(help="Weights and KV cache.")] = "bf16",
    runs: Annotated[
        str, typer.Option(metavar="LIST", help="Kinds of run, of which each is a process.")
    ] = ",".join(RUNS),
    out: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            help="A .json file for one model, or a folder: h200-olmoe-1b-7b.json and so on in it.",
        ),
    ] = Path("recordings"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Measure what the recording lacks, and keep the rest.")
    ] = False,
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(help="Where the model runs; auto: on a GPU if there is one."),
    ] = "auto",
    timeout: Annotated[
        str, typer.Option(metavar="S", help="Seconds without a sign of life that end a worker.")
    ] = "600",
    as_json: JsonOpt = False,
) -> None:
    """Run models in PyTorch and record what they cost, operator by operator.

    Example: sparsecost profile olmoe-1b-7b --batch 1,16,64 --context 512,2048
    """
    kinds = _runs(runs)
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

    def planned(model: ModelConfig) -> tuple[Planned, ...]:
        if plan is not None:
            return standard(model, dtype=dtype, runs=kinds)
        in_phase = phase or "decode"
        new = parse_counts(
            new_tokens or str(DEFAULT_NEW_TOKENS[in_phase]),
            field="new_tokens",
            low=1,
            high=MAX_NEW_TOKENS,
        )
        return from_lists(
            model,
            phase=in_phase,
            batches=parse_batches(batch or "1"),
            contexts=parse_contexts(context or str(DEFAULT_CONTEXT[in_phase])),
            new_tokens=new,
            dtype=dtype,
            routings=_routings(routing or "uniform"),
            runs=kinds,
        )

    request = Request(
        targets=_targets(models, planned),
        out=_out(out, len(models)),
        device=device,
        dtype=dtype,
        weights_seed=WEIGHTS_SEED,
        resume=resume,
        timeout_s=parse_count(timeout, field="timeout", low=1, high=MAX_TIMEOUT_S),
    )
    try:
        outcomes = run_profile(request, Progress())
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: what was measured is kept; go on with --resume\n")
        raise typer.Exit(INTERRUPTED) from None
    _tell(outcomes, as_json=as_json)


def _targets(
    models: Sequence[str], planned: Callable[[ModelConfig], tuple[Planned, ...]]
) -> tuple[Target, ...]:
    """The models with their plans, each under a name of its own."""
    found: dict[str, Target] = {}
    for typed in models:
        model = load_model(typed)
        preset = typed.lower() if typed.lower() in model_names() else None
        name = slug(preset or model.name)
        if name in found:
            raise InputError(f"models={shown(typed)}: two models would be filed as {name}")
        found[name] = Target(name=name, preset=preset, model=model, plan=planned(model))
    return tuple(found.values())


def _runs(text: str) -> tuple[RunName, ...]:
    """Kinds of run, in their own order."""
    items = text.split(",")
    if not set(items) <= set(RUNS) or len(set(items)) != len(items):
        raise InputError(f"runs={shown(text)}: is a list of {', '.join(RUNS)}, each once")
    return tuple(run for run in RUNS if run in items)


def _routings(text: str) -> tuple[str, ...]:
    """Routings in one spelling each: zipf:1 and zipf:1.00 are zipf:1.0."""
    found = []
    for item in text.split(","):
        zipf = ZIPF.fullmatch(item)
        if zipf is None and item not in ("uniform", "scores"):
            raise InputError(f"routing={shown(item)}: {ROUTINGS}")
        decimals = (zipf[2] or "").rstrip("0") or "0" if zipf else ""
        found.append(f"zipf:{int(zipf[1])}.{decimals}" if zipf else item)
    if len(set(found)) != len(found):
        raise InputError(f"routing={shown(text)}: a value is listed twice")
    return tuple(found)


def _out(path: Path, models: int) -> Path:
    """A file for one model, else a folder."""
    named = shown(str(path))
    if path.suffix == ".json" and models > 1:
        raise InputError(f"out={named}: is one file; a folder is expected for {models} models")
    if path.suffix != ".json" and path.exists() and not path.is_dir():
        raise InputError(f"out={named}: is neither a folder nor a .json file")
    return path


def _tell(outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    """What came of it, on stdout; that nothing did is a failure."""
    if not any(outcome.measured for outcome in outcomes):
        reason = next((each.reason for each in outcomes if each.reason), "nothing was asked for")
        raise WorkError(f"nothing was measured: {reason}")
    if as_json:
        found = [
            {"path": str(each.path), "measured": each.measured, "lacking": each.lacking}
            for each in outcomes
        ]
        sys.stdout.write(json.dumps({"recordings": found}, indent=2) + "\n")
        return
    for each in outcomes:
        line = f"{each.path}: {each.measured} measured, {each.lacking} lacking"
        sys.stdout.write(f"{printable(line)}\n")
