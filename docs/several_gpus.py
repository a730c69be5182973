"""The tables and sentences of docs/several_gpus.md: what is divided, exchanged, and who is faster.

What a kind divides is its own docstring; all numbers are predictions. Nothing was measured on
several GPUs.
"""

import inspect
import re
from collections.abc import Callable, Sequence
from functools import cache

from costmodel import units
from costmodel.costs.calibrations import calibrated
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction, predict
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.parse import parse_workload
from costmodel.inputs.workload import Workload
from costmodel.layers.base import FfnKind, LayerKind, MemoryKind, MixerKind
from costmodel.layers.mesh import AskedMesh, Mesh
from costmodel.questions.compare_mesh import exchanges_s, mesh_sentences
from costmodel.routing.popularity import Uniform
from costmodel.show.parallel_json import exchanges_json
from costmodel.show.tables.columns import cell
from costmodel.show.told_times import DIGITS, MARK
from docs.markdown import markdown

GPU = "h200"
PAIR = ("moe-2.5b-120b", "ultramemv2-2.5b-120b")
LARGE = ("deepseek-v3", "llama-3.1-70b")
BATCHES = (1, 4, 16, 64, 256, 1024, 4096)
LARGE_BATCHES = (16, 64, 256, 1024)
EXCHANGING = (  # examples: model, mesh, sequences
    ("llama-3.1-70b", Mesh(tp=8), 64),
    ("deepseek-v3", Mesh(dp=64, ep=64), 8192),
    ("mixtral-8x22b", Mesh(tp=2, dp=4, ep=4), 64),
    ("ultramemv2-2.5b-120b", Mesh(tp=2, dp=4), 64),
    ("ultramemv2-2.5b-120b", Mesh(tp=2, dp=4, tables="rows"), 64),
)
EQUAL_BATCHES = (16, 64, 256, 1024)  # that 8 and 16 groups of sequences divide
SCALED = (("llama-3.1-70b", 1), ("moe-2.5b-120b", 64), ("ultramemv2-2.5b-120b", 64))
SCALED_GPUS = (2, 4, 8, 16)
DOES_NOT = "-"


@cache
def _step(model: str, mesh: Mesh | AskedMesh, batch: int, dtype: str = "bf16") -> Prediction:
    """A decode step on H200s at the usual context."""
    workload = parse_workload(
        phase="decode",
        batch=batch,
        context=Workload().context,
        dtype=dtype,
        kv_dtype=None,
        routing=Uniform(),
        mesh=mesh,
    )
    return predict(load_model(model), workload, load_hardware(GPU), calibrated(GPU))


FEWEST = AskedMesh(fewest=True)


def mesh_kinds() -> str:
    """What each layer kind divides over `tp`, from its docstring."""
    rows = [
        (f"`{kind.kind}`", _divided(kind))
        for base in (MixerKind, FfnKind, MemoryKind)
        for kind in sorted(base.__subclasses__(), key=lambda kind: kind.__name__)
        if kind.__module__.startswith("costmodel.layers")
    ]
    return markdown(("kind", "what one GPU of a group has"), rows, text=2)


def _divided(kind: type[LayerKind]) -> str:
    """The docstring of a kind's `split`; that of `LayerKind` refuses tp above 1."""
    if kind.split is LayerKind.split:
        return "all of it: tp above 1 is refused"
    text = (inspect.getdoc(kind.split) or "").split("Raises:")[0]
    words = " ".join(text.split())
    return re.sub("`costs/sharding`", "`costmodel/costs/mesh`", words)


