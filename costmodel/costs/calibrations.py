"""Find the calibration for a GPU: the shipped one, one that the user names, or none.

Shipped calibrations stand in `costmodel/presets/calibrations`, each under the name of its GPU's
preset; `<name>.leaves` is that calibration with times fitted on measured leaves, and comes first. A
process reads each of them once.
"""

import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from costmodel.backends import BACKENDS
from costmodel.costs.kernel_times import LEAVES, Curves
from costmodel.costs.latency import Unknown
from costmodel.costs.leaf_times import LeafTimes
from costmodel.costs.residuals import Nodes
from costmodel.errors import InputError, shown
from costmodel.inputs.hardware import hardware_name

FOLDER = Path(__file__).parent.parent / "presets" / "calibrations"
NONE = "none"  # asks for roofline bounds only


def calibration_names() -> tuple[str, ...]:
    """The names of the shipped calibrations, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def calibrated(hardware: str, asked: str | None = None) -> Curves | Unknown:
    """The kernel times measured on a GPU, or why there are none.

    Args:
        hardware: The GPU as the user typed it: a preset's name, or the path of a TOML file, which
            counts as the preset of the same name.
        asked: The name of a shipped calibration, the path of a JSON file, `none`, or None for the
            one shipped for the GPU.

    Raises:
        InputError: The calibration does not exist, is not valid, or was measured on another GPU.
    """
    gpu = hardware_name(Path(hardware).name.lower().removesuffix(".toml"))
    if asked == NONE:
        return Unknown(
            reason="no calibration is applied (--calibration none); times are roofline bounds"
        )
    if asked is None:
        offered = [name for name in (gpu + LEAVES, gpu) if name in calibration_names()]
        if not offered:
            return Unknown(
                reason=f"no calibration for GPU {shown(gpu)}; `sparsecost calibrate` makes one"
            )
        asked = offered[0]
    curves = _load(asked)
    measured = curves.calibration.hardware
    if measured.lower() != gpu:
        raise InputError(
            f"calibration={shown(asked)}: was measured on hardware={shown(measured)};"
            f" it says nothing of {shown(gpu)}"
        )
    return curves


def _load(asked: str) -> Curves:
    names = calibration_names()
    if asked.lower() in names:  # a name is only looked up, never joined to the folder
        return _shipped(FOLDER / f"{names[names.index(asked.lower())]}.json")
    is_path = asked.lower().endswith(".json") or any(
        separator in asked for separator in (os.sep, os.altsep) if separator
    )
    if not is_path:
        known = f"those shipped ({', '.join(names)})" if names else "those shipped (none yet)"
        raise InputError(
            f"calibration={shown(asked)}: is neither one of {known}, nor none,"
            " nor the path of a .json file"
        )
    return _read(Path(asked))


def _read(path: Path) -> Curves:
    from costmodel.recordings.calibration import load_calibration_file

    return Curves.of(load_calibration_file(path))


@cache
def _shipped(path: Path) -> Curves:
    if path.stem.endswith(LEAVES):
        kernels = path.with_name(f"{path.stem.removesuffix(LEAVES)}{path.suffix}")
        return replace(_shipped(kernels), leaves=_leaves(path))
    return _read(path)


def _leaves(path: Path) -> dict[str, LeafTimes]:
    """The fitted leaf times of each backend."""
    from costmodel.recordings.leaf_fit import load_leaf_fit

    return {
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
        )
        for name, fitted in load_leaf_fit(path).backends.items()
    }
