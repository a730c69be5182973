"""Attention to a window of tokens and to compressed entries of the past: CSA and HCA.

Letters: N = B T tokens, S cached tokens, D hidden, H heads, d head size, W window, m tokens of an
entry, Hi heads of the indexer, di their size, pairs of a query and a vector that it attends to,
scored pairs of the indexer and an entry. All else: `compressor.py`, `shared_vector.py`.
A query attends to the last W tokens, and to the entries that are whole by then: to all of them, one
for each m = 128 tokens (heavily compressed attention, HCA), or to the `index_topk` that an indexer
chooses, one for each m = 4 (compressed sparse attention, CSA). The indexer scores keys that a
compressor of its own makes of the same tokens. Without `compress_ratio` there is the window alone.
Source: DeepSeek-V4, transformers 5.24 (`modeling_deepseek_v4`).
"""

from dataclasses import replace
from typing import ClassVar, Literal, Self

from pydantic.dataclasses import dataclass

from costmodel.errors import InputError
from costmodel.layers.attention import Tokens
from costmodel.layers.attention_core import attended_pairs, read_tokens
from costmodel.layers.base import Count, Kept, MixerKind, Width
from costmodel.layers.block_choice import groups_seen
from costmodel.layers.compressor import Compressor
from costmodel.layers.entry_choice import entry_choice
from costmodel.layers.indexer import Indexer, keys_of_pairs
from costmodel.layers.letters import Letter
from costmodel.layers.mesh import Mesh
from costmodel.layers.numbers import Number, larger, smaller
from costmodel.layers.operator import INDEX_BYTES, Operator, Step
from costmodel.layers.shared_vector import SharedVector
from costmodel.layers.site import Site
from costmodel.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CompressedAttention(MixerKind):
    """A window of tokens, and with a `compress_ratio` one entry for each m tokens before."""

    kind: Literal["compressed"] = "compressed"
    num_attention_heads: Count  # H
    head_dim: Width  # d: of a head, and of the one vector that is a token's key and value
    q_lora_rank: Width  # q
    qk_rope_head_dim: Width  # r: the elements of a head that are rotated
    o_groups: Count  # g: groups of heads, each with a projection of its own
    o_lora_rank: Width  # u: the width of each group's result
    sliding_window: Tokens | None = None  # W, itself in; None: all tokens
    compress_ratio: Tokens | None = None  # m; None: no entries
    overlapping: bool = False  # an entry is of 2 m tokens, those of the entry before in (CSA)
    index_topk: Count | None = None  # entries that a query attends to (CSA); None: all (HCA)
    index_n_heads: Count | None = None  # Hi
    index_head_dim: Width | None = None  # di
    # DeepSeek-V4.1
    query_norm: bool = True  # of each head, without weights
    position_bias: bool = True  # of the gates
    keys_of_entries: bool = False  # the indexer's keys are projections of entries
    shared_entries: bool = False  # of the last layer before it that has such entries of its own
    shared_index: bool = False  # takes the choice of the last layer before it that has an indexer
    candidate_topk_blocks: Count | None = None  # t: an indexer scores the best t blocks
    candidate_block_size: Count | None = None  # b: of so many entries
    sparse_words: ClassVar[str] = "attention to a window and compressed entries"

    def __post_init__(self) -> None:
        """Heads divide into groups, rotated elements fit; entries and an indexer have their sizes.

        Raises:
            InputError: A rule is broken.
        """
        if self.num_attention_heads % self.o_groups:
            raise InputError(
                f"num_attention_heads={self.num_attention_heads}: is not a multiple of"
                f" o_groups={self.o_groups}"
            )
        for field in ("head_dim", "index_head_dim"):
            size = getattr(self, field)
            if size is not None and size < self.qk_rope_head_dim:
                raise InputError(
                    f"{field}={size}: is less than qk_rope_head_dim={self.qk_rope_head_dim},"
                    " which is rotated"
                )
        if self.compress_ratio is None:
            for field in ("overlapping", "index_topk"):
                if getattr(self, field):
                    raise InputError(f"{field}={getattr(self, field)}: needs compress_ratio")
        for field in ("index_n_heads", "index_head_dim"):
            value = getattr(self, field)
            if self.index_topk is None and value is not None:
                raise InputError(f"{field}={value}: needs index_topk")
            if self.index_topk is not None and value is None:
                raise InputError(f"index_topk={self.index_topk}: needs {field}")

    @property
    def vector(self) -> SharedVector:
        """The heads, the vector that they share, and the projections around them."""
        return SharedVector(
            heads=self.num_attention_heads,
            size=self.head_dim,
            query=self.q_lora_rank,
            rotated=self.qk_rope_head_dim,
            groups=self.o_groups,
            rank=self.o_lora_rank,
        )

    @property
    def compressor(self) -> Compressor | None:
        """What makes the entries; None: there are none."""
        return self._compressor("compress", self.head_dim, "compressed entries")

    @property
    def index_compressor(self) -> Compressor | None:
        """What makes the keys of the indexer; None: there is no indexer."""
        if self.index_head_dim is None:
            return None
        return self._compressor("index_compress", self.index_head_dim, "indexer's keys of entries")

    def _compressor(self, name: str, width: int, what: str) -> Compressor | None:
        if self.compress_ratio is None:
            return None
        return Compressor(
            name=name,
            width=width,
            ratio=self.compress_ratio,
            overlapping=self.overlapping,
            rotated=self.qk_rope_head_dim,
            what=what,
        )

    @property
    def _compressors(self) -> tuple[Compressor, ...]:
        both = (self.compressor, self.index_compressor)
        return tuple(one for one in both if one is not None)

    @property
    def indexer(self) -> Indexer | None:
        """The indexer; None: a query attends to all entries."""
        if self.index_topk is None:
            return None
        assert self.index_n_heads is not None
        assert self.index_head_dim is not None
        return Indexer(
            heads=self.index_n_heads,
            head_dim=self.index_head_dim,
            topk=self.index_topk,
            query_dim=self.q_lora_rank,
            rotated=self.qk_rope_head_dim,
        )

    def split(self, mesh: Mesh) -> Self:
        """H / tp heads and g / tp groups. All GPUs have the vectors, compressors and indexer."""
        return replace(
            self,
            num_attention_heads=mesh.of_tp(self.num_attention_heads, "num_attention_heads"),
            o_groups=mesh.of_tp(self.o_groups, "o_groups"),
        )

    def dense_twin(self) -> Self | None:
        """Attention to all tokens, without entries; a layer with a window alone stays as it is."""
        if self.compress_ratio is None:
            return None
        return replace(
            self,
            sliding_window=None,
            compress_ratio=None,
            overlapping=False,
            index_topk=None,
            index_n_heads=None,
            index_head_dim=None,
        )

    def kv_token_bytes(self, step: Step) -> int:
        """One vector of d, key and value at once; and a token's share of an entry, 1 / m of d.

        And of the indexer's key of an entry, 1 / m of di. Shares are rounded up to whole bytes.
        """
        return (
            self.vector.vector_bytes(step)
            + self._share(self.compressor, step)
            + self.side_token_bytes(step)
        )

    def side_token_bytes(self, step: Step) -> int:
        """A token's share of the indexer's key of an entry, 1 / m of di, rounded up."""
        return self._share(self.index_compressor, step)

    def _share(self, compressor: Compressor | None, step: Step) -> int:
        return 0 if compressor is None else -(-compressor.entry_bytes(step) // compressor.ratio)

    def kept_tokens(self, tokens: Number, step: Step) -> Number:
        """Of the window the last W vectors, unless windows are kept whole; entries of all tokens.

        An entry stands for m tokens, and is kept once it is whole.
        """
        most = self.sliding_window
        return tokens if most is None or step.window_cache == "whole" else smaller(tokens, most)

    def kept(self, tokens: Number, step: Step) -> tuple[Kept, ...]:
        """The vectors of the window; entries, and keys of them, one of each m tokens."""
        entries = [
            Kept(
                count=tokens // one.ratio,
                each_bytes=one.entry_bytes(step),
                what=f"{one.what}, one of each {one.ratio} tokens",
            )
            for one in self._compressors
        ]
        window = Kept(
            count=self.kept_tokens(tokens, step),
            each_bytes=self.vector.vector_bytes(step),
            what="vectors of the window's tokens, key and value at once",
        )
        return (window, *entries)

    def state_bytes(self, hidden_size: int, step: Step) -> int:
        """Values and gates of the tokens whose entries are not whole, of both compressors."""
        del hidden_size
        return sum(one.state_bytes(step) for one in self._compressors)

    def logits_bytes(self, step: Step) -> Number:
        """Of the scores of all entries."""
        return 0 if self.indexer is None else self.indexer.logits_bytes(step, self._entries(step))

    def _entries(self, step: Step) -> Number:
        """Whole entries of a sequence after the step."""
        held = step.cached + step.new_tokens
        return 0 if self.compress_ratio is None else held // self.compress_ratio

    def attended_pairs(self, step: Step) -> Number:
        """Pairs of one sequence and one head: with tokens of the window, and with entries.

        `full` counts the window's square, and for every query as many entries as the last one has.
        """
        pairs = attended_pairs(step, self.sliding_window)
        if self.compress_ratio is None:
            return pairs
        return pairs + groups_seen(step, self.compress_ratio, self.index_topk)

    def read_vectors(self, step: Step) -> Number:
        """Cached vectors of a sequence that the step attends to at most: of the window, entries.

        Exact for one new token, but for an entry that it completes and does not choose.
        """
        read = read_tokens(step, self.sliding_window)
        if self.compress_ratio is None:
            return read
        entries: Number = step.cached // self.compress_ratio
        if self.index_topk is not None:
            entries = smaller(entries, step.new_tokens * self.index_topk)
        return read + entries

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """qkv_down, latent_norm, (compressor, indexer,) q_up, rope, core, unrope, output's two."""
        vector, indexer = self.vector, self.indexer
        operators = vector.before(site, step)
        if self.compressor is not None:
            operators += self.compressor.operators(site, step)
        if indexer is not None:
            assert self.index_compressor is not None
            operators += entry_choice(indexer, self.index_compressor, site, step)
        operators += vector.queries(site, step, self.kept_tokens(step.new_tokens, step))
        chosen = 0 if indexer is None else step.tokens * smaller(self._entries(step), indexer.topk)
        pairs = self.attended_pairs(replace(step, attention_flops="causal"))
        core = vector.core(
            site,
            step,
            pairs=self.attended_pairs(step),
            keys=larger(keys_of_pairs(step, pairs), (step.new_tokens + 1) // 2),
            read=self.read_vectors(step),
            chosen_elements=chosen * INDEX_BYTES // step.activation_bytes,
        )
        return [*operators, core, *vector.after(site, step)]

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """H, d, q, r, g, u, pairs; m, s, w and made of a compressor; Hi, di, scored."""
        letters = [
            Letter("H", self.num_attention_heads, "heads"),
            Letter("d", self.head_dim, "head size, and that of a token's one vector"),
            Letter("q", self.q_lora_rank, "width of the compressed query"),
            Letter("r", self.qk_rope_head_dim, "rotated elements of a head"),
            Letter("g", self.o_groups, "groups of heads with an output projection each"),
            Letter("u", self.o_lora_rank, "width of a group's result"),
            Letter("pairs", self.attended_pairs(step), self._pairs_words(step)),
        ]
        of_index = operator.leaf.startswith("attention.index_")
        compressor = self.index_compressor if of_index else self.compressor
        if compressor is not None:
            letters += [
                Letter("m", compressor.ratio, "tokens of an entry"),
                Letter(
                    "s", compressor.series, "series of values and gates: 2 where entries overlap"
                ),
                Letter("w", compressor.width, f"width of the {compressor.what}"),
                Letter("made", compressor.made(step), "entries of a sequence that become whole"),
            ]
        if self.indexer is not None and self.compress_ratio is not None:
            full = step.attention_flops == "full"
            words = f"each new token with all whole entries{' held' if full else ' up to itself'}"
            letters += self.indexer.letters(groups_seen(step, self.compress_ratio), words)
        return tuple(letters)

    def _pairs_words(self, step: Step) -> str:
        tokens = "all tokens" if self.sliding_window is None else f"{self.sliding_window} tokens"
        if step.attention_flops == "full":
            tokens = "all tokens in reach of the first, the whole square"
        entries = ""
        if self.compress_ratio is not None:
            most = "all" if self.index_topk is None else f"at most {self.index_topk}"
            entries = f", and with {most} whole entries of {self.compress_ratio} tokens"
        return (
            f"query-key pairs of a sequence and head: each new token with at most {tokens}, itself"
            f" in{entries}"
        )
