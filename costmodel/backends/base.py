"""What a backend is: it groups the parts of operators into kernels, and counts their launches.

A backend has a rule for any part, so a new layer kind needs no entry anywhere. Kernels that differ
from the rule are entered in a table in the backend's file. A kernel may also span neighbouring
operators of a layer, which then form a region.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from costmodel.layers.operator import Operator, Part
from costmodel.layers.site import layer_pattern, region_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """Parts that are done together, and the launches that do them.

    Mostly one launch. Where a framework needs several small kernels for a part, and only their
    number is known, they count as one kernel with that many launches.
    """

    parts: tuple[Part, ...]  # neighbours, of one operator or of a region
    launches: int
    charged: int = 0  # which of the parts the cost of the launches is added to


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Neighbouring operators of a layer that kernels span, in all layers where they do; or one."""

    operators: tuple[Operator, ...]  # in the order of the block
    layers: tuple[int, ...]  # empty: the operator stands outside the blocks

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
    """An implementation of all operators, described by its kernels."""

    name: str
    saves_intermediates: bool
    """Whether what passes between the parts of an operator stays on the chip."""
    spans: tuple[tuple[str, ...], ...] = ()
    """Leaves that form a region in layers that have them all, each tuple in the block's order."""

    @abstractmethod
    def launches(self, operator: Operator, part: Part) -> int:
        """Launches that a part needs; 0: the kernel of the part before does it too."""

    def kernels(self, region: Region) -> Iterator[Kernel]:
        """The kernels of a region in order: each part with launches begins one.

        Parts before the first launch belong to the first kernel.
        """
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
        """Launches of a step; `routing_only`: those of the parts that select experts or rows."""
        return sum(
            operator.count * self.launches(operator, part)
            for operator in operators
            for part in operator.parts
            if part.routing or not routing_only
        )

    def regions(self, operators: Sequence[Operator]) -> Iterator[Region]:
        """The operators of a step as regions, so that each of their layers stands in exactly one.

        Most are regions of a single operator. A region of several comes where the first of its
        operators stands.
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
        """The regions of several operators: layers that have all leaves of a span.

        Layers with the same operators form one region. Where the norm of the first layer differs
        from that of the others, say, there are two regions.
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
