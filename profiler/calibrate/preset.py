"""The hardware preset that a calibration speaks for: as named, or found by the GPU's name."""

import re
from collections.abc import Sequence

from costmodel.errors import InputError, shown
from costmodel.inputs.hardware import hardware_names

HOW_TO_ADD = "add a GPU as one TOML file in costmodel/presets/hardware (see CONTRIBUTING.md)"
UNWRITTEN = {"sxm"}  # drivers leave it out ("NVIDIA H200") or add a digit ("A100-SXM4-80GB")
VARIANTS = {"pcie", "nvl", "mig", "laptop", "d"}  # another GPU than the one of the same number


def known_preset(name: str) -> str:
    """The preset of this name, in any case.

    Raises:
        InputError: There is none.
    """
    if name.lower() not in hardware_names():
        raise InputError(
            f"hardware={shown(name)}: is not a preset; the presets are"
            f" {', '.join(hardware_names())}; {HOW_TO_ADD}"
        )
    return name.lower()


def preset_of(gpu_name: str) -> str:
    """The one preset whose words all stand in the name that the driver gives the GPU.

    Raises:
        InputError: None does, or the GPU is a variant that no preset describes.
    """
    found = matching(gpu_name, hardware_names())
    if len(found) != 1:
        raise InputError(
            f"hardware: {'several presets match' if found else 'no preset matches'}"
            f" {shown(gpu_name)}; name one with --hardware ({', '.join(hardware_names())}), or"
            f" {HOW_TO_ADD}"
        )
    return found[0]


def matching(gpu_name: str, presets: Sequence[str]) -> list[str]:
    """Presets (`h100-pcie`) whose words are among the GPU's, its variant among them."""
    words = set(re.findall(r"[a-z0-9]+", gpu_name.lower()))
    return [
        preset
        for preset in presets
        if set(preset.split("-")) - UNWRITTEN <= words
        and words & VARIANTS <= set(preset.split("-"))
    ]
