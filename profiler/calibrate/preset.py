"""The hardware preset of a calibration: named by the user, or found by the GPU's name."""

import re
from collections.abc import Sequence

from costmodel.errors import InputError, shown
from costmodel.inputs.hardware import hardware_names

HOW_TO_ADD = "add a GPU as one TOML file in costmodel/presets/hardware (see CONTRIBUTING.md)"
# Drivers leave these out ("NVIDIA H200", "NVIDIA GB200") or add a digit ("A100-SXM4-80GB").
UNWRITTEN = {"sxm", "nvl72"}
VARIANTS = {"pcie", "nvl", "mig", "laptop", "d"}  # each makes a different GPU of the same number


def known_preset(name: str) -> str:
    """The preset's name in lower case.

    Raises:
        InputError: There is no such preset.
    """
    if name.lower() not in hardware_names():
        raise InputError(
            f"hardware={shown(name)}: is not a preset; the presets are"
            f" {', '.join(hardware_names())}; {HOW_TO_ADD}"
        )
    return name.lower()


def preset_of(gpu_name: str) -> str:
    """The one preset that describes the GPU of this name.

    Raises:
        InputError: No preset describes it, or several do.
    """
    matches = matching_presets(gpu_name, hardware_names())
    if len(matches) != 1:
        raise InputError(
            f"hardware: {'several presets match' if matches else 'no preset matches'}"
            f" {shown(gpu_name)}; name one with --hardware ({', '.join(hardware_names())}), or"
            f" {HOW_TO_ADD}"
        )
    return matches[0]


def matching_presets(gpu_name: str, presets: Sequence[str]) -> list[str]:
    """Presets, such as `h100-pcie`, whose words all stand in the driver's name of the GPU.

    A word of `VARIANTS` in the driver's name must stand in the preset too.
    """
    words = set(re.findall(r"[a-z0-9]+", gpu_name.lower()))
    return [
        preset
        for preset in presets
        if set(preset.split("-")) - UNWRITTEN <= words
        and words & VARIANTS <= set(preset.split("-"))
    ]
