"""The options that commands share, each written once; `takes_workload` adds those of a workload."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from costmodel.costs.calibrations import NONE, calibration_names
from costmodel.errors import InputError, shown
from costmodel.inputs.catalog import model_names
from costmodel.inputs.hardware import hardware_names
from costmodel.inputs.workload import (
    MAX_NEW_TOKENS,
    AttentionFlops,
    Backend,
    Logits,
    Mla,
    Phase,
    Workload,
)
from costmodel.inputs.workload_spec import parse_batches, parse_contexts, parse_count
from costmodel.layers.dtype import parse_dtype, usual_cache
from costmodel.routing.popularity import Routing


def complete_model(incomplete: str) -> list[str]:
    """Presets that begin with what was typed."""
    return [name for name in model_names() if name.startswith(incomplete.lower())]


def complete_hardware(incomplete: str) -> list[str]:
    """GPUs that begin with what was typed."""
    return [name for name in hardware_names() if name.startswith(incomplete.lower())]


def complete_calibration(incomplete: str) -> list[str]:
    """Shipped calibrations that begin with what was typed, and none."""
    names = (*calibration_names(), NONE)
    return [name for name in names if name.startswith(incomplete.lower())]


ModelArg = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A preset (see: sparsecost models), a TOML file or a Hugging Face config.json.",
        autocompletion=complete_model,
    ),
]
ModelArgs = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL",
        help="Presets, TOML files or Hugging Face config.json files.",
        autocompletion=complete_model,
    ),
]
OptionalModelArg = Annotated[
    str | None,
    typer.Argument(metavar="[MODEL]", help="Show this one.", autocompletion=complete_model),
]
OptionalHardwareArg = Annotated[
    str | None,
    typer.Argument(metavar="[GPU]", help="Show this one.", autocompletion=complete_hardware),
]
HardwareOpt = Annotated[
    str,
    typer.Option(
        metavar="GPU",
        help="A preset (see: sparsecost hardware) or a TOML file.",
        autocompletion=complete_hardware,
    ),
]
CalibrationOpt = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What predicts times: a shipped calibration, a JSON file, or none for floors only."
        " (Default: the GPU's own, where one is shipped.)",
        autocompletion=complete_calibration,
    ),
]
DtypeOpt = Annotated[
    str,
    typer.Option(
        metavar="DTYPE",
        help="Weights: fp32, bf16, fp16, fp8, int8 or int4; int4:128 has a scale for each 128.",
    ),
]
KvDtypeOpt = Annotated[
    str | None,
    typer.Option(
        metavar="DTYPE",
        help="KV cache, in the same formats. (Default: as the weights; bf16 if quantised.)",
    ),
]
RoutingOpt = Annotated[
    str,
    typer.Option(
        metavar="ROUTING",
        help="How evenly experts and memory rows are chosen: uniform, zipf:EXPONENT or a histogram"
        " file.",
    ),
]
BackendOpt = Annotated[
    Backend,
    typer.Option(
        help="Whose kernel launches are counted: plain PyTorch, or one kernel an operator."
    ),
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CsvOpt = Annotated[Path | None, typer.Option("--csv", metavar="PATH", help="Write a CSV file.")]
MarkdownOpt = Annotated[bool, typer.Option("--markdown", help="Print Markdown.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedWorkload:
    """A workload as typed; batch, context and routing may be lists where a command takes them."""

    phase: Phase
    batch: str | None
    context: str | None
    new_tokens: str | None
    dtype: str
    kv_dtype: str | None
    routing: str
    attention_flops: AttentionFlops
    logits: Logits
    mla: Mla | None
    backend: Backend

    def batches(self, usual: str = "1") -> tuple[int, ...]:
        """The batch sizes, or the command's usual ones."""
        return parse_batches(usual if self.batch is None else self.batch)

    @property
    def contexts(self) -> tuple[int, ...]:
        """The context lengths: 2048 cached tokens in decode and none in prefill unless given."""
        if self.context is None:
            return (2048 if self.phase == "decode" else 0,)
        return parse_contexts(self.context)

    def workload(self, *, batch: int, context: int, routing: Routing) -> Workload:
        """One workload of the lists."""
        weights = parse_dtype(self.dtype, field="dtype")
        cache, new = self.kv_dtype, self.new_tokens  # "" is given, and wrong
        if new is None:
            new = "1" if self.phase == "decode" else "2048"
        new_tokens = parse_count(new, field="new_tokens", low=1, high=MAX_NEW_TOKENS)
        if self.phase == "decode" and new_tokens != 1:
            raise InputError(f"new_tokens={new_tokens}: is 1 in a decode step")
        return Workload(
            phase=self.phase,
            batch=batch,
            context=context,
            new_tokens=new_tokens,
            dtype=weights,
            kv_dtype=usual_cache(weights)
            if cache is None
            else parse_dtype(cache, field="kv_dtype"),
            routing=routing,
            attention_flops=self.attention_flops,
            logits=self.logits,
            mla=self.mla,
            backend=self.backend,
        )


def single(values: tuple[int, ...], field: str) -> int:
    """The one value of a list that a command takes as one."""
    if len(values) != 1:
        raise InputError(f"{field}={shown(','.join(map(str, values)))}: one value is expected here")
    return values[0]


def _workload(
    *,
    phase: Annotated[
        Phase, typer.Option(help="decode: one new token a sequence; prefill: a whole prompt.")
    ] = "decode",
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Sequences; compare, sweep and report take a list."
            " (Default: 1; compare: 1 to 4096.)",
        ),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Tokens already cached per sequence. (Default: 2048 in decode, 0 in prefill.)",
        ),
    ] = None,
    new_tokens: Annotated[
        str | None,
        typer.Option(
            metavar="N", help="New tokens per sequence. (Default: 1 in decode, 2048 in prefill.)"
        ),
    ] = None,
    dtype: DtypeOpt = "bf16",
    kv_dtype: KvDtypeOpt = None,
    routing: RoutingOpt = "uniform",
    attention_flops: Annotated[
        AttentionFlops,
        typer.Option(
            help="causal counts the query-key pairs that exist, full the whole square of a prompt."
        ),
    ] = "causal",
    logits: Annotated[
        Logits,
        typer.Option(help="Computed of the last token of each sequence, or of all new tokens."),
    ] = "last",
    mla: Annotated[
        Mla | None,
        typer.Option(
            help="How latent attention (MLA) runs: in the latent space, or with keys and values"
            " rebuilt. (Default: absorbed in decode, else expanded.)"
        ),
    ] = None,
    backend: BackendOpt = "torch",
) -> TypedWorkload:
    return TypedWorkload(
        phase=phase,
        batch=batch,
        context=context,
        new_tokens=new_tokens,
        dtype=dtype,
        kv_dtype=kv_dtype,
        routing=routing,
        attention_flops=attention_flops,
        logits=logits,
        mla=mla,
        backend=backend,
    )


def takes_workload(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all options of a workload in place of its parameter `typed`."""
    options = inspect.signature(_workload).parameters

    @functools.wraps(command)
    def run(**given: Any) -> None:  # noqa: ANN401 - what typer parsed
        chosen = {name: given.pop(name) for name in options}
        command(typed=_workload(**chosen), **given)

    own = inspect.signature(command).parameters
    merged: list[inspect.Parameter] = []
    for name, parameter in own.items():
        merged += options.values() if name == "typed" else [parameter]
    run.__signature__ = inspect.Signature(merged)  # type: ignore[attr-defined]  # typer reads it
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in merged}
    return run
