"""The options of a workload, the same for every command that costs one.

A command decorated with `takes_workload` gets them all in place of its parameter `typed`.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Annotated, Any, TypeAlias

import typer

from costmodel.cli.options import (
    BackendOpt,
    DpOpt,
    DtypeOpt,
    EpOpt,
    GpusOpt,
    HostMemoryOpt,
    HotRowsOpt,
    KvDtypeOpt,
    MlaCacheOpt,
    PlacementOpt,
    PpOpt,
    RedundantExpertsOpt,
    RoutingOpt,
    SplitTablesOpt,
    TpOpt,
    WindowCacheOpt,
)
from costmodel.errors import InputError, shown
from costmodel.inputs.mesh import FEWEST, parse_mesh
from costmodel.inputs.parse import (
    MAX_LIST,
    parse_batches,
    parse_contexts,
    parse_count,
    parse_placed,
    parse_routing,
    parse_span,
    parse_workload,
)
from costmodel.inputs.workload import (
    DEFAULT_CONTEXT,
    DEFAULT_NEW_TOKENS,
    MAX_NEW_TOKENS,
    AttentionFlops,
    Fp32Math,
    Logits,
    Mla,
    Phase,
    Workload,
)
from costmodel.layers.mesh import MAX_GPUS, AskedMesh, Mesh
from costmodel.routing.popularity import Routing


def by_phase(defaults: Mapping[Phase, int]) -> str:
    """A default that depends on the phase, as help states it."""
    return f"(Default: {defaults['decode']} in decode, {defaults['prefill']} in prefill.)"


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedMesh:
    """A mesh of GPUs as typed."""

    gpus: GpusOpt = None
    tp: TpOpt = None
    ep: EpOpt = None
    pp: PpOpt = None
    dp: DpOpt = None
    split_tables: SplitTablesOpt = "width"
    redundant_experts: RedundantExpertsOpt = 0

    def mesh(self) -> Mesh | AskedMesh:
        """The mesh.

        Raises:
            InputError: An option breaks a rule.
        """
        return parse_mesh(
            self.gpus,
            tp=self.tp,
            ep=self.ep,
            pp=self.pp,
            dp=self.dp,
            tables=self.split_tables,
            redundant_experts=self.redundant_experts,
        )

    def meshes(self) -> tuple[Mesh | AskedMesh, ...]:
        """The meshes, of a command whose sizes may be lists: every combination.

        Raises:
            InputError: One of them breaks a rule, or stands twice.
        """
        found: dict[Mesh | AskedMesh, None] = {}
        lists = [_sizes(getattr(self, field), field) for field in ("gpus", "tp", "ep", "pp", "dp")]
        if (count := prod(map(len, lists))) > MAX_LIST:
            raise InputError(f"mesh: {count:,} meshes are listed; at most {MAX_LIST:,} are taken")
        for gpus, tp, ep, pp, dp in product(*lists):
            mesh = replace(self, gpus=gpus, tp=tp, ep=ep, pp=pp, dp=dp).mesh()
            if mesh in found:
                raise InputError(f"mesh={shown(mesh.label)}: is listed twice")
            found[mesh] = None
        return tuple(found)


def _sizes(text: str | None, field: str) -> Sequence[str | None]:
    """The sizes in a list of numbers, ranges and `auto`, each as a text; None alone: not given."""
    if text is None:
        return (None,)
    sizes: list[str] = []
    for item in text.split(","):
        fewest = item == FEWEST
        span = [item] if fewest else parse_span(item, field=field, low=1, high=MAX_GPUS)
        if len(sizes) + len(span) > MAX_LIST:
            raise InputError(f"{field}: holds over {MAX_LIST:,} values; at most so many are taken")
        sizes += map(str, span)
    return sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedWorkload(TypedMesh):
    """A workload as typed: each field is an option, and None one that was left out.

    Batch, context and routing are lists where the command takes lists.
    """

    phase: Annotated[
        Phase, typer.Option(help="decode: one new token a sequence; prefill: a whole prompt.")
    ] = "decode"
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Sequences; compare, sweep and report take a list: 1,16,64 or 1-64 or 64-256/64."
            " (Default: 1; compare: 1 to 4096.)",
        ),
    ] = None
    context: Annotated[
        str | None,
        typer.Option(
            metavar="N", help=f"Tokens already cached per sequence. {by_phase(DEFAULT_CONTEXT)}"
        ),
    ] = None
    new_tokens: Annotated[
        str | None,
        typer.Option(metavar="N", help=f"New tokens per sequence. {by_phase(DEFAULT_NEW_TOKENS)}"),
    ] = None
    dtype: DtypeOpt = None
    kv_dtype: KvDtypeOpt = None
    routing: RoutingOpt = "uniform"
    attention_flops: Annotated[
        AttentionFlops,
        typer.Option(
            help="causal counts the query-key pairs that exist, full the whole square of a prompt."
        ),
    ] = "causal"
    logits: Annotated[
        Logits,
        typer.Option(help="Computed of the last token of each sequence, or of all new tokens."),
    ] = "last"
    fp32_math: Annotated[
        Fp32Math,
        typer.Option(help="How fp32 weights are multiplied: in full, or rounded to TF32."),
    ] = "fp32"
    mla: Annotated[
        Mla | None,
        typer.Option(
            help="How latent attention (MLA) runs: in the latent space, or with keys and values"
            " rebuilt. (Default: absorbed in decode, else expanded.)"
        ),
    ] = None
    mla_cache: MlaCacheOpt = "latent"
    window_cache: WindowCacheOpt = "window"
    backend: BackendOpt = "torch"
    placement: PlacementOpt = None
    hot_rows: HotRowsOpt = None
    host_memory: HostMemoryOpt = None

    def batches(self, default: str = "1") -> tuple[int, ...]:
        """The batch sizes typed, or those of the command's default."""
        return parse_batches(default if self.batch is None else self.batch)

    @property
    def contexts(self) -> tuple[int, ...]:
        """The context lengths typed, or the phase's default, in cached tokens per sequence."""
        if self.context is None:
            return (DEFAULT_CONTEXT[self.phase],)
        return parse_contexts(self.context)

    def workload(
        self,
        *,
        batch: int,
        context: int,
        routing: Routing,
        mesh: Mesh | AskedMesh | None = None,
    ) -> Workload:
        """One workload of the lists; without a mesh of theirs, with the one that is typed.

        Raises:
            InputError: Another option breaks a rule.
        """
        new_tokens = None
        if self.new_tokens is not None:
            new_tokens = parse_count(
                self.new_tokens, field="new_tokens", low=1, high=MAX_NEW_TOKENS
            )
        return parse_workload(
            phase=self.phase,
            batch=batch,
            context=context,
            new_tokens=new_tokens,
            dtype=self.dtype,
            kv_dtype=self.kv_dtype,
            routing=routing,
            attention_flops=self.attention_flops,
            logits=self.logits,
            fp32_math=self.fp32_math,
            mla=self.mla,
            mla_cache=self.mla_cache,
            window_cache=self.window_cache,
            backend=self.backend,
            placement=parse_placed(
                self.placement, hot_rows=self.hot_rows, host_memory=self.host_memory
            ),
            mesh=mesh or self.mesh(),
        )

    def only_workload(self) -> Workload:
        """The workload, of a command that takes no lists.

        Raises:
            InputError: An option breaks a rule, or is a list.
        """
        return self.workload(
            batch=single(self.batches(), "batch"),
            context=single(self.contexts, "context"),
            routing=parse_routing(self.routing),
        )


