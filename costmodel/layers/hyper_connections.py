"""Manifold-constrained hyper-connections: c residual streams that weights of each token mix.

Letters: N tokens, D hidden, c streams, r Sinkhorn rounds. Before a sublayer the c streams of a
token, side by side and brought to equal magnitude, are projected to (2 + c) c numbers: c weights
collapse the streams into the one vector that the sublayer reads, behind its own norm; c place its
output; c x c mix the streams, brought near a doubly stochastic matrix by normalising its rows and
columns r times. At the end c weights collapse the streams, before the final norm.
In a single pass (DeepSeek-V4.1) the weights that a site collapses by are those that the site before
it made, the first site reading the first stream; so the end needs no weights of its own.
Source: arXiv 2512.24880; as DeepSeek-V4 has it, transformers 5.24 (`modeling_deepseek_v4`), and
DeepSeek-V4.1, transformers' main branch (`modeling_deepseek_v41`).
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.layers.kernel_shape import Gemm
from costmodel.layers.letters import Letter, sum_of
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part, Step, Weight
from costmodel.layers.primitives import MULTIPLY_ADD, SIGMOID, SOFTMAX, vector
from costmodel.layers.residual_streams import Joining, ResidualStreams, Waiting
from costmodel.layers.site import Site
from costmodel.strict import STRICT

SOURCE = "arXiv 2512.24880; transformers 5.24, modeling_deepseek_v4"
SQUARES = 2  # of an element of the streams: square, add into the mean
SCALED = 3  # of a projected number: by the root of that mean, by a learned scale, plus a bias
WEIGHT = SIGMOID + 1  # of a stream: and a small constant to what is read, times 2 to what is added
POSITIVE = SOFTMAX + 1  # of a row of c x c, and a small constant to each
NORMALISED = 2  # of an element of c x c, a row's or a column's sum: add into it, divide


@dataclass(frozen=True, kw_only=True, config=STRICT)
class HyperConnections(ResidualStreams):
    """A residual stream of c vectors of D, mixed by weights of each token.

    Leaves out: the small constants that keep sums of rows and columns from 0.
    """

    source: ClassVar[str] = SOURCE
    replaces_norms: ClassVar[bool] = False
    kind: Literal["hyper_connections"] = "hyper_connections"
    hc_mult: Annotated[int, Field(ge=2, le=16)] = 4  # c
    hc_sinkhorn_iters: Annotated[int, Field(ge=1, le=100)] = 20  # r
    single_pass: bool = False  # a site collapses by the weights of the one before

    @property
    def streams(self) -> int:
        """How many: c."""
        return self.hc_mult

    @property
    def joining(self) -> Joining:
        """The streams mixed by c x c, and the output times a weight of each stream."""
        c = self.hc_mult
        return Joining(
            coefficients=c + c * c,
            flops=MULTIPLY_ADD * c + MULTIPLY_ADD,
            formula="2 N c c D + 2 N c D",
            operations=1 + c,
        )

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """The letters c and r."""
        del operator, step
        return (
            Letter("c", self.hc_mult, "streams"),
            Letter("r", self.hc_sinkhorn_iters, "rounds that normalise rows and columns"),
        )

    def gather(
        self, leaf: str, site: Site, step: Step, *, waiting: Waiting, last: bool = False
    ) -> Operator:
        """One site: what waits joins the streams; the weights of each token; their collapse."""
        n = step.batch if last else step.tokens
        d, a, c = site.hidden_size, step.activation_bytes, self.hc_mult
        wide, joins = n * c * d * a, waiting != "nothing"
        mixes = bool(site.layers)  # a sublayer follows
        made = (2 + c) * c if mixes else 0 if self.single_pass else c  # numbers of a token
        rows = "B" if last else "N"
        parts, weights = list(self.joined(site, step, n, waiting)), tuple[Weight, ...]()
        if made:
            weights = (
                Weight(name="weight", group="residual", rows=made, cols=c * d),
                vector("bias", "residual", made),
                vector("scale", "residual", 3 if mixes else 1),
            )
            parts += self._made(weights, n, step, joins=joins, mixes=mixes)
        read = n * c * a if self.single_pass else 0  # weights of the site before
        parts.append(
            Part(
                name="collapse",
                kind="elementwise",
                flops=MULTIPLY_ADD * n * c * d,
                input_bytes=read,
                inner_input_bytes=wide + n * c * a - read,
                output_bytes=n * d * a,
                operations=2,
            )
        )
        return site.operator(
            leaf,
            kind="matmul" if made else "elementwise",
            parts=tuple(parts),
            weights=weights,
            summary="What waits joins the residual streams; the weights that mix them, and the"
            " vector that they collapse into",
            formula=sum_of(
                joins and self.joined_formula(waiting, rows),
                f"{MULTIPLY_ADD} {rows} c D",
                made > 0 and f"{SQUARES} {rows} c D",
                made > 0 and f"{rows} {'(2 + c) c' if mixes else 'c'} (2 c D + {SCALED})",
                made > 0 and f"{2 * WEIGHT if mixes else WEIGHT} {rows} c",
                mixes and f"{rows} c c ({POSITIVE} + {NORMALISED} (2 r - 1))",
            ),
            source=SOURCE,
        )

    def _made(
        self, weights: tuple[Weight, ...], n: Number, step: Step, *, joins: bool, mixes: bool
    ) -> tuple[Part, ...]:
        """The numbers of a token: of its streams, brought to equal magnitude, a projection."""
        a, c = step.activation_bytes, self.hc_mult
        matrix, *small = weights
        made, wide = matrix.rows, n * matrix.cols * a
        passed = n * c * a * (mixes and self.single_pass)  # to the next site
        return (
            Part(
                name="magnitude",
                kind="norm",
                flops=SQUARES * n * matrix.cols,
                input_bytes=0 if joins else wide,
                inner_input_bytes=wide if joins else 0,
                operations=2,
            ),
            Part(
                name="projection",
                kind="matmul",
                flops=2 * n * matrix.cols * made,
                weight_bytes=matrix.stored_bytes(step),
                inner_input_bytes=wide,
                inner_output_bytes=n * made * a,
                shape=Gemm(m=n, n=made, k=matrix.cols),
            ),
            Part(
                name="weights",
                kind="elementwise",
                flops=n * (SCALED * made + WEIGHT * (2 if mixes else 1) * c),
                weight_bytes=sum(each.stored_bytes(step) for each in small),
                inner_input_bytes=n * made * a,
                inner_output_bytes=n * c * a - passed,
                output_bytes=n * c * a * mixes + passed,
                operations=9 if mixes else 5,
            ),
            *(self._sinkhorn(n, step) if mixes else ()),
        )

    def _sinkhorn(self, n: Number, step: Step) -> tuple[Part]:
        """A softmax of each row, then columns, rows, columns ...: 2 r normalisations in all."""
        matrices = n * self.hc_mult**2
        sums = 2 * self.hc_sinkhorn_iters - 1
        return (
            Part(
                name="sinkhorn",
                kind="elementwise",
                flops=(POSITIVE + NORMALISED * sums) * matrices,
                inner_input_bytes=matrices * step.activation_bytes,
                output_bytes=matrices * step.activation_bytes,
                operations=2 + 3 * sums,
            ),
        )
