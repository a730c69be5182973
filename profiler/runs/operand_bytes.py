"""Logical bytes of a step: what its operations read and write when each goes to memory and back.

Counted as PyTorch runs them, one by one: every operand and every result once an operation, of a
table or of grouped experts only what was chosen (a row as often as it was). Views move nothing. No
cache and no fusion: what unfused kernels ask for, not what crosses to memory, and the only bytes to
be had without hardware counters.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from profiler.instruments.leaf_hooks import around_leaves
from profiler.runs.case import PreparedCase

aten = torch.ops.aten
Arguments = Sequence[Any]


def logical_bytes(case: PreparedCase) -> dict[str, int]:
    """Bytes by leaf path of one eager step; what runs outside leaves is under no path."""
    by_leaf: dict[str, int] = {}
    with _Traffic() as traffic:

        @contextmanager
        def counted(path: str) -> Iterator[None]:
            before = traffic.bytes
            yield
            by_leaf[path] = traffic.bytes - before

        with around_leaves(case.model, counted):
            case.run()
    return by_leaf


class _Traffic(TorchDispatchMode):
    """Adds up operands and results of every operation."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - torch's operator
        types: object,
        args: Arguments = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        """Run the operation and count it."""
        del types
        named = dict(kwargs or {})
        out = func(*args, **named)
        if not func.is_view and func.overloadpacket not in FREE:
            moved = COUNTED.get(func.overloadpacket, _all)
            self.bytes += moved([*args, *named.values()], out)
        return out


def _sum(values: object) -> int:
    """Bytes of all tensors in there; of a broadcast axis one element, not its repeats."""
    return sum(_held(value) for value in tree_leaves(values) if isinstance(value, Tensor))


def _held(tensor: Tensor) -> int:
    axes = zip(tensor.shape, tensor.stride(), strict=True)
    return prod(size if stride else min(size, 1) for size, stride in axes) * tensor.itemsize


def _all(args: Arguments, out: object) -> int:
    return _sum(args) + _sum(out)


def _written(args: Arguments, out: object) -> int:
    """The first operand gives its place or its shape, and is not read."""
    return _sum(args[1:]) + _sum(out)


def _gathered(args: Arguments, out: object) -> int:
    """The indices, and what comes out: once as read, once as written."""
    return _sum(args[1:]) + 2 * _sum(out)


def _copied_by_index(args: Arguments, out: object) -> int:
    """The indices, and the source, which stands last: once as read, once as written."""
    del out
    *_, source = tree_leaves(args)
    return _sum(args[1:]) + _sum(source)


def _bags(args: Arguments, out: tuple[Tensor, ...]) -> int:
    """A row of the table for each index, the indices, their weights, and the sums."""
    table, indices = args[0], args[1]
    rows: int = indices.numel() * table.shape[1] * table.itemsize
    return rows + _sum(args[1:]) + _sum(out[0])


def _grouped(args: Arguments, out: object) -> int:
    """The weights of those groups that have any row; `offsets` says where each ends."""
    x, weight, offsets = args[:3]
    sizes = torch.diff(offsets, prepend=offsets.new_zeros(1))
    touched = int((sizes > 0).sum()) * (_held(weight) // len(weight))
    return touched + _sum((x, offsets)) + _sum(out)


FREE = {
    aten.empty,
    aten.empty_like,
    aten.empty_strided,
    aten.new_empty,
    aten.detach,
    aten.lift_fresh,
    aten._unsafe_view,  # noqa: SLF001 - operators have these names
}
COUNTED: dict[object, Callable[[Arguments, Any], int]] = {  # all others by `_all`
    aten.copy_: _written,
    aten.zeros_like: _written,
    aten.embedding: _gathered,
    aten.index: _gathered,
    aten.gather: _gathered,
    aten.index_select: _gathered,
    aten.index_copy_: _copied_by_index,
    aten.index_put_: _copied_by_index,
    aten._embedding_bag: _bags,  # noqa: SLF001
    aten._embedding_bag_forward_only: _bags,  # noqa: SLF001
    aten._grouped_mm: _grouped,  # noqa: SLF001
}
