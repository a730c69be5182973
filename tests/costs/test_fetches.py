"""When a fetch hides: schedules worked out by hand, one microsecond for each row on the link."""

from typing import TYPE_CHECKING, cast

import pytest

from costmodel.costs.fetches import Fetches, fetches
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part
from costmodel.layers.site import Site

if TYPE_CHECKING:
    from costmodel.costs.kernel_times import Curves

LAYERS = (0, 1, 2)


class Link:
    """A link that takes as long as there are rows."""

    def fetch_s(self, part: Part) -> Number:
        return part.fetched_rows


def operator(leaf: str, layers: tuple[int, ...], rows: int = 0, *, early: bool = True) -> Operator:
    part = Part(name="rows", kind="gather")
    if rows:
        part = Part(
            name="rows", kind="gather", fetched_rows=rows, fetched_bytes=8 * rows, early=early
        )
    return Site.of(layers, 8).operator(leaf, kind="gather", parts=(part,), formula="0", source="")


def scheduled(*timed: tuple[Operator, float]) -> Fetches:
    operators, seconds = zip(*timed, strict=True)
    return fetches(cast("Curves", Link()), operators, seconds)


def step(rows: int) -> Fetches:
    """Three blocks of attention (10 s), a table's layer in the first and the last (1 s), an FFN."""
    return scheduled(
        (operator("embed", ()), 2.0),
        (operator("attention", LAYERS), 10.0),
        (operator("memory.values", (0, 2), rows), 1.0),
        (operator("ffn", LAYERS), 4.0),
        (operator("lm_head", ()), 100.0),
    )


@pytest.mark.parametrize(
    ("rows", "waited"),
    [
        (12, 0),  # the layers begin at 12 and at 2 + 15 + 14 + 10 = 41; fetches end at 12 and 24
        (15, 3),  # 15 - 12; the second ends at 30, before 41
        (30, 19),  # 30 - 12 = 18; 60 - 41 = 19, of which the first layer has waited 18 already
    ],
)
def test_fetches_run_one_after_the_other_beside_the_layers_before(rows: int, waited: int) -> None:
    found = step(rows)
    assert found.seconds == 2 * rows
    assert found.exposed_s == found.waited_s == waited


def test_rows_that_a_layer_chooses_are_exposed_whole() -> None:
    late = scheduled(
        (operator("attention", LAYERS), 1000.0),
        (operator("memory.values", (1, 2), 7, early=False), 1.0),
    )
    assert (late.seconds, late.exposed_s, late.waited_s) == (14, 14, 0)


def test_both_sorts_add_up() -> None:
    both = scheduled(
        (operator("embed", (), 5), 1.0),  # nothing runs before it
        (operator("memory.values", LAYERS, 2, early=False), 1.0),
    )
    assert (both.seconds, both.exposed_s, both.waited_s) == (11, 11, 5)


def test_what_stands_later_in_the_block_hides_nothing() -> None:
    first = scheduled((operator("engram.rows", (0,), 3), 1.0), (operator("attention", (0,)), 9.0))
    assert first.waited_s == 3
    last = scheduled((operator("attention", (0,)), 9.0), (operator("engram.rows", (0,), 3), 1.0))
    assert last.waited_s == 0
