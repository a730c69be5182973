"""The sidebar's values, checked: a model, a workload, a GPU and its calibration."""

from dataclasses import dataclass, field
from functools import lru_cache

from costmodel.costs.calibrations import calibrated
from costmodel.costs.gpu import Gpu
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction, predict
from costmodel.costs.totals import kv_bytes_per_token
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.hardware import Hardware, hardware_names, load_hardware
from costmodel.inputs.memory_limit import limited
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.parse import parse_choice, parse_routing, parse_workload
from costmodel.inputs.workload import (
    AttentionFlops,
    Backend,
    Logits,
    Mla,
    MlaCache,
    Phase,
    WindowCache,
    Workload,
)
from costmodel.layers.mesh import ONE_GPU
from costmodel.layers.placement import Place, Placement
from dashboard.app.mesh_controls import ChosenMesh
from dashboard.app.own_gpu import GPU_FILE, read_gpu
from dashboard.app.own_model import read_model

OWN = "your own"  # the entry of the lists of models and of GPUs for the user's own one
GIB = 2**30
KEPT = 64  # choices and models: about as many as users at once
OWN_FILE = "your-model.toml"  # its file in the command lines that are shown


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Selection:
    """What a prediction needs: model, workload, GPU, calibration.

    `selected` gives the same one again, so that what follows from it is kept by its identity.
    """

    model_name: str  # a preset, or `OWN`
    model: ModelConfig
    workload: Workload
    hardware_name: str  # a preset, or `OWN`
    hardware: Hardware
    calibration: Curves | Unknown
    memory_fraction: float = 1.0  # of the GPU's memory; `hardware` has what may be used
    memory_reserve_gib: float = 0.0

    def predict(self, model: ModelConfig | None = None) -> Prediction:
        """The prediction of the chosen model, or of another one under the same workload."""
        return predict(model or self.model, self.workload, self.hardware, self.calibration)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The sidebar's values as the user set them, before any check."""

    model: str
    own: str  # text of the user's own model, empty without one
    phase: Phase
    batch: int
    context: int
    new_tokens: int
    dtype: str | None  # None: as the user's own model states it, else bf16
    kv_dtype: str | None  # None: the usual one with weights of this format
    routing: str
    hardware: str
    backend: Backend = "torch"
    attention_flops: AttentionFlops = "causal"
    logits: Logits = "last"
    mla: Mla | None = None
    mla_cache: MlaCache = "latent"
    window_cache: WindowCache = "window"
    tables: Place = "hbm"  # where memory tables stand
    gpus: ChosenMesh = field(default_factory=ChosenMesh)
    memory_fraction: float = 1.0  # of each GPU's memory that may be used
    memory_reserve_gib: float = 0.0  # kept free beside it
    own_gpu: str = ""  # text of the user's own GPU, empty without one


def has_storage(model: str, own: str) -> bool:
    """Whether the chosen model states how its checkpoint is stored."""
    config = _model_or_none(model, own)
    return config is not None and config.storage is not None


def has_tables(model: str, own: str) -> bool:
    """Whether the chosen model has memory tables."""
    config = _model_or_none(model, own)
    return config is not None and bool(config.memory)


def _model_or_none(model: str, own: str) -> ModelConfig | None:
    """The chosen model; None where something is wrong with it, which `selected` tells."""
    if model not in {OWN, *model_names()}:
        return None
    try:
        return kept_model(model, own if model == OWN else "")
    except InputError:
        return None


@lru_cache(maxsize=KEPT)
def kept_model(model: str, own: str = "") -> ModelConfig:
    """The model of a preset's name, or that of the user's own text; the same one each time.

    Raises:
        InputError: The text is no valid model, or the name no preset.
    """
    return read_model(own) if model == OWN else load_model(model)


def gpu_of(name: str, own: str) -> Hardware:
    """The GPU of a preset's name, or that of the user's own text.

    Raises:
        InputError: The text is no valid GPU, or the name no preset.
    """
    return read_gpu(own) if name == OWN else load_hardware(name)


@lru_cache(maxsize=KEPT)
def selected(chosen: Chosen) -> Selection:
    """The sidebar's values as a model, a workload and a GPU; the same ones for the same values.

    Raises:
        InputError: A value breaks a rule; the message names it.
    """
    for name, value, known in (
        ("model", chosen.model, (OWN, *model_names())),
        ("gpu", chosen.hardware, (OWN, *hardware_names())),
    ):  # names only: what comes from outside must not become a path
        parse_choice(value, field=name, options=known)
    model = kept_model(chosen.model, chosen.own if chosen.model == OWN else "")
    workload = parse_workload(
        phase=chosen.phase,
        batch=chosen.batch,
        context=chosen.context,
        new_tokens=1 if chosen.phase == "decode" else chosen.new_tokens,
        dtype=chosen.dtype,
        kv_dtype=chosen.kv_dtype,
        routing=parse_routing(chosen.routing, files=False),  # from outside: no path
        attention_flops=chosen.attention_flops,
        logits=chosen.logits,
        mla=chosen.mla,
        mla_cache=chosen.mla_cache,
        window_cache=chosen.window_cache,
        backend=chosen.backend,
        placement=Placement(tables=chosen.tables),
        mesh=chosen.gpus.mesh(),
    )
    step = workload.of_model(model).step()
    kv_bytes_per_token(model, step)  # refuses a layout that the model's cache cannot have
    hardware = limited(
        gpu_of(chosen.hardware, chosen.own_gpu),
        fraction=chosen.memory_fraction,
        reserve_bytes=round(chosen.memory_reserve_gib * GIB),
    )
    Gpu(hardware=hardware).ceilings(workload)  # refuses tables behind a link that the GPU lacks
    if workload.mesh != ONE_GPU:
        predict(model, workload, hardware)  # refuses what does not divide, or fits no mesh
    return Selection(
        model_name=chosen.model,
        model=model,
        workload=workload,
        hardware_name=chosen.hardware,
        hardware=hardware,
        calibration=calibrated(GPU_FILE if chosen.hardware == OWN else chosen.hardware),
        memory_fraction=chosen.memory_fraction,
        memory_reserve_gib=chosen.memory_reserve_gib,
    )