def mesh_exchanges() -> str:
    """The exchanges of examples, in one layer and microbatch of a decode step."""
    rows = []
    for model, mesh, batch in EXCHANGING:
        of = _step(model, mesh, batch).parallel
        assert of is not None
        rows += [
            (
                f"{model}, {mesh.label}" + f", {mesh.tables}" * (mesh.tables != "width"),
                f"{batch:,}",
                f"`{exchange['path']}`",
                *(
                    cell(f"parallel.exchanges.{name}", exchange[name])
                    for name in ("count", "payload_bytes", "sent_bytes", "floor_s", "time_s")
                ),
            )
            for exchange in exchanges_json(of)
        ]
    names = ("payload_bytes", "sent_bytes", "floor_s", "time_s")
    labels = (STEP_QUANTITIES[f"parallel.exchanges.{name}"].label for name in names)
    head = ("model and mesh", "batch", "exchange", "layers", *labels)
    return markdown(head, rows, text=3)


def mesh_pair() -> str:
    """The 120B pair by batch, each on the fewest GPUs that fit."""
    return _beside(PAIR, BATCHES)


def mesh_large() -> str:
    """DeepSeek-V3 beside Llama-3.1-70B, each on the fewest GPUs that fit."""
    return _beside(LARGE, LARGE_BATCHES)


def mesh_checkpoint() -> str:
    """DeepSeek-V3 as it is shipped, in FP8, whose times are transferred from bf16."""
    return _beside(LARGE[:1], (1, *LARGE_BATCHES), dtype="checkpoint")


def _beside(models: Sequence[str], batches: Sequence[int], dtype: str = "bf16") -> str:
    rows = [
        (f"{batch:,}", model, *_cells(_step(model, FEWEST, batch, dtype)))
        for batch in batches
        for model in models
    ]
    head = ("batch", "model", "mesh", "memory on a GPU", "bound", "predicted", "exchanges", "share")
    return markdown(head, rows, text=3)


def _cells(step: Prediction) -> tuple[str, ...]:
    fullest = step.memory if step.parallel is None else step.parallel.step.fullest
    spent = exchanges_s(step)
    share = DOES_NOT
    if not isinstance(step.time, Unknown):
        share = units.formatted(spent / float(step.time.predicted_s), "share")
    return (
        step.workload.mesh.label,
        units.capacity(fullest.total_bytes),
        units.seconds(step.floor_s),
        _predicted(step),
        units.seconds(spent),
        share,
    )


def _predicted(step: Prediction) -> str:
    """The predicted time; in two digits and marked where it is transferred."""
    time = step.time
    if isinstance(time, Unknown):
        return DOES_NOT
    seconds = float(time.predicted_s)
    if time.transfer is None:
        return units.seconds(seconds)
    return f"{MARK}{units.seconds(units.rounded(seconds, DIGITS))}"


def mesh_scaling() -> str:
    """The fastest mesh of so many GPUs, by model: where more of them no longer pay."""
    rows = []
    for model, batch in SCALED:
        for gpus in SCALED_GPUS:
            try:
                step = _step(model, AskedMesh(gpus=gpus), batch)
            except InputError:  # nothing divides into so many
                continue
            if step.memory.fits:
                rows.append((model, f"{batch:,}", *_cells(step)))
    head = ("model", "batch", "mesh", "memory on a GPU", "bound", "predicted", "exchanges", "share")
    return markdown(head, rows, text=3)


def _sentence(models: Sequence[str], batches: Sequence[int], mesh: AskedMesh = FEWEST) -> str:
    """Who is faster at which batch, and what exchanges change."""
    rows = [[_step(model, mesh, batch) for model in models] for batch in batches]
    (sentence,) = mesh_sentences(rows)
    return sentence


def mesh_values() -> dict[str, str]:
    """Sentences of the page, by name."""
    return {
        "mesh_pair_sentence": _sentence(PAIR, BATCHES),
        **{
            f"mesh_pair_on_{gpus}": _sentence(PAIR, EQUAL_BATCHES, AskedMesh(gpus=gpus))
            for gpus in (8, 16)
        },
        "mesh_large_sentence": _sentence(LARGE, LARGE_BATCHES),
    }


TABLES: dict[str, Callable[[], str]] = {
    make.__name__: make
    for make in (
        *(mesh_kinds, mesh_exchanges, mesh_pair, mesh_large, mesh_checkpoint),
        mesh_scaling,
    )
}
