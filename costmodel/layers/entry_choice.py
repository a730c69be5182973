"""The choice of compressed entries: the lightning indexer over one key of each entry.

Letters: N = B T tokens, d width of an entry, Hi heads of the indexer, di their size, r rotated
elements, made entries of a step, scored pairs of a query and an entry that is whole by then. As in
DSA (`indexer.py`), but a key stands for m tokens. It is made by a compressor of its own, which
rotates it (DeepSeek-V4), or it is a projection of the entry (V4.1). Layers of V4.1 share entries,
keys and choices.
Candidates: one layer keeps the best t blocks of b entries of each query by their largest score, the
newest block among them; indexers behind it score the entries of these alone.
Sources: DeepSeek-V4, transformers 5.24 (`modeling_deepseek_v4`); V4.1, transformers, main branch
(`modeling_deepseek_v41`).
"""

from dataclasses import dataclass

from costmodel.layers.block_choice import (
    blocks_of_groups,
    candidates_seen,
    groups_seen,
    priced_pairs,
)
from costmodel.layers.compressor import SOURCE, Compressor
from costmodel.layers.indexer import Indexer
from costmodel.layers.letters import Letter
from costmodel.layers.numbers import Number, smaller
from costmodel.layers.operator import INDEX_BYTES, Operator, Part, Step, Weight, causal
from costmodel.layers.primitives import MULTIPLY_ADD, RMS_NORM, ROTARY, vector
from costmodel.layers.site import Site

SOURCE_41 = "transformers, modeling_deepseek_v41"


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryChoice:
    """An indexer over entries."""

    indexer: Indexer
    ratio: int  # m
    blocks: tuple[int, int] | None = None  # t, b of candidates; None: all entries are
    chooses_blocks: bool = False  # chooses the candidates itself

    @property
    def _within(self) -> tuple[int, int] | None:
        """The blocks in which it scores entries; None: it scores all."""
        return None if self.chooses_blocks else self.blocks

    def _whole(self, step: Step) -> Number:
        return (step.cached + step.new_tokens) // self.ratio

    def scored(self, step: Step) -> Number:
        """Pairs of a sequence that a head scores."""
        if self._within is None:
            return groups_seen(step, self.ratio)
        topk, block = self._within
        return candidates_seen(step, self.ratio, block, topk)

    def held(self, step: Step) -> Number:
        """Entries that a query scores at most."""
        whole = self._whole(step)
        return whole if self._within is None else smaller(whole, self._within[0] * self._within[1])

    def letters(self, step: Step) -> tuple[Letter, ...]:
        """Those of the indexer; blocks, where it chooses candidates."""
        held = " held" if step.attention_flops == "full" else " up to itself"
        words = f"each new token with all whole entries{held}"
        if self._within is not None:
            words += ", of the candidates"
        letters = self.indexer.letters(self.scored(step), words)
        if not self.chooses_blocks or self.blocks is None:
            return letters
        block = self.blocks[1]
        pairs = blocks_of_groups(step, self.ratio, block)
        what = f"pairs of a new token of a sequence and a block of {block} entries{held}"
        return (*letters, Letter("blocks", pairs, what))

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """index_query, index_weights, index_rope, index_select."""
        made = self._whole(step) - step.cached // self.ratio
        pairs = self.scored(causal(step))
        cached: Number = step.cached // self.ratio
        if self._within is not None:
            cached = smaller(cached, pairs - made)  # exact for one new token
        return [
            self.indexer.query(site, step),
            self.indexer.weights(site, step),
            self._rope(site, step),
            self.indexer.select(
                site,
                step,
                scored=self.scored(step),
                cached=cached,
                new=made,
                held=self.held(step),
                priced=priced_pairs(step, pairs),
                what="entry",
                blocks=self._block_choice(step),
            ),
        ]

    def _block_choice(self, step: Step) -> Part | None:
        """The largest score of each block of entries, and the best blocks."""
        if not self.chooses_blocks or self.blocks is None:
            return None
        topk, block = self.blocks
        pairs = self.scored(step) + blocks_of_groups(step, self.ratio, block)
        blocks = smaller((self._whole(step) + block - 1) // block, topk)
        return Part(
            name="blocks",
            kind="selection",
            compares=step.batch * pairs,
            inner_input_bytes=self.indexer.logits_bytes(step, self._whole(step)),
            output_bytes=step.tokens * blocks * INDEX_BYTES,
            operations=3,
        )

    def _rope(self, site: Site, step: Step) -> Operator:
        """Rotation of the queries; keys are rotated as they are made."""
        indexer = self.indexer
        passed = step.tokens * indexer.heads * indexer.head_dim * step.activation_bytes
        return site.operator(
            "attention.index_rope",
            kind="elementwise",
            parts=(
                Part(
                    name="rotary",
                    kind="elementwise",
                    flops=ROTARY * step.tokens * indexer.heads * indexer.rotated,
                    input_bytes=passed,
                    output_bytes=passed,
                ),
            ),
            summary="Rotation of the indexer's queries",
            formula=f"{ROTARY} N Hi r",
            source=SOURCE,
        )


def projected_keys(indexer: Indexer, entries: Compressor, site: Site, step: Step) -> Operator:
    """`index_key`: the keys of the new entries, each a projection of its entry, before rotation.

    Its weights are read in every step, whether an entry becomes whole or not.
    """
    a, made = step.activation_bytes, step.batch * entries.made(step)
    size, elements = indexer.head_dim, made * indexer.head_dim
    weight = Weight(
        name="weight",
        group="attention",
        rows=size,
        cols=entries.width,
        leaf=site.named("attention.index_key"),
    )
    norm = vector("norm", "norm", size)
    return site.operator(
        "attention.index_key",
        kind="matmul",
        parts=(
            Part(
                name="entry_gemm",
                kind="matmul",
                flops=MULTIPLY_ADD * elements * entries.width,
                weight_bytes=weight.stored_bytes(step),
                input_bytes=made * entries.width * a,
                inner_output_bytes=elements * a,
            ),
            Part(
                name="norm",
                kind="norm",
                flops=RMS_NORM * elements,
                weight_bytes=norm.stored_bytes(step),
                inner_input_bytes=elements * a,
                inner_output_bytes=elements * a,
            ),
            Part(
                name="rotary",
                kind="elementwise",
                flops=ROTARY * made * indexer.rotated,
                inner_input_bytes=elements * a,
                inner_output_bytes=elements * a,
            ),
            Part(
                name="cache_write",
                kind="elementwise",
                kv_written_bytes=made * indexer.key_bytes(step),
                inner_input_bytes=elements * a,
                output_bytes=elements * a,
            ),
        ),
        weights=(weight, norm),
        summary="The indexer's keys of the entries that become whole: projection, norm, rotation,"
        " and the write to the side cache",
        formula=f"{MULTIPLY_ADD} B made d di + {RMS_NORM} B made di + {ROTARY} B made r",
        source=SOURCE_41,
    )
