"""Several residual streams in place of one: what sites before sublayers have in common.

Letters: N tokens, D hidden, c streams. At the input the embedded token is copied to c streams. A
site before each sublayer mixes them into the one vector that the sublayer reads, and says how its
output joins them, which the next site does. How they mix: gated_residual.py, hyper_connections.py.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from costmodel.layers.base import StreamKind
from costmodel.layers.letters import sum_of
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part, Step
from costmodel.layers.site import Site

# What waits to join the streams: nothing; a sublayer's output [N, D] with its coefficients; a
# vector of each stream [N, c D] (n-gram tables).
Waiting: TypeAlias = Literal["nothing", "output", "streams"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """What it takes for a sublayer's output to join the streams."""

    coefficients: int  # numbers of a token, made by the site before the sublayer
    flops: int  # of an element of one stream
    formula: str  # of all N tokens
    operations: int  # of PyTorch, one after another


class ResidualStreams(StreamKind):
    """Streams that sites before the sublayers mix; a model's field has the name of their kind."""

    source: ClassVar[str]
    replaces_norms: ClassVar[bool]  # whether its sites stand in place of the norms, or before them

    @property
    @abstractmethod
    def streams(self) -> int:
        """How many: c."""

    @property
    @abstractmethod
    def joining(self) -> "Joining":
        """What it takes for a sublayer's output to join the streams."""

    @abstractmethod
    def gather(
        self, leaf: str, site: Site, step: Step, *, waiting: Waiting, last: bool = False
    ) -> Operator:
        """One site: what waits joins the streams, and their mixture is what comes next.

        Args:
            leaf: Of these layers, or `final_residual`.
            site: The layers; none: behind the last one, where no sublayer follows.
            step: The step.
            waiting: What waits to join.
            last: Whether it is of the last tokens of the B sequences alone.
        """

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """At the input the embedded token, once for each stream; for the others see `gather`."""
        stream = step.tokens * site.hidden_size * step.activation_bytes
        return [
            site.operator(
                "residual_expand",
                kind="elementwise",
                parts=(
                    Part(
                        name="copy",
                        kind="elementwise",
                        input_bytes=stream,
                        output_bytes=self.streams * stream,
                    ),
                ),
                summary="The embedded token as each of the residual streams",
                formula="0",
                source=self.source,
            )
        ]

    def join(self, leaf: str, site: Site, step: Step) -> Operator:
        """A sublayer's output joins the streams alone, for what reads them before the next site."""
        return site.operator(
            leaf,
            kind="elementwise",
            parts=self.joined(site, step, step.tokens, "output"),
            summary="The residual streams with what waits, for the memory layer behind it",
            formula=self.joined_formula("output", "N"),
            source=self.source,
        )

    def joined(self, site: Site, step: Step, n: Number, waiting: Waiting) -> tuple[Part, ...]:
        """The part that joins what waits to the streams of n tokens."""
        if waiting == "nothing":
            return ()
        d, a, c = site.hidden_size, step.activation_bytes, self.streams
        wide, of_output = n * c * d, waiting == "output"
        return (
            Part(
                name="residual_add",
                kind="elementwise",
                flops=(self.joining.flops if of_output else 1) * wide,
                input_bytes=(wide + (n * d + n * self.joining.coefficients if of_output else wide))
                * a,
                output_bytes=wide * a,
                operations=self.joining.operations if of_output else 1,
            ),
        )

    def joined_formula(self, waiting: Waiting, rows: str) -> str:
        """The FLOPs of `joined` in letters, of "N" tokens or of "B"; of nothing, nothing."""
        return sum_of(
            waiting == "output" and self.joining.formula.replace("N", rows),
            waiting == "streams" and f"{rows} c D",
        )