def single(values: tuple[int, ...], field: str) -> int:
    """The one value of an option that could be a list.

    Raises:
        InputError: There are several.
    """
    if len(values) != 1:
        raise InputError(f"{field}={shown(','.join(map(str, values)))}: one value is expected here")
    return values[0]


Command: TypeAlias = Callable[..., None]


def takes_workload(command: Command) -> Command:
    """The command with all options of a workload in place of its parameter `typed`."""
    return _with_options(command, "typed", TypedWorkload)


def takes_mesh(command: Command) -> Command:
    """The command with all options of a mesh in place of its parameter `mesh`."""
    return _with_options(command, "mesh", TypedMesh)


def _with_options(
    command: Command, parameter: str, typed: type[TypedWorkload] | type[TypedMesh]
) -> Command:
    """The command with the fields of `typed` as options in place of one parameter.

    What `typed` inherits stands at the end.
    """
    fields = inspect.signature(typed).parameters
    options = {name: fields[name] for name in (*typed.__annotations__, *fields)}

    @functools.wraps(command)
    def run(**arguments: Any) -> None:  # noqa: ANN401 - what typer parsed
        given = typed(**{name: arguments.pop(name) for name in options})
        command(**{parameter: given}, **arguments)

    parameters: list[inspect.Parameter] = []
    for name, of_command in inspect.signature(command).parameters.items():
        parameters += options.values() if name == parameter else [of_command]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run
