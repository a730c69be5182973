"""Grouped-query attention to blocks of tokens that an indexer chooses: what MSA and QSA share.

Letters: N = B T tokens, S cached tokens, D hidden, H query heads, K key-value heads, d head size,
Hi heads of the indexer, di their size, ri their rotated elements, pairs of a query and a key that
is attended to, scored pairs of the indexer. Each layer keeps one index key of di a token, a side
cache beside keys and values.
"""

from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar, Self

from pydantic.dataclasses import dataclass

from costmodel.errors import InputError
from costmodel.layers.attention import Attention, QkNorm
from costmodel.layers.attention_core import core
from costmodel.layers.attention_rope import rope
from costmodel.layers.base import Count, LayerKind, Width
from costmodel.layers.block_choice import blocks_letter
from costmodel.layers.indexer import keys_of_pairs
from costmodel.layers.letters import Letter
from costmodel.layers.mesh import Mesh
from costmodel.layers.numbers import Number, smaller
from costmodel.layers.operator import INDEX_BYTES, Operator, Step
from costmodel.layers.primitives import linear
from costmodel.layers.site import Site
from costmodel.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class IndexedAttention(LayerKind):
    """H query heads over K key-value heads, to the blocks that Hi index heads choose."""

    num_attention_heads: Count  # H
    num_key_value_heads: Count  # K
    head_dim: Width  # d
    qk_norm: QkNorm = "head"  # as of Attention
    rotary_dim: int | None = None  # rotated elements of a head; default: d
    attention_bias: bool = False  # of the query, key and value projections
    output_gate: bool = False  # a sigmoid for each element of the result, of a wider projection
    index_n_heads: Count  # Hi
    index_head_dim: Width  # di
    source: ClassVar[str]

    def __post_init__(self) -> None:
        """The rules of attention itself, and those of the choice."""
        _ = self.grouped
        self.check_choice()

    @abstractmethod
    def check_choice(self) -> None:
        """Rules between the fields of the choice."""

    @property
    @abstractmethod
    def most_chosen(self) -> int:
        """Tokens that a query attends to at most."""

    @property
    @abstractmethod
    def choices(self) -> int:
        """Choices that a query makes: one of each key-value head, or one of all heads."""

    @abstractmethod
    def chosen_blocks(self, step: Step) -> Number:
        """Blocks that each choice of a query names at most."""

    @abstractmethod
    def pairs_of_first(self, tokens: Number) -> Number:
        """Attended pairs of the first `tokens` tokens of a sequence and one head, causal."""

    @abstractmethod
    def scored(self, step: Step) -> Letter:
        """`scored`: pairs of a sequence that each index head scores."""

    @abstractmethod
    def index_rope(self, site: Site, step: Step) -> Operator:
        """Norm and rotation before the scores, and the write of the index key."""

    @abstractmethod
    def index_select(self, site: Site, step: Step) -> Operator:
        """Scores, and the choice of the best blocks."""

    @property
    def grouped(self) -> Attention:
        """The same layer without an indexer: attention to all tokens."""
        return Attention(
            num_attention_heads=self.num_attention_heads,
            num_key_value_heads=self.num_key_value_heads,
            head_dim=self.head_dim,
            qk_norm=self.qk_norm,
            rotary_dim=self.rotary_dim,
            attention_bias=self.attention_bias,
            output_gate=self.output_gate,
        )

    def dense_twin(self) -> Attention:
        """The same layer without an indexer."""
        return self.grouped

    @property
    def index_rotated(self) -> int:
        """ri: as many elements as those of a head, where an index head has so many."""
        return min(self.grouped.rotated, self.index_head_dim)

    def split(self, mesh: Mesh) -> Self:
        """H / tp and K / tp heads with the choices of these; one choice of all heads is on all."""
        part = self.grouped.split(mesh)
        heads = self.index_n_heads if self.choices == 1 else part.num_key_value_heads
        return replace(
            self,
            num_attention_heads=part.num_attention_heads,
            num_key_value_heads=part.num_key_value_heads,
            index_n_heads=heads,
        )

    def kv_token_bytes(self, step: Step) -> int:
        """One key and one value of d for each of K heads, and the index key of di."""
        return self.grouped.kv_token_bytes(step) + self.side_token_bytes(step)

    def side_token_bytes(self, step: Step) -> int:
        """Of the index key; in a quantised cache it has a scale."""
        return step.kv_dtype.row_bytes(self.index_head_dim)

    def attended_pairs(self, step: Step) -> Number:
        """Query-key pairs of one sequence and one head.

        `full` counts T min(S + T, the most that a query attends to), as a kernel that gathers as
        many tokens for every query does.
        """
        if step.attention_flops == "full":
            return step.new_tokens * smaller(step.cached + step.new_tokens, self.most_chosen)
        return self._causal_pairs(step)

    def read_tokens(self, step: Step) -> Number:
        """Cached tokens of a sequence that a key-value head reads at most.

        Exact for one new token. Queries of neighbouring tokens choose alike, and may read less.
        """
        return smaller(step.cached, self._causal_pairs(step) - step.new_tokens)

    def _causal_pairs(self, step: Step) -> Number:
        held = step.cached + step.new_tokens
        return self.pairs_of_first(held) - self.pairs_of_first(step.cached)

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """Those of grouped-query attention, and Hi, di, ri, scored."""
        own = self.grouped.letters(operator, step)
        return (
            *(letter for letter in own if letter.name != "pairs"),
            blocks_letter(step, self.attended_pairs(step), self.most_chosen),
            Letter("Hi", self.index_n_heads, "heads of the indexer"),
            Letter("di", self.index_head_dim, "head size of the indexer"),
            Letter("ri", self.index_rotated, "rotated elements of an index head"),
            self.scored(step),
        )

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """qkv, index_qk, index_rope, index_select, rope, core, (gate), output."""
        grouped, n = self.grouped, step.tokens
        h, k, d = self.num_attention_heads, self.num_key_value_heads, self.head_dim
        read = self.read_tokens(step)
        chosen = n * self.choices * self.chosen_blocks(step)
        return [
            grouped.qkv(site, step),
            self._index_qk(site, step),
            self.index_rope(site, step),
            self.index_select(site, step),
            rope(grouped, site, step),
            core(
                site,
                step,
                pairs=self.attended_pairs(step),
                heads=h,
                kv_heads=k,
                key_dim=d,
                value_dim=d,
                keys=keys_of_pairs(step, self._causal_pairs(step)),
                kv_read_bytes=step.batch * read * grouped.kv_token_bytes(step),
                input_elements=n * (h * d + 2 * k * d)
                + chosen * INDEX_BYTES // step.activation_bytes,
                output_elements=n * h * d,
                operations=2,  # the gather, attention
                formula="2 B pairs H (d + d)",
                source=self.source,
            ),
            *((grouped.gate(site, step),) if self.output_gate else ()),
            grouped.output(site, step),
        ]

    def _index_qk(self, site: Site, step: Step) -> Operator:
        heads, size = self.index_n_heads, self.index_head_dim
        return linear(
            "attention.index_qk",
            site,
            step,
            inputs=site.hidden_size,
            outputs=(heads + 1) * size,
            group="attention",
            matrix_rows=(heads * size, size),
            summary="Queries of the indexer's heads and the one key that all of them score",
            formula="2 N D (Hi + 1) di",
            source=self.source,
        )

    def check_multiple(self, field: str, of: str) -> None:
        """Refuses a field that is no multiple of another.

        Raises:
            InputError: It is not.
        """
        value, unit = getattr(self, field), getattr(self, of)
        if value % unit:
            raise InputError(f"{field}={value}: is not a multiple of {of}={unit}")
