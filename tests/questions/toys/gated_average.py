"""A sequence mixer without a cache: tokens enter a running average of a given width."""

from typing import Annotated, Literal

from pydantic.dataclasses import dataclass

from costmodel.layers.base import MixerKind, Size, Width
from costmodel.layers.operator import Operator, Step
from costmodel.layers.primitives import linear
from costmodel.layers.site import Site
from costmodel.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GatedAverage(MixerKind):
    """Into a width W, gated, and back: 2 N D 2 W + 2 N W D FLOPs."""

    kind: Literal["gated_average"] = "gated_average"
    average_width: Annotated[Width, Size(step=16, label="Width of the average")]  # W

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """input, output."""
        width, hidden = self.average_width, site.hidden_size
        sizes = {"input": (hidden, 2 * width), "output": (width, hidden)}
        return [
            linear(
                f"attention.{name}",
                site,
                step,
                inputs=inputs,
                outputs=outputs,
                group="attention",
                activation="silu" if name == "input" else None,
                gated=name == "input",
                formula="2 N D 2 W; 2 N W D",
                source="a toy",
            )
            for name, (inputs, outputs) in sizes.items()
        ]
