"""A GPU as its datasheet and driver describe it: bandwidth, capacity, cache and dense peaks.

Each number carries its source. What was measured on a GPU is a calibration, and stands elsewhere.
"""

import os
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError, shown
from costmodel.inputs.files import read_toml
from costmodel.inputs.links import Disk, Link, Network, Node, Rate, Text
from costmodel.inputs.typed_names import did_you_mean
from costmodel.strict import STRICT, validated

PeakName: TypeAlias = Literal["bf16", "fp16", "fp8", "fp4", "int8", "fp32", "tf32"]

MULTIPLIED_AS: Mapping[str, tuple[PeakName, ...]] = {
    **{name: (name,) for name in get_args(PeakName) if name != "fp4"},
    **{f"int{bits}": ("bf16", "int8", "fp8") for bits in (2, 3, 4, 5, 6)},
    "mxfp8": ("fp8",),
    "mxfp4": ("fp4",),
    "nvfp4": ("fp4",),
    "fp8_ds_mla": ("fp8",),  # its rotary keys in bf16 are no faster
    "nf4": ("bf16",),
    "fp4": ("bf16",),  # bitsandbytes': without scales that a matrix unit knows
}
"""The formats in which the matrix units can multiply a storage format; the fastest bounds it."""

ALIASES: Mapping[str, str] = {  # other names of presets, as `_plain` writes them
    "4090": "rtx-4090",
    "a100": "a100-80gb",
    "a100-sxm": "a100-80gb",
    "a100-sxm4-80gb": "a100-80gb",
    "gb200": "gb200-nvl72",
    "dgx-spark": "gb10",
    "gh200": "gh200-96gb",
    "h100": "h100-sxm",
    "h100-80gb": "h100-sxm",
    "h100-80gb-hbm3": "h100-sxm",
    "h100-sxm5": "h100-sxm",
    "h200-sxm": "h200",
    "rtx4090": "rtx-4090",
}

