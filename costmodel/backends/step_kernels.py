"""The kernels of one backend for one step: its parts grouped into kernels and regions, launches.

A step has so many tokens, on which kernels may depend. A backend that refuses the step has no
number of launches for any part of it: they are None, for the reason in `refusal`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from costmodel.backends.base import Backend
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part
from costmodel.layers.site import expanded_paths, layer_pattern, region_path


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
    """Neighbouring operators that kernels span, in all layers where they do; or one operator."""

    operators: tuple[Operator, ...]  # in the order of the block
    layers: tuple[int, ...]  # empty: the operators stand outside the blocks

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
        return f"layers.{layer_pattern(self.layers)}.{leaf}" if self.layers else leaf


@dataclass(frozen=True, slots=True, kw_only=True)
class StepKernels:
    """A backend at the N tokens of a step. Launches are None where `refusal` says why."""

    backend: Backend
    tokens: Number  # N, or an array of them over a grid of steps
    refusal: str | None  # why the backend cannot run the step; None: it can

    def launches(self, operator: Operator, part: Part) -> Number | None:
        """Launches of a part; 0: the kernel of another part does it too."""
        if self.refusal is not None:
            return None
        return self.backend.launches(operator, part, self.tokens)

    def operator_launches(self, operator: Operator) -> Number | None:
        """Launches of one of the operator's layers."""
        return self._launches((part, 1, operator) for part in operator.parts)

    def region_launches(self, region: Region) -> Number | None:
        """Launches of one layer of a region."""
        return self._launches(
            (part, 1, operator) for operator in region.operators for part in operator.parts
        )

    def routing_launches(self, operators: Iterable[Operator]) -> Number | None:
        """Launches of a step's parts that select experts or rows."""
        return self._launches(
            (part, operator.count, operator)
            for operator in operators
            for part in operator.parts
            if part.routing
        )

    def launches_of(self, operators: Iterable[Operator]) -> Number | None:
        """Launches of all layers of these operators."""
        return self._launches(
            (part, operator.count, operator) for operator in operators for part in operator.parts
        )

    def step_launches(self, operators: Sequence[Operator]) -> Number | None:
        """Launches of a whole step, those that belong to no operator among them."""
        launches = self.launches_of(operators)
        return None if launches is None else launches + self.backend.outside_launches(operators)

    def _launches(self, parts: Iterable[tuple[Part, int, Operator]]) -> Number | None:
        """The sum over parts, each with its number of layers and its operator."""
        if self.refusal is not None:
            return None
        total: Number = 0
        for part, layers, operator in parts:
            total = total + layers * self.backend.launches(operator, part, self.tokens)
        return total

    def kernels(self, region: Region) -> Iterator[Kernel]:
        """The kernels of a region in order: each part with launches begins one.

        Parts before the first launch belong to the first kernel.
        """
        parts: list[Part] = []
        launched = charged = 0
        for operator in region.operators:
            for part in operator.parts:
                launches = self.backend.launches(operator, part, self.tokens)
                assert isinstance(launches, int), "kernels are grouped for one number of tokens"
                if launches:
                    if launched:
                        yield Kernel(parts=tuple(parts), launches=launched, charged=charged)
                        parts = []
                    launched, charged = launches, len(parts)
                parts.append(part)
        assert launched, f"{region.path}: no kernel of {self.backend.name}"
        yield Kernel(parts=tuple(parts), launches=launched, charged=charged)

    def regions(self, operators: Sequence[Operator]) -> Iterator[Region]:
        """The operators of a step as regions, so that each of their layers stands in exactly one.

        Most are regions of a single operator. A region of several comes where the first of its
        operators stands. A backend that refuses the step has no region of several.
        """
        spanned: list[Region] = []
        if self.refusal is None:
            spanned = list(
                _spanned(operators, self.backend, lambda of: self.backend.joins(of, self.tokens))
            )
        for operator in operators:
            taken: set[int] = set()
            inside = False
            for region in spanned:
                if operator in region.operators:
                    inside = True
                    taken |= set(region.layers)
                    if operator is region.operators[0]:
                        yield region
            left = tuple(layer for layer in operator.layers if layer not in taken)
            if left or not (operator.layers or inside):
                yield Region(operators=(operator,), layers=left)


def region_paths(operators: Sequence[Operator], backend: Backend) -> tuple[str, ...]:
    """The path of every region of a layer that a backend may form, whatever the tokens."""
    return tuple(
        path
        for region in _spanned(operators, backend, backend.may_join)
        for path in expanded_paths(region.path)
    )


def _spanned(
    operators: Sequence[Operator],
    backend: Backend,
    joined: Callable[[tuple[Operator, ...]], bool],
) -> Iterator[Region]:
    """The regions of several operators: where all leaves of a span stand, and are joined.

    Layers with the same operators form one region. Where the norm of the first layer differs from
    that of the others, say, there are two regions.
    """
    by_leaf: dict[str, list[Operator]] = {}
    for operator in operators:
        by_leaf.setdefault(operator.leaf, []).append(operator)
    for leaves in backend.spans:
        together: list[tuple[tuple[Operator, ...], tuple[int, ...]]] = [((), ())]
        for leaf in leaves:
            together = [
                ((*members, operator), layers)
                for members, before in together
                for operator in by_leaf.get(leaf, ())
                if (layers := _in_both(before, operator.layers) if members else operator.layers)
                or not (operator.layers or before)
            ]
        for members, layers in sorted(together, key=lambda each: each[1]):
            if joined(members):
                yield Region(operators=members, layers=layers)


def _in_both(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return a if a == b else tuple(sorted(set(a) & set(b)))
