"""What a backend is: kernels that cover the parts of operators, with their launches.

A layer kind states work; a backend says which kernels do it. Every backend has a rule for any part
(its default kernels), so that a new layer kind needs no entry anywhere; kernels that differ from
the rule are entered in the file of the backend.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from costmodel.layers.operator import Operator, Part
from costmodel.layers.site import layer_pattern, region_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """The parts that are done together, and the launches that do them.

    Mostly one launch; a few small ones of a framework stand for one where only their number is
    known. `parts` are neighbours, of one operator or, in a region, of several.
    """

    parts: tuple[Part, ...]
    launches: int
    charged: int = 0  # the part to which the launches are charged: those before it come with it


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Operators whose kernels are stated together, with the layers in which they are."""

    operators: tuple[Operator, ...]  # one, or neighbours of a layer that a kernel spans
    layers: tuple[int, ...]  # empty for an operator that stands in no layer

    @property
    def count(self) -> int:
        """How many times the region runs in a step."""
        return len(self.layers) or 1

    @property
    def path(self) -> str:
        """The path of the only operator, or `layers.{0-2}.memory.{query,retrieve}`."""
        if len(self.operators) == 1 and self.layers == self.operators[0].layers:
            return self.operators[0].path
        leaves = [operator.leaf for operator in self.operators]
        leaf = leaves[0] if len(leaves) == 1 else region_path(leaves)
        return f"layers.{layer_pattern(self.layers)}.{leaf}"


class Backend(ABC):
    """An implementation of all operators, seen by its kernels."""

    name: str
    saves_intermediates: bool
    """Whether what passes between parts of an operator stays on the chip."""
    spans: tuple[tuple[str, ...], ...] = ()
    """Leaves of a layer that kernels do together, each tuple in the order of the block."""

    @abstractmethod
    def launches(self, operator: Operator, part: Part) -> int:
        """Launches that a part adds; 0: it is done by the launch of the part before it."""

    def kernels(self, region: Region) -> Iterator[Kernel]:
        """The kernels of a region in order; parts before the first launch are done by that one."""
        parts: list[Part] = []
        launched = charged = 0
        for operator in region.operators:
            for part in operator.parts:
                launches = self.launches(operator, part)
                if launches:
                    if launched:
                        yield Kernel(parts=tuple(parts), launches=launched, charged=charged)
                        parts = []
                    launched, charged = launches, len(parts)
                parts.append(part)
        assert launched, f"{region.path}: no kernel of {self.name}"
        yield Kernel(parts=tuple(parts), launches=launched, charged=charged)

    def operator_launches(self, operator: Operator) -> int:
        """Launches of one of the operator's layers."""
        return sum(self.launches(operator, part) for part in operator.parts)

    def total_launches(self, operators: Sequence[Operator], *, routing_only: bool = False) -> int:
        """Launches of a step; `routing_only`: those of parts that choose experts or rows."""
        return sum(
            operator.count * self.launches(operator, part)
            for operator in operators
            for part in operator.parts
            if part.routing or not routing_only
        )

    def regions(self, operators: Sequence[Operator]) -> Iterator[Region]:
        """The operators of a step as regions; each layer of each operator stands in one of them.

        Those of `spans` come where the first of their operators stands.
        """
        spanned = list(self._spanned(operators)) if self.spans else []
        for operator in operators:
            taken: set[int] = set()
            for region in spanned:
                if operator in region.operators:
                    taken |= set(region.layers)
                    if operator is region.operators[0]:
                        yield region
            left = tuple(layer for layer in operator.layers if layer not in taken)
            if left or not operator.layers:
                yield Region(operators=(operator,), layers=left)

    def _spanned(self, operators: Sequence[Operator]) -> Iterator[Region]:
        """The layers that have all leaves of a span, together where their operators are the same.

        Where a norm of the first layer differs from those of the others, say, two regions result.
        """
        at = {(layer, op.leaf): op for op in operators for layer in op.layers}
        for leaves in self.spans:
            alike: dict[tuple[int, ...], tuple[tuple[Operator, ...], list[int]]] = {}
            for layer in sorted({layer for layer, _ in at}):
                members = tuple(at[layer, leaf] for leaf in leaves if (layer, leaf) in at)
                if len(members) == len(leaves):
                    key = tuple(map(id, members))
                    alike.setdefault(key, (members, []))[1].append(layer)
            for members, layers in alike.values():
                yield Region(operators=members, layers=tuple(layers))