# As the bounds of `Rate`: 50 for 50 MiB is a wrong unit.
Capacity: TypeAlias = Annotated[int, Field(ge=2**20, le=2**50)]
Watts: TypeAlias = Annotated[float, Field(ge=1, le=1e5)]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class DensePeaks:
    """Dense peaks by dtype, in FLOP/s (int8: operations/s); None: no hardware path for it.

    Peaks of the matrix units (tensor cores) with the accumulator that `sources` names; that of fp32
    is of the vector units, that of tf32 of fp32 operands rounded to 19 bits. fp4 is that of formats
    with scales of small blocks (MXFP4, NVFP4). Peaks with structured sparsity are left out.
    """

    bf16: Rate
    fp16: Rate | None = None
    fp8: Rate | None = None
    fp4: Rate | None = None
    int8: Rate | None = None
    fp32: Rate | None = None
    tf32: Rate | None = None


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Hardware:
    """One GPU.

    Attributes:
        name: The name in outputs.
        hbm_bytes_per_s: Peak bandwidth of the GPU's memory (HBM or GDDR), in bytes/s.
        capacity_bytes: Memory that programs can allocate, their contexts included, in bytes: what
            the driver reports (cudaDeviceProp.totalGlobalMem), which varies a little by driver.
            Where no report is known: the datasheet's GB, taken as 1e9 bytes.
        l2_bytes: The last-level cache in front of the memory, in bytes.
        dense_peak_flops_per_s: Dense peaks by dtype, in FLOP/s.
        tdp_w: Power limit in watts; None: not known.
        host_memory_bytes: Memory of the host that tables may stand in; None: no limit is stated.
        link: Between GPU and host; None: not known, and no table can stand outside HBM.
        disk: None: not known, and no table can stand on it.
        node: The GPUs beside this one; None: not known, and no mesh of GPUs can be costed.
        network: Between nodes; None: not known, and a mesh must fit one node.
        sources: Document and place of each number, by its path (`dense_peak_flops_per_s.bf16`).
    """

    name: Text
    hbm_bytes_per_s: Rate
    capacity_bytes: Capacity
    l2_bytes: Capacity
    dense_peak_flops_per_s: DensePeaks
    tdp_w: Watts | None = None
    host_memory_bytes: Capacity | None = None
    link: Link | None = None
    disk: Disk | None = None
    node: Node | None = None
    network: Network | None = None
    # Out of the hash, so that a Hardware can key a cache; a dict has none.
    sources: dict[str, Text] = field(hash=False)

    def __post_init__(self) -> None:
        if not self.name.isprintable():
            raise ValueError(f"name={shown(self.name)}: holds a character that cannot be printed")
        numbers = self.numbers()
        lacking = [
            f"{path}={shown(number)}"
            for path, number in numbers.items()
            if path not in self.sources
        ]
        if lacking:
            raise ValueError(
                f"sources: has no entry for {', '.join(lacking)}; each number needs one"
            )
        idle = [shown(path) for path in self.sources if path not in numbers]
        if idle:
            raise ValueError(
                f"sources: has an entry for {', '.join(idle)}, which is no number given"
            )

    def numbers(self) -> dict[str, float]:
        """The numbers that are known, by path (`l2_bytes`, `dense_peak_flops_per_s.fp8`)."""
        values: dict[str, float | None] = {
            "hbm_bytes_per_s": self.hbm_bytes_per_s,
            "capacity_bytes": self.capacity_bytes,
            "l2_bytes": self.l2_bytes,
            "tdp_w": self.tdp_w,
            "host_memory_bytes": self.host_memory_bytes,
            "link.bytes_per_s": None if self.link is None else self.link.bytes_per_s,
            "disk.bytes_per_s": None if self.disk is None else self.disk.bytes_per_s,
            "disk.latency_s": None if self.disk is None else self.disk.latency_s,
            "node.gpus": None if self.node is None else self.node.gpus,
            "node.bytes_per_s": None if self.node is None else self.node.bytes_per_s,
            "network.bytes_per_s": None if self.network is None else self.network.bytes_per_s,
        }
        for name in get_args(PeakName):
            path = f"dense_peak_flops_per_s.{name}"
            values[path] = getattr(self.dense_peak_flops_per_s, name)
        return {path: value for path, value in values.items() if value is not None}

    def peak_flops_per_s(self, dtype: str) -> tuple[float, PeakName]:
        """The dense peak that bounds computing in `dtype`, in FLOP/s, and the name of that peak.

        int4 is a weight format: kernels widen weights to 8 bits (W4A8) or to 16, so the fastest of
        those peaks bounds it. MXFP4 and NVFP4 have scales within a row, which the fp4 units of a
        GPU apply; without such units kernels widen them to 16 bits. On a GPU without a matrix path
        for fp16, fp8 or int8, these are widened to bf16. fp32 cannot be: a GPU without an fp32 or
        tf32 peak has no bound for it.

        Raises:
            InputError: `dtype` is unknown, or is fp32 or tf32 and this GPU states no such peak.
        """
        names = MULTIPLIED_AS.get(dtype)
        if names is None:
            raise InputError(f"dtype={shown(dtype)}: is not one of {', '.join(MULTIPLIED_AS)}")
        fastest: tuple[float, PeakName] | None = None
        for name in names:
            peak: float | None = getattr(self.dense_peak_flops_per_s, name)
            if peak is not None and (fastest is None or peak > fastest[0]):
                fastest = peak, name
        if fastest is not None:
            return fastest
        if dtype in ("fp32", "tf32"):
            raise InputError(
                f"dtype={shown(dtype)}: needs dense_peak_flops_per_s.{dtype}, which"
                f" {shown(self.name)} lacks"
            )
        return self.dense_peak_flops_per_s.bf16, "bf16"


def hardware_names() -> tuple[str, ...]:
    """The names of the GPU presets, sorted."""
    return tuple(sorted(_presets()))


def load_hardware(name_or_path: str) -> Hardware:
    """The GPU of a preset (named in any case, or by an alias), or of a TOML file.

    Text that ends in `.toml` or holds a separator is a path; other text is looked up in the list of
    presets and never becomes part of a path.

    Raises:
        InputError: No such preset, or the file is not a valid hardware.
    """
    is_path = name_or_path.lower().endswith(".toml") or any(
        separator in name_or_path for separator in (os.sep, os.altsep) if separator
    )
    if is_path:
        path = Path(name_or_path)
        return validated(Hardware, read_toml(path), where=f"file={shown(name_or_path)}")
    presets = _presets()
    preset = presets.get(hardware_name(name_or_path))
    if preset is None:
        raise InputError(
            f"hardware={shown(name_or_path)}: is neither a preset ({', '.join(sorted(presets))})"
            f" nor the path of a .toml file{did_you_mean(_plain(name_or_path), hardware_names())}"
        )
    return validated(Hardware, read_toml(preset), where=f"preset={shown(preset.stem)}")


def hardware_name(typed: str) -> str:
    """The preset that a name or an alias stands for; other text in lower case, as it is."""
    plain = _plain(typed)
    name = ALIASES.get(plain, plain)
    return name if name in _presets() else typed.lower()


def _plain(typed: str) -> str:
    """A name in lower case, without its vendor, its words joined by hyphens."""
    words = typed.lower().replace("_", " ").replace("-", " ").split()
    vendors = ("nvidia", "amd", "geforce", "instinct")
    return "-".join(word for word in words if word not in vendors)


def _presets() -> dict[str, Path]:
    folder = Path(__file__).parent.parent / "presets" / "hardware"
    return {path.stem: path for path in folder.glob("*.toml")}
