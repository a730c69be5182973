"""The words of the cost model: parts sum into operators, patterns stand for layers."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.layers.numbers import larger, smaller
from costmodel.layers.operator import QUANTITIES, Operator, Part, Weight
from costmodel.layers.site import Site, expanded_paths, layer_pattern
from tests.steps import make_step

COMPULSORY = (
    "weight_bytes",
    "kv_read_bytes",
    "kv_written_bytes",
    "state_read_bytes",
    "state_written_bytes",
    "row_bytes",
    "index_bytes",
    "io_read_bytes",
    "io_written_bytes",
)
OF_NO_SUM = {"name", "kind", "reach_bytes", "operations", "routing", "early", "shape"}


@pytest.mark.parametrize(
    ("layers", "pattern"),
    [
        ((3,), "3"),
        ((0, 1), "{0-1}"),
        ((0, 1, 2, 5), "{0-2,5}"),
        ((0, 2, 4), "{0,2,4}"),
        ((7, 9, 10), "{7,9-10}"),
    ],
)
def test_patterns_join_runs(layers: tuple[int, ...], pattern: str) -> None:
    assert layer_pattern(layers) == pattern
    site = Site.of(layers, 8)
    assert site.count == len(layers)
    assert made(site, "ffn.down").path == f"layers.{pattern}.ffn.down"


def made(site: Site, leaf: str) -> Operator:
    return site.operator(leaf, kind="norm", parts=(), formula="", source="")


def test_an_operator_in_no_layer_is_its_leaf_and_runs_once() -> None:
    operator = made(Site.of((), 8), "lm_head")
    assert (operator.path, operator.leaf, operator.count) == ("lm_head", "lm_head", 1)


@given(st.sets(st.integers(0, 1023), min_size=1))
def test_a_pattern_expands_to_its_layers(layers: set[int]) -> None:
    ordered = sorted(layers)
    path = made(Site.of(ordered, 8), "attention.core").path
    assert expanded_paths(path) == tuple(f"layers.{i}.attention.core" for i in ordered)


def test_a_path_without_a_pattern_is_itself() -> None:
    assert expanded_paths("lm_head") == ("lm_head",)
    assert expanded_paths("layers.12.memory.values") == ("layers.12.memory.values",)


def test_every_number_of_a_part_is_a_quantity() -> None:
    numbers = {f.name for f in dataclasses.fields(Part)} - OF_NO_SUM
    assert set(QUANTITIES) == numbers
    assert set(COMPULSORY) < numbers


def test_an_operator_sums_its_parts() -> None:
    # quantity i of the first part is 2^i, of the second 3 * 2^i: all sums differ
    first = Part(name="a", kind="norm", **{name: 2**i for i, name in enumerate(QUANTITIES)})
    second = Part(name="b", kind="gather", **{name: 3 * 2**i for i, name in enumerate(QUANTITIES)})
    operator = Operator(
        path="x", leaf="x", count=7, kind="norm", parts=(first, second), formula="", source=""
    )
    for i, name in enumerate(QUANTITIES):
        assert operator.total(name) == 4 * 2**i  # for one of the 7 layers
    places = [QUANTITIES.index(name) for name in COMPULSORY]
    assert first.compulsory_bytes == sum(2**i for i in places)
    assert operator.compulsory_bytes == 4 * sum(2**i for i in places)


def test_an_operator_without_parts_costs_nothing() -> None:
    empty = Operator(path="x", leaf="x", count=1, kind="norm", parts=(), formula="", source="")
    assert empty.total("flops") == 0
    assert empty.compulsory_bytes == 0


def test_weights_count_elements_and_bytes() -> None:
    matrix = Weight(name="w", group="experts", rows=6, cols=128, active_rows=2)
    assert (matrix.parameters, matrix.active_parameters) == (768, 256)
    assert matrix.stored_bytes(make_step()) == 768 * 2
    assert matrix.stored_bytes(make_step(dtype="fp8")) == 6 * (128 + 4)
    assert matrix.row_bytes(make_step(dtype="int4")) == 67  # (512 + 20) bits, in whole bytes
    assert matrix.stored_bytes(make_step(dtype="int4")) == 6 * 67


@pytest.mark.parametrize(("dtype", "element"), [("bf16", 2), ("int4", 2), ("fp8", 2), ("fp32", 4)])
def test_vectors_are_never_quantised(dtype: str, element: int) -> None:
    norm = Weight(name="w", group="norm", rows=10, matrix=False)
    assert (norm.parameters, norm.active_parameters) == (10, 10)
    assert norm.stored_bytes(make_step(dtype=dtype)) == 10 * element


def test_minimum_and_maximum_keep_python_integers() -> None:
    huge = 10**30
    assert smaller(huge, huge + 1) == huge
    assert larger(huge, huge + 1) == huge + 1
    assert type(smaller(2, 3)) is int
    array = np.array([1, 5])
    for found, expected in ((smaller(array, 3), [1, 3]), (larger(3, array), [3, 5])):
        assert isinstance(found, np.ndarray)
        assert found.tolist() == expected
