"""Shapes in words: every size of a shape stands in its sentence."""

import re
from dataclasses import asdict

import pytest

from costmodel.explain.shapes import shape_words
from costmodel.layers.kernel_shape import Attend, Gemm, Grouped, Rows, Shape, TopK

SHAPES = (
    Gemm(m=3, n=5, k=7, calls=11),
    Grouped(groups=3, rows=5, n=7, k=11),
    Rows(reads=3, row_bytes=5),
    Attend(batch=3, heads=5, kv_heads=7, head_dim=11, queries=13, keys=17),
    TopK(rows=3, width=5, chosen=7, calls=11),
)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: type(shape).__name__)
def test_every_size_is_named(shape: Shape) -> None:
    numbers = {int(number) for number in re.findall(r"\d+", shape_words(shape))}
    assert numbers == set(asdict(shape).values())  # all sizes differ


def test_large_sizes_expectations_and_single_calls() -> None:
    words = shape_words(Grouped(groups=56.4, rows=128, n=2048, k=1024))
    assert words == "product of 128 rows with 56.40 weights [2,048, 1,024]"
    assert "times" not in shape_words(Gemm(m=1, n=1, k=1))
    assert "times" not in shape_words(TopK(rows=1, width=1, chosen=1))
    assert shape_words(None) == "the bytes it moves"
