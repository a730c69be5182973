"""A step on a mesh of GPUs: what all of them do together, and what one of them has and does.

The sequences of a group go through its stages in microbatches: `pp` of them, so that every stage
has one to work on, or as many as there are sequences. In a step each sequence gets its new tokens
once, so that every GPU runs its layers once for each microbatch.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from costmodel.costs.footprint import Footprint, footprint
from costmodel.costs.mesh.kept import kept_division, kept_parameters
from costmodel.costs.mesh.sharding import gpu_operators, of_layers
from costmodel.costs.placement import far_tables
from costmodel.costs.step import Costs
from costmodel.costs.table_rows import row_totals
from costmodel.costs.totals import (
    KvCache,
    Totals,
    distinct,
    flops_by_kind,
    kept_bytes,
    kv_bytes_per_token,
    routing_totals,
    side_bytes_per_token,
    totals,
)
from costmodel.errors import InputError, shown
from costmodel.inputs.model import ModelConfig
from costmodel.layers.mesh import Mesh
from costmodel.layers.numbers import Count, Number, smaller
from costmodel.layers.operator import Operator, Step
from costmodel.layers.touched import TableRows

NOTHING = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The layers of one stage, and what each of its GPUs keeps."""

    layers: range
    memory: Footprint  # of one GPU, for all sequences of its group


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshStep:
    """A step on a mesh. Numbers, or arrays over a grid of steps."""

    mesh: Mesh
    microbatches: Count  # of a group
    gpu_step: Step  # a GPU's: one microbatch of its group
    gpu_operators: tuple[Operator, ...]  # of one GPU for one microbatch, the layers of all stages
    tables: tuple[Operator, ...]  # of memory layers, the same of a GPU that had whole tables
    sums: Totals  # of the GPU's operators
    stages: tuple[Stage, ...]

    @property
    def runs(self) -> Number:
        """How often an operator runs, on all GPUs of its stage and for all microbatches."""
        return self.microbatches * self.mesh.of_stage

    @property
    def memory(self) -> Footprint:
        """Of all GPUs together; it fits if every GPU's does."""
        each = [stage.memory for stage in self.stages]
        summed = {
            field.name: sum((getattr(one, field.name) for one in each), start=0)
            * self.mesh.of_stage
            for field in fields(Footprint)
            if field.name.endswith("_bytes")
        }
        fits = each[0].fits
        most = each[0].max_batch
        for one in each[1:]:
            fits = fits & one.fits
            most = smaller(most, one.max_batch)
        most = most if isinstance(most, np.ndarray) else int(most)
        return Footprint(**summed, fits=fits, max_batch=most * self.mesh.dp)

    @property
    def fullest(self) -> Footprint:
        """Of the GPU that needs the most; of a grid, of the first stage that does somewhere."""
        return max((stage.memory for stage in self.stages), key=lambda one: np.max(one.total_bytes))


