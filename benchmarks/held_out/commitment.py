"""The commitment: what is predicted of every held-out case, and by which files, before measuring.

It holds digests of the predictor's files, of the calibrations and of the shapes, and the
predictions themselves, so that the page tells of these whatever the predictor becomes afterwards.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass as checked

import costmodel
from benchmarks.held_out.shapes import BACKENDS, FOLDER, HeldOutModel, held_out_models, refusal
from costmodel.costs import energy_fit
from costmodel.costs.gpu import Gpu
from costmodel.costs.latency import Unknown
from costmodel.errors import InputError
from costmodel.inputs.files import read_json_object
from costmodel.inputs.workload import Backend
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.energy_loop import EnergyLoop
from costmodel.recordings.machine import Moment
from costmodel.recordings.quantities import RunName
from costmodel.strict import STRICT, validated
from costmodel.validation.case_prediction import CasePrediction
from costmodel.validation.counterparts import PREDICTED, step_counterpart
from costmodel.validation.machines import Gpus
from profiler.instruments.machine import now

FILE = FOLDER / "commitment.json"
GPU = "NVIDIA H200"
QUANTITIES: dict[str, RunName] = {  # what the page tells of, and the run that measures it
    "graph_s": "time",
    "kernel_s": "trace",
    "hbm_read_bytes": "counters",
    "energy_j": "energy",
}
ROOM = Path(costmodel.__file__).parent
PARTS: dict[str, tuple[tuple[Path, str], ...]] = {  # folders and patterns of each digest
    "predictor": ((ROOM, "**/*.py"), (ROOM / "presets" / "hardware", "*.toml")),
    "calibrations": ((ROOM / "presets" / "calibrations", "*.json"),),
    "shapes": ((FOLDER, "plan.json"), (FOLDER / "models", "*.toml")),
}


@checked(frozen=True, slots=True, kw_only=True, config=STRICT)
class Predicted:
    """One predicted number of one case.

    Attributes:
        basis: what it is: `predicted`, or a bound that stands in for a prediction.
        low: end of the 90 % interval; None where none is predicted.
        high: the other end.
    """

    model: str
    backend: Backend
    case: str  # the label of its workload
    quantity: str
    value: float
    basis: str = PREDICTED
    low: float | None = None
    high: float | None = None


@checked(frozen=True, slots=True, kw_only=True, config=STRICT)
class Commitment:
    """The file: when it was written, the digests, and every prediction."""

    committed: Moment
    sparsecost_version: str
    digests: dict[str, str]
    predictions: tuple[Predicted, ...]


def digests() -> dict[str, str]:
    """SHA-256 of each of `PARTS`: of its files' paths within their folders, and their contents."""
    of_parts = {}
    for name, patterns in PARTS.items():
        digest = hashlib.sha256()
        for folder, pattern in patterns:
            for path in sorted(folder.glob(pattern)):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
        of_parts[name] = digest.hexdigest()
    return of_parts


def predictions(models: Iterable[HeldOutModel] | None = None) -> tuple[Predicted, ...]:
    """What the predictor says now of every case by every backend that has kernels for it."""
    return _all_predictions(models, _gpu(), QUANTITIES)


def of_card(
    loops: Sequence[EnergyLoop], models: Iterable[HeldOutModel] | None = None
) -> tuple[Predicted, ...]:
    """The energies that the predictor gives with a card's own loops; none where these say nothing.

    Source: `energy_fit.of_card`.
    """
    gpu = _gpu()
    curves = gpu.calibration
    if isinstance(curves, Unknown) or curves.energy is None or not loops:
        return ()
    try:
        energy = energy_fit.of_card(curves.energy, loops)
    except InputError:
        return ()
    anchored = replace(gpu, calibration=replace(curves, energy=energy))
    return _all_predictions(models, anchored, ("energy_j",))


def _gpu() -> Gpu:
    gpu = Gpus().of(GPU)
    assert gpu is not None
    return gpu


def _all_predictions(
    models: Iterable[HeldOutModel] | None, gpu: Gpu, quantities: Iterable[str]
) -> tuple[Predicted, ...]:
    return tuple(
        predicted
        for model in (held_out_models() if models is None else models)
        for backend in BACKENDS
        for case in model.cases
        if refusal(model.model, case, backend) is None
        for predicted in _predictions(model, case, backend, gpu, quantities)
    )


def _predictions(
    model: HeldOutModel,
    case: CaseWorkload,
    backend: Backend,
    gpu: Gpu,
    quantities: Iterable[str],
) -> Iterable[Predicted]:
    prediction = CasePrediction(model.model, case.to_workload(backend=backend), gpu)
    for quantity in quantities:
        counterpart = step_counterpart(prediction, quantity)
        if counterpart.value is None:
            continue
        low, high = _interval(prediction, quantity)
        yield Predicted(
            model=model.name,
            backend=backend,
            case=case.label,
            quantity=quantity,
            value=float(counterpart.value),
            basis=counterpart.basis,
            low=low,
            high=high,
        )


def _interval(prediction: CasePrediction, quantity: str) -> tuple[float | None, float | None]:
    """The 90 % interval of a graph's time, its energy or the bytes read, where there is one."""
    times, found = prediction.times, prediction.prediction
    if found is None or isinstance(times, Unknown):
        return None, None
    traffic = found.traffic()
    ends = {
        "graph_s": times.graph_interval_s,
        "energy_j": prediction.graph_energy_interval_j,
        "hbm_read_bytes": None if isinstance(traffic, Unknown) else traffic.read_interval,
    }.get(quantity)
    return (None, None) if ends is None else (float(ends[0]), float(ends[1]))


def committed(path: Path = FILE) -> Commitment | None:
    """The committed file; None: there is none yet.

    Raises:
        InputError: It is not as `commit` writes it.
    """
    if not path.exists():
        return None
    return validated(Commitment, read_json_object(path), where=path.name)


def commit(path: Path = FILE) -> Commitment:
    """Write the commitment; it is to be committed to git before anything is measured."""
    commitment = Commitment(
        committed=now(),
        sparsecost_version=costmodel.__version__,
        digests=digests(),
        predictions=predictions(),
    )
    table: dict[str, Any] = asdict(commitment)
    rows = ",\n".join(json.dumps(row) for row in table.pop("predictions"))
    text = json.dumps(table, indent=1).removesuffix("\n}")
    path.write_text(f'{text},\n "predictions": [\n{rows}\n]\n}}\n', encoding="utf-8")
    return commitment


def check_commitment(path: Path = FILE) -> Commitment:
    """The commitment, if the files are still those that it is of.

    Raises:
        InputError: There is none, or files have changed since.
    """
    commitment = committed(path)
    if commitment is None:
        raise InputError(f"{path.name}: is not there; --commit writes it before measuring")
    current = digests()
    changed = [name for name, digest in current.items() if commitment.digests.get(name) != digest]
    if changed:
        raise InputError(
            f"{path.name}: is of other files of {', '.join(changed)}; --commit writes it anew,"
            " before anything is measured"
        )
    return commitment
