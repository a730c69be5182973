"""Hashed n-gram tables (Engram; the n-gram PLE of Qwen): rows that the last token ids address.

Letters: N tokens, D hidden, c streams, Q columns = rows read per token and layer, d row width, Kc
kernel of the convolution. Of each order from 2 to the largest, and by each of its hash heads, one
row of d is read; all Q together are projected to c keys and one value of D. Each key, against the
hidden state, gates the value; a convolution over the tokens may follow.
Source: Engram, arXiv 2601.07372, section 2; field names of the configurations that ship it.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError, shown
from costmodel.layers.base import Count, MemoryKind, Position, Size, Width
from costmodel.layers.letters import Letter, sum_of
from costmodel.layers.ngram_gate import conv, gate
from costmodel.layers.numbers import Number
from costmodel.layers.operator import INDEX_BYTES, Buffer, Operator, Part, Step, Weight
from costmodel.layers.primes import consecutive_primes
from costmodel.layers.primitives import linear
from costmodel.layers.site import Site
from costmodel.layers.touched import Touched
from costmodel.strict import STRICT

SOURCE = "arXiv 2601.07372, section 2"
MAX_COLUMNS = 4096  # of all layers of the kind: each has a prime and an expectation of its own


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Ngram(MemoryKind):
    """Tables of n-grams at the head of some blocks: a table a layer, its rows known from token ids.

    The columns of a table have P_1, P_2, ... rows: consecutive primes from `vocab_size_base` on,
    which no other layer of the kind uses again. `num_embeddings` states the rows of each layer
    where a configuration does; they are no fewer than its primes sum up to.

    `streams` is the number of residual streams of the published layer (hyper-connections). A model
    has one stream here: its c keys gate that stream, and the c gated values are added up. Then
    parameters and products are those of the published layer. With `per_stream` the model has its c
    streams (`gated_residual`): each is gated by itself and gets its own value back.
    """

    kind: Literal["ngram"] = "ngram"
    position: ClassVar[Position] = "before_attention"
    attribute: ClassVar[str] = "ngram"
    addressed_by: ClassVar[Literal["scores", "tokens"]] = "tokens"
    layers: str
    max_ngram_size: Annotated[int, Field(ge=2, le=8)]  # the largest order
    num_heads: Annotated[  # hash heads of an order
        int, Field(ge=1, le=64), Size(chosen=True, label="Hash heads of an order")
    ]
    vocab_size_base: Annotated[
        int, Field(ge=2, le=2**30), Size(sets="parameters", label="Rows of a column, at least")
    ]
    num_embeddings: tuple[Annotated[int, Field(ge=2, le=2**40)], ...] | None = None  # by layer
    divisible_by: Count = 1  # the rows of a table are rounded up to a multiple
    head_dim: Annotated[Width, Size(step=32, label="Row width")]  # d
    streams: Annotated[int, Field(ge=1, le=16)] = 1  # c
    bias: bool = False  # of the projections to keys and value
    conv_kernel: Annotated[int, Field(ge=0, le=16)] = 0  # Kc; 0: no convolution
    per_stream: bool = False  # reads and writes each of the model's c streams

    @property
    def orders(self) -> tuple[int, ...]:
        """The order of each column: that of its n-grams."""
        return tuple(
            order for order in range(2, self.max_ngram_size + 1) for _ in range(self.num_heads)
        )

    @property
    def past_ids(self) -> int:
        """The ids before a new token that its longest n-gram holds."""
        return self.max_ngram_size - 1

    @property
    def kept_tokens(self) -> int:
        """How many past tokens of a sequence the dilated convolution reaches."""
        return max(0, self.conv_kernel - 1) * self.max_ngram_size

    def state_bytes(self, hidden_size: int, step: Step) -> int:
        """What the convolution reaches of past tokens: (Kc - 1) largest order x c D elements."""
        return self.kept_tokens * self.streams * hidden_size * step.activation_bytes

    def columns(self, num_layers: int) -> tuple[tuple[int, ...], ...]:
        """The rows of each column of each layer's table: primes, in order of layers and orders."""
        each = len(self.orders)
        primes = consecutive_primes(self.vocab_size_base, num_layers * each)
        return tuple(primes[i * each : (i + 1) * each] for i in range(num_layers))

    def table_rows(self, num_layers: int) -> tuple[int, ...]:
        """The rows of each layer's table: stated, or those of its columns, rounded up."""
        if self.num_embeddings is not None:
            return self.num_embeddings
        multiple = self.divisible_by
        return tuple(-(-sum(rows) // multiple) * multiple for rows in self.columns(num_layers))

    def check(self, num_layers: int, hidden_size: int) -> None:
        """Each layer has a table, in which all its columns find room."""
        del hidden_size
        columns = num_layers * len(self.orders)
        if columns > MAX_COLUMNS:
            raise InputError(
                f"memory.num_heads={self.num_heads}: makes {columns:,} columns in {num_layers:,}"
                f" layers; at most {MAX_COLUMNS:,} are costed"
            )
        stated = self.num_embeddings
        if stated is None:
            return
        if len(stated) != num_layers:
            raise InputError(
                f"memory.num_embeddings={shown(stated)}: states {len(stated)} tables;"
                f" memory.layers={shown(self.layers)} has {num_layers}"
            )
        for rows, primes in zip(stated, self.columns(num_layers), strict=True):
            if rows < sum(primes):
                raise InputError(
                    f"memory.num_embeddings={rows}: is less than the {sum(primes)} rows of the"
                    f" {len(primes)} primes from {primes[0]} on"
                )

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """Q, d, c, Kc."""
        del operator, step
        return (
            Letter("Q", len(self.orders), "columns: rows read per token"),
            Letter("d", self.head_dim, "row width"),
            Letter("c", self.streams, "residual streams: keys and gates of a token"),
            Letter("Kc", self.conv_kernel, "kernel of the convolution"),
        )

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """Hash and rows of each layer by itself, since their tables differ; project, gate, conv."""
        operators = []
        tables = zip(
            site.layers, self.columns(site.count), self.table_rows(site.count), strict=True
        )
        for layer, columns, rows in tables:
            alone = Site.of((layer,), site.hidden_size, site.layer_kind)
            operators += [self._hash(alone, step), self._rows(alone, step, columns, rows)]
        d, c = site.hidden_size, self.streams
        operators.append(
            linear(
                "ngram.project",
                site,
                step,
                inputs=len(self.orders) * self.head_dim,
                outputs=d * (c + 1),
                group="memory_projections",
                bias=self.bias,
                summary="Projection of the rows that a token read to a key of each stream and one"
                " value",
                formula=sum_of("2 N Q d D (c + 1)", self.bias and "N D (c + 1)"),
                source=SOURCE,
            )
        )
        sums = not self.per_stream
        operators.append(
            gate(site, step, streams=c, sums=sums and not self.conv_kernel, wide=not sums)
        )
        if self.conv_kernel:
            operators.append(
                conv(
                    site,
                    step,
                    streams=c,
                    kernel=self.conv_kernel,
                    dilation=self.max_ngram_size,
                    sums=sums,
                )
            )
        return operators

    def _hash(self, site: Site, step: Step) -> Operator:
        """Rows from the ids of n-grams: integer multiplies, xors and remainders, no FLOPs.

        Of each place of an n-gram a factor is kept, of each column its prime and its first row.
        Leaves out: a table that maps ids to fewer, normalised ones before they are hashed.
        """
        n, reads = step.tokens, len(self.orders)
        window = n + step.batch * self.past_ids
        buffers = tuple(
            Buffer(name=name, elements=elements, element_bytes=INDEX_BYTES)
            for name, elements in (
                ("factors", self.max_ngram_size),
                ("moduli", reads),
                ("starts", reads),
            )
        )
        return site.operator(
            "ngram.hash",
            kind="selection",
            parts=(
                Part(
                    name="hash",
                    kind="selection",
                    input_bytes=window * INDEX_BYTES,
                    index_bytes=sum(buffer.elements for buffer in buffers) * INDEX_BYTES,
                    output_bytes=n * reads * INDEX_BYTES,
                    routing=True,
                ),
            ),
            buffers=buffers,
            summary="A row of each column: the hash of the last token ids, modulo the column's"
            " prime",
            formula="0",
            source=SOURCE,
        )

    def _rows(self, site: Site, step: Step, columns: tuple[int, ...], rows: int) -> Operator:
        """Q rows of d a token, side by side; they are copied, so that there are no FLOPs."""
        n, reads = step.tokens, len(self.orders)
        distinct = self._distinct(columns, step)
        table = Weight(
            name="weight",
            group="memory_values",
            rows=rows,
            cols=self.head_dim,
            active_rows=reads,
        )
        return site.operator(
            "ngram.rows",
            kind="gather",
            parts=(
                Part(
                    name="rows",
                    kind="gather",
                    row_bytes=distinct * table.row_bytes(step),
                    input_bytes=n * reads * INDEX_BYTES,
                    output_bytes=n * reads * self.head_dim * step.activation_bytes,
                ),
            ),
            weights=(table,),
            touched=Touched(
                kind="rows",
                distinct=distinct,
                population=rows,
                chosen_by="ngram.hash",
                orders=tuple(range(2, self.max_ngram_size + 1)),
            ),
            summary="The rows that a token's n-grams address, one of each column",
            formula="0; bytes: each distinct row of d once, of a column of P rows"
            " P (1 - (1 - 1/P)^N) if no n-gram comes twice",
            source=SOURCE,
        )

    def _distinct(self, columns: tuple[int, ...], step: Step) -> Number:
        """Expected distinct rows of a table: the sum over its columns, which share no row."""
        distinct: Number = 0
        for rows, order in zip(columns, self.orders, strict=True):
            distinct = distinct + step.routing.expected_distinct_hashed(
                rows, step.tokens, order=order
            )
        return distinct