def mesh_step(model: ModelConfig, step: Step, mesh: Mesh, capacity_bytes: Number) -> MeshStep:
    """A step of all sequences, divided over a mesh.

    Args:
        model: As it is, not divided.
        step: Of all sequences.
        mesh: Its sizes.
        capacity_bytes: Of one GPU.

    Raises:
        InputError: Something does not divide.
    """
    if step.placement.moves:
        raise InputError(
            f"placement={shown(step.placement.label)}: tables outside HBM are costed on one GPU"
            f" alone, and this is a mesh of {mesh.gpus}"
        )
    divided = kept_division(model, mesh)
    _check_stages(model, mesh)
    of_group = _of_sequences(step, _group_batch(step.batch, mesh))
    microbatches = _fewer(of_group.batch, mesh.pp)
    gpu_step = of_group
    if mesh.pp > 1:
        if np.any(of_group.batch % microbatches):
            raise InputError(
                f"pp={mesh.pp}: batch / dp = {shown(_one(of_group.batch))} sequences of a group are"
                f" no multiple of {mesh.pp}; they go through the stages in as many microbatches"
            )
        gpu_step = _of_sequences(step, of_group.batch // microbatches)
    own = gpu_operators(divided, gpu_step, mesh)
    resident = own if gpu_step is of_group else gpu_operators(divided, of_group, mesh)
    return MeshStep(
        mesh=mesh,
        microbatches=microbatches,
        gpu_step=gpu_step,
        gpu_operators=own.operators,
        tables=own.tables,
        sums=totals(own.operators),
        stages=tuple(_stages(divided, of_group, mesh, resident.operators, capacity_bytes)),
    )


def _group_batch(batch: Count, mesh: Mesh) -> Count:
    if np.any(batch % mesh.dp):
        raise InputError(
            f"dp={mesh.dp}: does not divide batch={shown(_one(batch))}; each group has as many"
            " sequences"
        )
    return batch // mesh.dp


def _fewer(batch: Count, stages: int) -> Count:
    """Microbatches of a group: one for each stage, or for each sequence."""
    return np.minimum(batch, stages) if isinstance(batch, np.ndarray) else min(batch, stages)


def _one(batch: Count) -> int:
    """A batch to name: of a grid, the first."""
    return int(np.ravel(batch)[0])


def _of_sequences(step: Step, batch: Count) -> Step:
    return replace(step, batch=batch, tokens=batch * step.new_tokens)


def _check_stages(model: ModelConfig, mesh: Mesh) -> None:
    """That layers divide into stages, and that none needs what stands in another.

    Raises:
        InputError: One does.
    """
    pp, num_layers = mesh.pp, model.num_hidden_layers
    if pp == 1:
        return
    if num_layers % pp:
        raise InputError(f"pp={pp}: does not divide num_hidden_layers={num_layers}")
    of_stage = num_layers // pp
    placements = [memory.placement(num_layers) for memory in model.memory]
    for layer, joins in (p for kind in (*placements, *model.shortcut_placements) for p in kind):
        if layer // of_stage != joins // of_stage:
            raise InputError(
                f"pp={pp}: what leaves layer {layer} joins behind layer {joins}, in another stage"
            )
    for layer, owner in model.cache_sources.items():
        if owner is not None and layer // of_stage != owner // of_stage:
            raise InputError(
                f"pp={pp}: layer {layer} reads the cache of layer {owner}, in another stage"
            )


def _stages(
    divided: ModelConfig,
    step: Step,
    mesh: Mesh,
    operators: Sequence[Operator],
    capacity_bytes: Number,
) -> Iterator[Stage]:
    """The stages of a group, each with the footprint of one of its GPUs."""
    of_stage = divided.num_hidden_layers // mesh.pp
    _check_tables(operators, mesh, of_stage)
    for index in range(mesh.pp):
        layers = range(index * of_stage, (index + 1) * of_stage)
        first, last = index == 0, index == mesh.pp - 1
        own = operators if mesh.pp == 1 else of_layers(operators, layers, first=first, last=last)
        stored, state = kept_bytes(divided, step, layers)
        kept = KvCache(
            bytes_per_token=kv_bytes_per_token(divided, step, layers),
            side_cache_bytes_per_token=side_bytes_per_token(divided, step, layers),
            stored_bytes=stored,
            read_bytes=0,  # what a footprint does not ask for
            written_bytes=0,
            state_bytes_per_sequence=state,
            state_bytes=step.batch * state,
        )
        memory = footprint(
            own,
            step,
            kept,
            divided.stream_width,
            capacity_bytes,
            towers_bytes=divided.towers_bytes if first else 0,
        )
        yield Stage(layers=layers, memory=memory)


def _check_tables(operators: Iterable[Operator], mesh: Mesh, of_stage: int) -> None:
    """That a shared memory table is read by the layers of one stage alone.

    Raises:
        InputError: One is not.
    """
    for operator in operators:
        stages = {layer // of_stage for layer in operator.layers}
        tables = [w for w in operator.weights if w.group == "memory_values" and w.shared]
        if tables and len(stages) > 1:
            raise InputError(
                f"pp={mesh.pp}: {operator.path} reads one table, and its layers stand in"
                f" {len(stages)} stages"
            )


def whole_costs(model: ModelConfig, step: Step, of: MeshStep) -> Costs:
    """What all GPUs do together; operators stay those of one GPU and microbatch.

    Parameters and bytes a token are those of the model, however many copies of it there are.
    """
    operators, memory = of.gpu_operators, of.memory
    sums = _times(of.sums, of.runs)
    rows, touched = row_totals(operators), distinct(operators)
    experts = None if touched.experts is None else touched.experts * of.mesh.ep
    return Costs(
        step=step,
        operators=operators,
        parameters=kept_parameters(model),
        totals=sums,
        rows=TableRows(
            read_bytes=rows.read_bytes * of.runs, sector_bytes=rows.sector_bytes * of.runs
        ),
        far=far_tables(operators, sums, step),
        flops_by_kind={kind: flops * of.runs for kind, flops in flops_by_kind(operators).items()},
        routing=_times(routing_totals(operators), of.runs),
        kv_cache=KvCache(
            bytes_per_token=kv_bytes_per_token(model, step),
            side_cache_bytes_per_token=side_bytes_per_token(model, step),
            stored_bytes=memory.kv_bytes,
            read_bytes=sums.kv_read_bytes,
            written_bytes=sums.kv_written_bytes,
            state_bytes_per_sequence=kept_bytes(model, step)[1],
            state_bytes=memory.state_bytes,
        ),
        distinct=replace(touched, experts=experts),
    )


def _times(sums: Totals, runs: Number) -> Totals:
    """The totals of so many GPUs and microbatches; nothing stays nothing."""
    return Totals(
        **{
            field.name: value if (value := getattr(sums, field.name)) is NOTHING else value * runs
            for field in fields(Totals)
        }
    )
