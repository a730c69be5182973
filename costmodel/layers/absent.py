"""Halves that a block goes without: hybrids such as Nemotron-H have layers of one thing each.

A layer that is only a mixer has no FFN, and one that is only an FFN has no mixer; neither has the
norm before what is not there. Source: Nemotron-H, arXiv 2504.03624, figure 2.
"""

from typing import Literal

from pydantic.dataclasses import dataclass

from costmodel.layers.base import FfnKind, MixerKind
from costmodel.layers.operator import Operator, Step
from costmodel.layers.site import Site
from costmodel.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NoMixer(MixerKind):
    """No attention and no recurrence: nothing of a sequence is kept."""

    kind: Literal["no_mixer"] = "no_mixer"

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """None."""
        del site, step
        return []


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NoFfn(FfnKind):
    """Neither a dense feed-forward layer nor experts."""

    kind: Literal["no_ffn"] = "no_ffn"

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """None."""
        del site, step
        return []
