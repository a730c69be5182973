"""Find the calibration for a GPU: a shipped one, one of the user's own, another GPU's, or none.

Shipped calibrations stand in `costmodel/presets/calibrations`, each under the name of its GPU's
preset; `<name>.leaves` is that calibration with times fitted on measured leaves, and comes first. A
process reads each of them once. A GPU without a calibration gets that of another GPU, marked as
such (`Curves.foreign`): its times are transferred (`transfer.py`).
"""

import os
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from costmodel.backends import BACKENDS
from costmodel.costs.kernel_times import LEAVES, Curves
from costmodel.costs.latency import Unknown
from costmodel.costs.leaf_times import LeafTimes
from costmodel.costs.own_calibrations import OWN_PREFIX, own_calibrations, own_folder
from costmodel.costs.residuals import Nodes
from costmodel.errors import InputError, shown
from costmodel.inputs.hardware import hardware_name

FOLDER = Path(__file__).parent.parent / "presets" / "calibrations"
NONE = "none"  # asks for roofline bounds only
SOURCE = f"h200{LEAVES}"  # from whose leaves the times of other GPUs are transferred


def calibration_names() -> tuple[str, ...]:
    """The names of the shipped calibrations, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def offered_names() -> tuple[str, ...]:
    """The names of the shipped calibrations, then of the user's own, each with its prefix."""
    return *calibration_names(), *own_calibrations()


def shipped_leaves() -> Curves | None:
    """The shipped calibration whose leaves are transferred; None: it is not there."""
    return _shipped(FOLDER / f"{SOURCE}.json") if SOURCE in calibration_names() else None


def calibrated(
    hardware: str, asked: str | None = None, *, transfer: bool = True
) -> Curves | Unknown:
    """The kernel times measured on a GPU, else on another one, or why there are none.

    Args:
        hardware: The GPU as the user typed it: a preset's name, or the path of a TOML file, which
            counts as the preset of the same name.
        asked: The name of a shipped calibration or of one's own (`own/NAME`), the path of a JSON
            file, `none`, or None for that of the GPU: the shipped one, else one's own.
        transfer: Whether that of another GPU serves where the GPU has none.

    Raises:
        InputError: The calibration does not exist, is not valid, or was measured on another GPU.
    """
    gpu = hardware_name(Path(hardware).name.lower().removesuffix(".toml"))
    if asked == NONE:
        return Unknown(
            reason="no calibration is applied (--calibration none); times are roofline bounds"
        )
    if asked is None:
        own = f"{OWN_PREFIX}{gpu}"
        candidates = (f"{gpu}{LEAVES}", gpu, f"{own}{LEAVES}", own)
        asked = next((name for name in candidates if name in offered_names()), None)
        if asked is None:
            other = shipped_leaves() if transfer else None
            return _foreign(other) if other else _missing(gpu)
    curves = _load(asked)
    measured = curves.calibration.hardware
    if measured.lower() != gpu:
        raise InputError(
            f"calibration={shown(asked)}: was measured on hardware={shown(measured)};"
            f" it says nothing of {shown(gpu)}"
        )
    return curves


def _missing(gpu: str) -> Unknown:
    return Unknown(reason=f"no calibration for GPU {shown(gpu)}; `sparsecost calibrate` makes one")


def _load(asked: str) -> Curves:
    own = own_calibrations().get(asked.lower())
    if own is not None:
        return _own(own, own.stat().st_mtime_ns)
    if asked.lower().startswith(OWN_PREFIX) and not asked.lower().endswith(".json"):
        raise InputError(
            f"calibration={shown(asked)}: is none of your own in {shown(str(own_folder()))}"
        )
    names = calibration_names()
    if asked.lower() in names:  # a name is only looked up, never joined to the folder
        return _shipped(FOLDER / f"{names[names.index(asked.lower())]}.json")
    is_path = asked.lower().endswith(".json") or any(
        separator in asked for separator in (os.sep, os.altsep) if separator
    )
    if not is_path:
        known = f"those shipped ({', '.join(names)})" if names else "those shipped (none yet)"
        known += "".join(f", {name}" for name in own_calibrations())
        raise InputError(
            f"calibration={shown(asked)}: is neither one of {known}, nor none,"
            " nor the path of a .json file"
        )
    return _read(Path(asked))


def _read(path: Path) -> Curves:
    from costmodel.recordings.calibration import load_calibration_file

    return Curves.of(load_calibration_file(path))


@cache
def _foreign(curves: Curves) -> Curves:
    return replace(curves, foreign=True)


@lru_cache(maxsize=16)
def _own(path: Path, _changed_ns: int) -> Curves:
    """A file of the user's own; leaf times go with the calibration beside them."""
    if path.stem.lower().endswith(LEAVES):
        kernels = path.with_name(f"{path.stem[: -len(LEAVES)]}{path.suffix}")
        return _with_leaves(_read(kernels), path)
    return _read(path)


@cache
def _shipped(path: Path) -> Curves:
    if path.stem.endswith(LEAVES):
        kernels = path.with_name(f"{path.stem.removesuffix(LEAVES)}{path.suffix}")
        return _with_leaves(_shipped(kernels), path)
    return _read(path)


def _with_leaves(kernels: Curves, path: Path) -> Curves:
    """These curves with the fitted leaf times of each backend, and energy by their loops."""
    from costmodel.costs.energy_fit import fitted as fitted_energy
    from costmodel.recordings.leaf_fit import load_leaf_fit

    fit = load_leaf_fit(path)
    leaves: dict[str, LeafTimes] = {
        name: LeafTimes(
            parameters=fitted.parameters,
            keeps=BACKENDS[name].saves_intermediates,
            nodes={
                leaf: Nodes(
                    features=np.array([node.at for node in nodes]),
                    errors=np.array([node.error for node in nodes]),
                )
                for leaf, nodes in fitted.nodes.items()
            },
            spreads=fitted.spreads,
            step_share=fitted.step_share,
        )
        for name, fitted in fit.backends.items()
    }
    energy = fitted_energy(fit.loops) if fit.loops else kernels.energy
    measured = max(fitted.measured for fitted in fit.backends.values())
    return replace(kernels, leaves=leaves, leaves_measured=measured, energy=energy)
