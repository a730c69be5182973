"""A quantity on an axis: label and unit together, values in that unit."""

import pytest

from costmodel.costs.quantities.quantity import Quantity
from costmodel.show.axis import Axis
from costmodel.show.text import capitalised, folded

TIME = Quantity(name="a.b_s", label="KV time of a step", unit="s", counts="", formula="")
SHARE = Quantity(name="a.share", label="a share", unit="share", counts="", formula="")


def test_title_heading_and_values() -> None:
    axis = Axis(quantity=TIME, prefix="m")
    assert (axis.unit, axis.title) == ("ms", "KV time of a step, ms")
    assert axis.scaled(0.25) == 250
    share = Axis(quantity=SHARE)
    assert (share.heading, share.scaled(0.25)) == ("A share, %", 25)


@pytest.mark.parametrize(
    ("label", "capital", "lines"),
    [
        ("compulsory HBM bytes", "Compulsory HBM bytes", "compulsory\nHBM bytes"),
        ("KV cache read", "KV cache read", "KV cache\nread"),
        ("MBU", "MBU", "MBU"),
    ],
)
def test_labels_at_the_head_of_a_card_and_of_a_column(label: str, capital: str, lines: str) -> None:
    assert capitalised(label) == capital
    assert folded(label) == lines
