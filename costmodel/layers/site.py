"""Where operators stand: the layers that share a configuration, and the paths written from them.

A path names the leaf module of one layer (`layers.3.moe.router`), of several alike layers
(`layers.{0-2,5}.moe.router`), or a region: neighbouring leaves of a layer that one kernel does
together (`layers.3.memory.{query,retrieve}`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from costmodel.layers.operator import Buffer, Operator, OperatorKind, Part, Weight
from costmodel.layers.touched import Touched

if TYPE_CHECKING:  # a layer kind is written with sites
    from costmodel.layers.base import LayerKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The layers of one configuration, and the model's width; no layers: beside the blocks."""

    layers: tuple[int, ...]
    hidden_size: int  # D
    layer_kind: "LayerKind | None"
    prefix: str  # "layers.3.", "layers.{0-2,5}." or, without layers, ""
    branch: str = ""  # of a module that holds its leaves within the block's: "mamba"

    @classmethod
    def of(
        cls, layers: Sequence[int], hidden_size: int, layer_kind: "LayerKind | None" = None
    ) -> "Site":
        """The site of these layers, its prefix written from their runs."""
        prefix = f"layers.{layer_pattern(layers)}." if layers else ""
        return cls(
            layers=tuple(layers), hidden_size=hidden_size, layer_kind=layer_kind, prefix=prefix
        )

    @property
    def count(self) -> int:
        """How many times an operator of this site runs in a step."""
        return len(self.layers) or 1

    def named(self, leaf: str) -> str:
        """The path of a leaf within a layer: of branch "mamba" `attention.mamba.output`."""
        if not self.branch:
            return leaf
        module, _, name = leaf.partition(".")
        return f"{module}.{self.branch}.{name}"

    def operator(
        self,
        leaf: str,
        *,
        kind: OperatorKind,
        parts: tuple[Part, ...],
        weights: tuple[Weight, ...] = (),
        buffers: tuple[Buffer, ...] = (),
        touched: Touched | None = None,
        summary: str = "",
        formula: str,
        source: str,
    ) -> Operator:
        """The operator of a leaf module of these layers: `leaf` is `attention.core`."""
        named = self.named(leaf)
        return Operator(
            path=self.prefix + named,
            leaf=named,
            layers=self.layers,
            layer_kind=self.layer_kind,
            count=self.count,
            kind=kind,
            parts=parts,
            weights=weights,
            buffers=buffers,
            touched=touched,
            summary=summary,
            formula=formula,
            source=source,
        )


def layer_pattern(layers: Sequence[int]) -> str:
    """`3` for one layer, `{0-2,5}` for several: runs of consecutive layers are joined."""
    return _pattern(tuple(layers))


@lru_cache(maxsize=256)  # every step of a model asks for the same few
def _pattern(layers: tuple[int, ...]) -> str:
    if len(layers) == 1:
        return str(layers[0])
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return "{" + ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) + "}"


def expanded_paths(path: str) -> tuple[str, ...]:
    """The paths of single layers behind a pattern: `layers.{0-1}.ffn.down` is two of them.

    The braces of a region, which name leaves, stay: `layers.{0-1}.memory.{query,values}` is
    `layers.0.memory.{query,values}` and the same of layer 1.
    """
    head, brace, rest = path.partition("layers.{")
    if not brace:
        return (path,)
    pattern, _, tail = rest.partition("}")
    layers: list[int] = []
    for run in pattern.split(","):
        first, _, last = run.partition("-")
        layers.extend(range(int(first), int(last or first) + 1))
    return tuple(f"{head}layers.{layer}{tail}" for layer in layers)


def region_path(leaves: Sequence[str]) -> str:
    """The path of a region: of `memory.query` and `memory.values` it is `memory.{query,values}`.

    What all leaves begin with stands before the braces; without that all stands in them.
    """
    split = [leaf.split(".") for leaf in leaves]
    shared = 0
    while all(len(names) > shared + 1 and names[shared] == split[0][shared] for names in split):
        shared += 1
    prefix = "".join(f"{name}." for name in split[0][:shared])
    return prefix + "{" + ",".join(".".join(names[shared:]) for names in split) + "}"


@lru_cache(maxsize=2**14)  # a validation asks for each path in every case of a recording
def region_leaves(path: str) -> tuple[str, ...]:
    """The paths of the leaves behind a region of one layer; of a leaf, itself."""
    prefix, brace, rest = path.partition("{")
    if not brace:
        return (path,)
    names, _, _ = rest.partition("}")
    return tuple(f"{prefix}{name}" for name in names.split(","))
