"""Operand bytes of a step: the sizes of the operands and results of all its PyTorch operations.

Each operation counts each operand and each result once. Of a table or of grouped experts only the
chosen rows or experts count, a row as often as it was chosen. Views count nothing. This is what
unfused kernels request (the quantity `logical_bytes`), without a cache: not what crosses to memory.
Without hardware counters no other bytes are known.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from profiler.runs.case import PreparedCase

aten = torch.ops.aten
Arguments = Sequence[Any]


def operand_bytes(case: PreparedCase) -> dict[str, int]:
    """Operand bytes of one eager step by leaf path; operations outside leaves are left out."""
    by_leaf: dict[str, int] = {}
    with _OperandBytes() as operands:

        @contextmanager
        def counted(path: str) -> Iterator[None]:
            before = operands.bytes
            yield
            by_leaf[path] = operands.bytes - before

        with case.within(counted):
            case.run()
    return by_leaf


class _OperandBytes(TorchDispatchMode):
    """Sums up operands and results of all operations that run in it."""

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
        """Run the operation and add its bytes."""
        del types
        named = dict(kwargs or {})
        out = func(*args, **named)
        if not func.is_view and func.overloadpacket not in FREE:
            bytes_of = COUNTED.get(func.overloadpacket, _all)
            self.bytes += bytes_of([*args, *named.values()], out)
        return out


def _sum(values: object) -> int:
    """Bytes of all tensors among the values, which may be nested."""
    return sum(_held(value) for value in tree_leaves(values) if isinstance(value, Tensor))


def _held(tensor: Tensor) -> int:
    """Bytes of a tensor's elements; a broadcast axis counts as one element."""
    axes = zip(tensor.shape, tensor.stride(), strict=True)
    return prod(size if stride else min(size, 1) for size, stride in axes) * tensor.itemsize


def _all(args: Arguments, out: object) -> int:
    return _sum(args) + _sum(out)


def _written(args: Arguments, out: object) -> int:
    """All but the first operand, which is overwritten or gives only its shape; and the result."""
    return _sum(args[1:]) + _sum(out)


def _gathered(args: Arguments, out: object) -> int:
    """The indices, and the result twice: as read from the table, and as written."""
    return _sum(args[1:]) + 2 * _sum(out)


def _copied_by_index(args: Arguments, out: object) -> int:
    """The indices, and the source (the last tensor) twice: as read, and as written."""
    del out
    *_, source = tree_leaves(args)
    return _sum(args[1:]) + _sum(source)


def _bags(args: Arguments, out: tuple[Tensor, ...]) -> int:
    """One row of the table for each index, the indices, their weights, and the sums."""
    table, indices = args[0], args[1]
    rows: int = indices.numel() * table.shape[1] * table.itemsize
    return rows + _sum(args[1:]) + _sum(out[0])


def _grouped(args: Arguments, out: object) -> int:
    """The weights of groups that have any row; `offsets` holds the end of each group's rows."""
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
COUNTED: dict[object, Callable[[Arguments, Any], int]] = {  # any other operation: `_all`
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
