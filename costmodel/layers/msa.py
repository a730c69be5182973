"""MSA: attention to the best blocks of b tokens, one choice of each key-value head.

Letters: as in costmodel/layers/indexed_attention.py; b tokens of a block, t blocks that are chosen,
blocks held. A block's score is the largest of its tokens' scores; the newest block is always among
the t. Every held token is scored: what a query attends to is bounded, what it scores is not.
Source: MiniMax Sparse Attention, arXiv 2606.13392; norms, rotation and the newest block's place:
transformers 5.24 (`modeling_minimax_m3_vl`).
"""

from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from costmodel.errors import InputError
from costmodel.layers.attention_core import attended_pairs
from costmodel.layers.base import Count, MixerKind
from costmodel.layers.block_choice import blocks_seen, local_block_pairs
from costmodel.layers.indexed_attention import IndexedAttention
from costmodel.layers.indexer import logit_bytes
from costmodel.layers.kernel_shape import Attend
from costmodel.layers.letters import Letter
from costmodel.layers.numbers import Number, smaller
from costmodel.layers.operator import INDEX_BYTES, Operator, Part, Step
from costmodel.layers.primitives import RMS_NORM, ROTARY, vector
from costmodel.layers.site import Site
from costmodel.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BlockSparseAttention(IndexedAttention, MixerKind):
    """Block-sparse attention (MSA): t blocks of b tokens for each query and key-value head."""

    kind: Literal["msa"] = "msa"
    index_block_size: Count  # b
    index_topk_blocks: Count  # t, the newest block among them
    source: ClassVar[str] = "arXiv 2606.13392"

    def check_choice(self) -> None:
        """Each key-value head has one index head."""
        if self.index_n_heads != self.num_key_value_heads:
            raise InputError(
                f"index_n_heads={self.index_n_heads}: is not"
                f" num_key_value_heads={self.num_key_value_heads}; each of these makes one choice"
            )

    @property
    def most_chosen(self) -> int:
        """At most t b tokens, of t blocks of b."""
        return self.index_topk_blocks * self.index_block_size

    @property
    def choices(self) -> int:
        """One of each key-value head."""
        return self.num_key_value_heads

    def chosen_blocks(self, step: Step) -> Number:
        """t, or all that are held."""
        return smaller(self._blocks(step), self.index_topk_blocks)

    def pairs_of_first(self, tokens: Number) -> Number:
        """The newest block is among the t."""
        return local_block_pairs(tokens, self.index_block_size, self.index_topk_blocks)

    def scored(self, step: Step) -> Letter:
        """All pairs of a query and a token up to itself."""
        reach = ", the whole square" if step.attention_flops == "full" else " up to itself"
        return Letter(
            "scored",
            attended_pairs(step, None),
            f"pairs of a sequence that an index head scores: a new token with all tokens{reach}",
        )

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """Those of both attentions, and the blocks that are compared."""
        reach = "held" if step.attention_flops == "full" else "up to its own"
        what = f"pairs of a new token of a sequence and a block of {self.index_block_size} {reach}"
        blocks = Letter("blocks", self._compared(step), what)
        return (*super().letters(operator, step), blocks)

    def _compared(self, step: Step) -> Number:
        """Pairs of a query of a sequence and a block that it may choose."""
        return blocks_seen(step, self.index_block_size)

    def _blocks(self, step: Step) -> Number:
        """Blocks of a sequence, the unfinished one among them."""
        return (step.cached + step.new_tokens + self.index_block_size - 1) // self.index_block_size

    def logits_bytes(self, step: Step) -> Number:
        """Of the scores of each index head with all held tokens: Hi N (S + T) of `logit_bytes`.

        Taken to stand whole at once; a kernel that takes the largest of a block as it scores
        writes b times less.
        """
        held = step.cached + step.new_tokens
        return self.index_n_heads * step.tokens * held * logit_bytes(step)

    def index_rope(self, site: Site, step: Step) -> Operator:
        """RMSNorm and rotation of Hi queries and the key, and the write of the key."""
        n, a, size = step.tokens, step.activation_bytes, self.index_head_dim
        weights = (vector("q_norm", "norm", size), vector("k_norm", "norm", size))
        heads = self.index_n_heads + 1
        elements, rotated = n * heads * size, n * heads * self.index_rotated
        parts = [
            Part(
                name="qk_norm",
                kind="norm",
                flops=RMS_NORM * elements,
                weight_bytes=sum(weight.stored_bytes(step) for weight in weights),
                inner_input_bytes=elements * a,
                inner_output_bytes=elements * a,
                operations=2,
            )
        ]
        if self.index_rotated:
            parts.append(
                Part(
                    name="rotary",
                    kind="elementwise",
                    flops=ROTARY * rotated,
                    inner_input_bytes=elements * a,
                    inner_output_bytes=elements * a,
                    operations=2,
                )
            )
        parts.append(
            Part(
                name="cache_write",
                kind="elementwise",
                kv_written_bytes=n * self.side_token_bytes(step),
                input_bytes=elements * a,
                output_bytes=elements * a,
            )
        )
        return site.operator(
            "attention.index_rope",
            kind="elementwise",
            parts=tuple(parts),
            weights=weights,
            summary="Norm and rotation of the indexer's queries and key, and the write of the key"
            " to the side cache",
            formula=f"{RMS_NORM} N (Hi + 1) di + {ROTARY} N (Hi + 1) ri",
            source=self.source,
        )

    def index_select(self, site: Site, step: Step) -> Operator:
        """Scores of all held tokens for each index head, the largest of each block, the best t.

        Counts 2 di FLOPs a pair and head; compares one a pair and head, and one a block. The
        scores of a prompt, Hi T (S + T) a sequence, pass between product and maximum, where a
        kernel that does both saves them.
        """
        n, a, heads = step.tokens, step.activation_bytes, self.index_n_heads
        held, blocks = step.cached + step.new_tokens, self._blocks(step)
        scored = step.batch * heads * attended_pairs(step, None)
        logits, best = self.logits_bytes(step), n * heads * blocks * a
        return site.operator(
            "attention.index_select",
            kind="selection",
            parts=(
                Part(
                    name="scores",
                    kind="attention",
                    flops=2 * scored * self.index_head_dim,
                    kv_read_bytes=step.batch * step.cached * self.side_token_bytes(step),
                    input_bytes=n * (heads + 1) * self.index_head_dim * a,
                    inner_output_bytes=logits,
                    shape=Attend(
                        batch=step.batch,
                        heads=heads,
                        kv_heads=1,
                        head_dim=self.index_head_dim / 2,  # keys, and no values
                        queries=step.new_tokens,
                        keys=held,
                    ),
                ),
                Part(
                    name="block_max",
                    kind="selection",
                    compares=scored,
                    inner_input_bytes=logits,
                    inner_output_bytes=best,
                ),
                Part(
                    name="top_k",
                    kind="selection",
                    compares=step.batch * heads * self._compared(step),
                    inner_input_bytes=best,
                    output_bytes=n * heads * self.chosen_blocks(step) * INDEX_BYTES,
                    operations=2,
                ),
            ),
            summary="The indexer's score of every token up to a query, the largest of each block,"
            " and the choice of the best blocks for each key-value head",
            formula="2 B scored Hi di; compares: B scored Hi + B blocks Hi",
            source=self.source,
        )
