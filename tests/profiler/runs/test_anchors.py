"""Anchors on a CPU: the three kernels do what their names say, and their bytes are known."""

import pytest

from profiler.runs import anchors
from profiler.runs.anchors import Anchors, with_anchors
from tests.recording_values import CONDITIONS


class Flush:
    def __call__(self) -> None: ...
    def settle(self) -> None: ...


def test_the_three_kernels_and_the_bytes_that_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small copy, product and gather: 2 x 64 + 3 x 4 x 4 x 2 + (16 + 8) x 32 + 8 x 8 bytes."""
    monkeypatch.setattr(anchors, "COPY_BYTES", 64)
    monkeypatch.setattr(anchors, "TABLE_ROWS", 16)
    monkeypatch.setattr(anchors, "ROW_BYTES", 32)
    monkeypatch.setattr(anchors, "GATHERED_ROWS", 8)
    monkeypatch.setattr(anchors, "GEMM", 4)
    monkeypatch.setattr("profiler.runs.self_check.GEMM", 4)
    shapes: list[tuple[int, ...]] = []

    def seconds(kernel: object, times: int, flush: object) -> list[float]:
        assert isinstance(flush, Flush)
        assert callable(kernel)
        shapes.append(tuple(kernel().shape))
        return [3e-6, 1e-6, 2e-6, 9e-6, 8e-6][:times]

    monkeypatch.setattr(anchors, "seconds_between_events", seconds)
    three = Anchors("cpu")
    found = three.seconds(Flush())
    assert list(found.values()) == [3e-6] * 3
    assert shapes == [(64,), (4, 4), (8, 32)]
    assert three.nbytes == 128 + 96 + 768 + 64


def test_both_readings_of_an_anchor_stand_in_the_conditions() -> None:
    (anchor,) = with_anchors(CONDITIONS, {"copy": 1e-4}, {"copy": 2e-4}).anchors
    assert (anchor.name, anchor.before_s, anchor.after_s) == ("copy", 1e-4, 2e-4)
