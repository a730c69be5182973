"""Attention to a window of tokens and to compressed entries of the past: CSA and HCA.

Letters: N = B T tokens, S cached tokens, D hidden, H heads, d head size, W window, m tokens of an
entry, Hi heads of the indexer, di their size, pairs of a query and a vector that it attends to,
scored pairs of the indexer and an entry. All else: `compressor.py`, `shared_vector.py`.
A query attends to the last W tokens, and to the entries that are whole by then: to all of them, one
for each m = 128 tokens (heavily compressed attention, HCA), or to the `index_topk` that an indexer
chooses, one for each m = 4 (compressed sparse attention, CSA). The indexer scores keys that a
compressor of its own makes of the same tokens. Without `compress_ratio` there is the window alone.
In DeepSeek-V4.1 few layers own entries and few an indexer; others read theirs (`entry_choice.py`).
Sources: DeepSeek-V4, transformers 5.24 (`modeling_deepseek_v4`); V4.1, transformers, main branch
(`modeling_deepseek_v41`), and its published sums of parameters.
"""

from dataclasses import replace
from typing import ClassVar, Literal, Self

from pydantic.dataclasses import dataclass

from costmodel.layers.attention import Tokens
from costmodel.layers.attention_core import attended_pairs, read_tokens
from costmodel.layers.base import Count, Kept, MixerKind, Width
from costmodel.layers.block_choice import groups_seen, priced_pairs
from costmodel.layers.compressed_letters import compressed_letters
from costmodel.layers.compressed_rules import WITHOUT_ENTRIES, check_compressed
from costmodel.layers.compressor import Compressor
from costmodel.layers.entry_choice import EntryChoice, projected_keys
from costmodel.layers.indexer import Indexer
from costmodel.layers.letters import Letter
from costmodel.layers.mesh import Mesh
from costmodel.layers.numbers import Number, smaller
from costmodel.layers.operator import INDEX_BYTES, Operator, Step, causal
from costmodel.layers.shared_vector import SharedVector
from costmodel.layers.site import Site
from costmodel.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CompressedAttention(MixerKind):
    """A window of tokens, and with a `compress_ratio` one entry for each m tokens before.

    Leaves out: that V4.1 keeps entries in fewer bits than its window (one format serves both), and
    may run the layers behind its last owner of entries on the last tokens of a prompt alone.
    """

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
    reads_of_other: ClassVar[tuple[str, str]] = (
        "shared_entries",
        "entries of its own and equal compress_ratio, head_dim and index_head_dim",
    )
    sparse_words: ClassVar[str] = "attention to a window and compressed entries"

    def __post_init__(self) -> None:
        """Heads divide into groups, rotated elements fit; entries and an indexer have their sizes.

        Raises:
            InputError: A rule is broken.
        """
        check_compressed(self)

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
            query_norm=self.query_norm,
        )

    @property
    def compressor(self) -> Compressor | None:
        """What makes the entries; None: it has none of its own."""
        return self._compressor("compress", self.head_dim, "compressed entries")

    @property
    def index_compressor(self) -> Compressor | None:
        """What makes the keys of the indexer; None: nothing, or a projection of the entries."""
        if self.index_head_dim is None or self.keys_of_entries:
            return None
        return self._compressor("index_compress", self.index_head_dim, "indexer's keys of entries")

    def _compressor(self, name: str, width: int, what: str) -> Compressor | None:
        if self.compress_ratio is None or self.shared_entries:
            return None
        return Compressor(
            name=name,
            width=width,
            ratio=self.compress_ratio,
            overlapping=self.overlapping,
            rotated=self.qk_rope_head_dim,
            what=what,
            position_bias=self.position_bias,
        )

    @property
    def indexer(self) -> Indexer | None:
        """An indexer of its own; None: a query attends to all entries, or to another's choice."""
        if self.index_topk is None or self.shared_index:
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

    @property
    def choice(self) -> EntryChoice | None:
        """Its own choice of entries."""
        if self.indexer is None or self.compress_ratio is None:
            return None
        blocks = None
        if self.candidate_topk_blocks is not None and self.candidate_block_size is not None:
            blocks = self.candidate_topk_blocks, self.candidate_block_size
        return EntryChoice(
            indexer=self.indexer,
            ratio=self.compress_ratio,
            blocks=blocks,
            chooses_blocks=blocks is not None and not self.shared_entries,
        )

    @property
    def reads_other_cache(self) -> bool:
        """Whether its entries are another layer's; the window is its own."""
        return self.shared_entries

    def can_read(self, other: MixerKind) -> bool:
        """Whether it could attend to the entries of another layer, and score its keys."""
        return (
            isinstance(other, CompressedAttention)
            and not other.shared_entries
            and all(
                getattr(self, field) == getattr(other, field)
                for field in ("compress_ratio", "head_dim", "index_head_dim")
            )
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
        return replace(self, sliding_window=None, **WITHOUT_ENTRIES)

    def kv_token_bytes(self, step: Step) -> int:
        """One vector of d, key and value at once; and a token's share of an entry, 1 / m of d.

        And of the indexer's key of an entry, 1 / m of di. Shares are rounded up to whole bytes;
        entries of another layer are that layer's.
        """
        entries = 0 if self.compressor is None else self.compressor.entry_bytes(step)
        return self.vector.vector_bytes(step) + self._share(entries) + self.side_token_bytes(step)

    def side_token_bytes(self, step: Step) -> int:
        """A token's share of the indexer's key of an entry, 1 / m of di, rounded up."""
        return self._share(self._key_bytes(step))

    def _key_bytes(self, step: Step) -> int:
        """Of an indexer's key of an entry of its own."""
        if self.indexer is None or self.shared_entries:
            return 0
        return self.indexer.key_bytes(step)

    def _share(self, of_entry: int) -> int:
        return -(-of_entry // (self.compress_ratio or 1))

    def kept_tokens(self, tokens: Number, step: Step) -> Number:
        """Of the window the last W vectors, unless windows are kept whole; entries of all tokens.

        An entry stands for m tokens, and is kept once it is whole.
        """
        most = self.sliding_window
        return tokens if most is None or step.window_cache == "whole" else smaller(tokens, most)

    def kept(self, tokens: Number, step: Step) -> tuple[Kept, ...]:
        """The vectors of the window; entries, and keys of them, one of each m tokens."""
        kept = [
            Kept(
                count=self.kept_tokens(tokens, step),
                each_bytes=self.vector.vector_bytes(step),
                what="vectors of the window's tokens, key and value at once",
            )
        ]
        if self.compressor is not None:
            whole = tokens // self.compressor.ratio
            kept.append(
                Kept(count=whole, each_bytes=self.compressor.entry_bytes(step), what="entries")
            )
            if self.indexer is not None:
                keys = "indexer's keys of entries"
                kept.append(Kept(count=whole, each_bytes=self._key_bytes(step), what=keys))
        return tuple(kept)

    def state_bytes(self, hidden_size: int, step: Step) -> int:
        """Values and gates of the tokens whose entries are not whole, of both compressors."""
        del hidden_size
        both = (self.compressor, self.index_compressor)
        return sum(one.state_bytes(step) for one in both if one is not None)

    def logits_bytes(self, step: Step) -> Number:
        """Of the scores of all entries that its indexer scores."""
        if self.choice is None:
            return 0
        return self.choice.indexer.logits_bytes(step, self.choice.held(step))

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
        vector, topk = self.vector, self.index_topk
        operators = vector.before(site, step)
        for compressor in (self.compressor, self.index_compressor):
            if compressor is not None:
                operators += compressor.operators(site, step)
        if self.choice is not None:
            if self.keys_of_entries and self.compressor is not None:
                operators.append(projected_keys(self.choice.indexer, self.compressor, site, step))
            operators += self.choice.operators(site, step)
        operators += vector.queries(site, step, self.kept_tokens(step.new_tokens, step))
        chosen = 0 if topk is None else step.tokens * smaller(self._entries(step), topk)
        core = vector.core(
            site,
            step,
            pairs=self.attended_pairs(step),
            keys=priced_pairs(step, self.attended_pairs(causal(step))),
            read=self.read_vectors(step),
            chosen_elements=chosen * INDEX_BYTES // step.activation_bytes,
        )
        return [*operators, core, *vector.after(site, step)]

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """H, d, q, r, g, u, pairs; m, s, w and made of a compressor; Hi, di, scored, blocks."""
        return compressed_letters(self, operator, step)
