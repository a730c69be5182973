"""What the operations of a calibration do, seen on a CPU at small shapes."""

from math import prod

import pytest
import torch

from profiler.calibrate.operations import GroupedOperation, MoveOperation
from tests.profiler.calibrate.fake_cuda import SHAPES


def test_sets_hold_operands_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("profiler.calibrate.operations.TABLE_BYTES", 2**16)
    torch.manual_seed(0)
    for curve in SHAPES.values():
        for each in curve:
            first, second = (run() for run in each.calls(2, torch.device("cpu")))
            assert first.shape == second.shape
            assert not torch.equal(first, second), each


def test_results_have_the_shapes_that_the_points_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("profiler.calibrate.operations.TABLE_BYTES", 2**16)
    shapes = {
        name: [tuple(each.calls(1, torch.device("cpu"))[0]().shape) for each in curve]
        for name, curve in SHAPES.items()
    }
    assert shapes == {
        "move": [(1024,), (262144,)],  # half of the bytes are read, 2 an element
        "gemm": [(2, 8), (256, 64)],
        "grouped": [(8, 16), (8, 8)],
        "rows": [(1, 64), (2, 128)],  # a bag is 32 rows
        "attention": [(2, 4, 1, 8), (1, 4, 16, 8)],
        "topk": [(1, 8), (4, 32)],
    }


def test_operand_bytes_are_those_of_the_tensors() -> None:
    """By hand, 2 bytes an element, 8 an index."""
    assert [each.operand_bytes for curve in SHAPES.values() for each in curve] == [
        4096,
        2**20,
        2 * prod((8, 16)),
        2 * prod((64, 32)),
        2 * prod((2, 16, 8)),
        2 * prod((4, 8, 8)),
        32 * (128 + 8 + 2),
        64 * (256 + 8 + 2),
        2 * 2 * prod((2, 2, 16, 8)),
        2 * 2 * prod((1, 4, 16, 8)),
        2 * 96,
        2 * 4 * 96,
    ]


def test_rows_are_spread_evenly_over_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []

    def spied(x: torch.Tensor, _weight: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        seen.append(offsets.tolist())
        return x

    monkeypatch.setattr("profiler.calibrate.operations.grouped_mm", spied)
    GroupedOperation(groups=4, rows=12, n=8, k=8).calls(1, torch.device("cpu"))[0]()
    assert seen == [[3, 6, 9, 12]]


def test_nothing_is_zero() -> None:
    """Zeros would run faster and cooler."""
    (run,) = MoveOperation(bytes=2**16).calls(1, torch.device("cpu"))
    assert run().count_nonzero() > 16_000  # of 16,384
