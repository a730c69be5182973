"""The command `sparsecost generate`: run a model with random weights, on a CPU or a GPU.

PyTorch is imported only once the options are found valid, so that `--help` and messages about wrong
options work without it.
"""

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from costmodel import units
from costmodel.backends import kernels_of
from costmodel.cli.options import IgnoreKeyOpt, JsonOpt, ModelArg
from costmodel.cli.typed_models import typed_models
from costmodel.costs.operators import build_operators
from costmodel.errors import InputError, WorkError, install_command
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.parse import parse_count
from costmodel.inputs.workload import MAX_BATCH, MAX_NEW_TOKENS, Backend, Workload
from costmodel.layers.dtype import DTYPES
from costmodel.layers.formats import Formats
from costmodel.show.text import printable, show
from reference_model.generate_report import document, table

if TYPE_CHECKING:
    from reference_model.generate import Generated

NO_TORCH = f"generate needs torch; install it with: {install_command('gpu')}"
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory")  # torch's words, on a CPU

Device = Literal["cpu", "cuda"]


def generate(
    model: ModelArg,
    *,
    batch: Annotated[str, typer.Option(metavar="N", help="Sequences.")] = "1",
    context: Annotated[
        str, typer.Option(metavar="N", help="Random tokens to prefill, per sequence.")
    ] = "16",
    new_tokens: Annotated[
        str, typer.Option(metavar="N", help="Decode steps after that, greedy.")
    ] = "8",
    device: Annotated[Device, typer.Option(help="Where the model runs.")] = "cpu",
    dtype: Annotated[Literal["bf16", "fp32"], typer.Option(help="Weights and KV cache.")] = "bf16",
    graph: Annotated[
        bool | None,
        typer.Option(
            "--graph/--eager",
            help="Decode as a CUDA graph, or eagerly. (Default: a graph on cuda.)",
            show_default=False,
        ),
    ] = None,
    backend: Annotated[
        Backend,
        typer.Option(
            help="Whose kernels run: PyTorch's own, or this project's fused ones, on a GPU; prefill"
            " is PyTorch's where there are none for it."
        ),
    ] = "torch",
    ignore_key: IgnoreKeyOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Run a model with random weights in PyTorch: prefill, then decode steps.

    Example: sparsecost generate olmoe-227m-1.2b --batch 4 --context 128
    """
    (config,) = typed_models([model], ignore_key)
    prefill = Workload(
        phase="prefill",
        batch=parse_count(batch, field="batch", low=1, high=MAX_BATCH),
        context=0,
        new_tokens=parse_count(context, field="context", low=1, high=MAX_NEW_TOKENS),
        formats=Formats(default=DTYPES[dtype]),
        kv_dtype=DTYPES[dtype],
    )
    steps = parse_count(new_tokens, field="new_tokens", low=1, high=MAX_NEW_TOKENS)
    last = Workload(
        batch=prefill.batch,
        context=prefill.new_tokens + steps - 1,
        formats=prefill.formats,
        kv_dtype=prefill.kv_dtype,
        backend=backend,
    )
    _check_backend(config, last, device)
    if prefill.new_tokens > 1 and _refusal(config, replace(prefill, backend=backend)) is None:
        prefill = replace(prefill, backend=backend)
    if graph and device != "cuda":
        raise InputError(f"graph: a CUDA graph needs device=cuda, not device={device}")
    as_graph = device == "cuda" if graph is None else graph
    report = document(config, last, _run(config, prefill, last, device=device, graph=as_graph))
    if as_json:
        sys.stdout.write(json.dumps(report, indent=2, allow_nan=False) + "\n")
    else:
        show([table(report)])


def _check_backend(config: ModelConfig, last: Workload, device: Device) -> None:
    """Check that the backend has kernels for the decode steps.

    Raises:
        InputError: It has none for this model or format, or needs another device.
    """
    if last.backend == "fused" and device != "cuda":
        raise InputError(f"backend=fused: needs a GPU: device=cuda, not device={device}")
    refusal = _refusal(config, last)
    if refusal is not None:
        raise InputError(f"backend={last.backend}: {config.name}: {refusal}")


def _refusal(config: ModelConfig, workload: Workload) -> str | None:
    """Why the workload's backend has no kernels for its step; None: it has."""
    step = workload.step()
    return kernels_of(workload.backend, build_operators(config, step), step).refusal


def _run(
    config: ModelConfig, prefill: Workload, last: Workload, *, device: Device, graph: bool
) -> "Generated":
    """Run the steps, after checking that torch, the device and enough memory are there.

    Raises:
        WorkError: One of them is missing, or memory runs out in the run.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise WorkError(NO_TORCH) from None
    from reference_model.free_memory import free_bytes, needed_bytes
    from reference_model.generate import generate as run

    if device == "cuda" and not torch.cuda.is_available():
        raise WorkError(f"device=cuda: torch {torch.__version__} finds no GPU")
    needed, free = needed_bytes(config, prefill, last, device=device), free_bytes(device)
    memory = (
        f"{config.name} at batch {last.batch:,} and {last.context + 1:,} tokens needs"
        f" {units.capacity(needed)} by the prediction; {device} has {units.capacity(free)} free"
    )
    if free is not None and needed > free:
        raise WorkError(f"memory: {memory}")
    try:
        return run(config, prefill, last, device=device, graph=graph, say=_say)
    except NotImplementedError as error:
        raise WorkError(f"device={device}: {error}") from error
    except (MemoryError, RuntimeError) as error:
        names_memory = any(words in str(error) for words in OUT_OF_MEMORY)
        if names_memory or isinstance(error, MemoryError | torch.OutOfMemoryError):
            raise WorkError(f"out of memory: {memory}") from error
        raise


def _say(progress: str) -> None:
    sys.stderr.write(f"{printable(progress)}\n")
    sys.stderr.flush()
