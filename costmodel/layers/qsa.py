"""QSA: attention to the best groups of r tokens by pooled keys, one choice of all heads.

Letters: as in costmodel/layers/indexed_attention.py; r tokens of a group, whole groups held. The
index keys of a whole group are averaged, normed and rotated to one pooled key; a group's score is
the sum over heads of relu(query key). A query attends to the best groups, `index_budget` tokens,
and to the tokens of the group that is not whole yet. As in transformers the side cache holds the
keys of tokens, which a step pools anew; pooled ones would be r times fewer bytes to keep and read.
Source: Qwen3.8-Flash-Next, transformers 5.24 (`modeling_qwen4_exp`).
"""

from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from costmodel.layers.base import Count, MixerKind
from costmodel.layers.block_choice import groups_seen, priced_groups, tail_pairs
from costmodel.layers.indexed_attention import IndexedAttention
from costmodel.layers.indexer import logit_bytes
from costmodel.layers.kernel_shape import Attend
from costmodel.layers.letters import Letter
from costmodel.layers.numbers import Number, smaller
from costmodel.layers.operator import INDEX_BYTES, Operator, Part, Step, Weight
from costmodel.layers.primitives import RMS_NORM, ROTARY, vector
from costmodel.layers.site import Site
from costmodel.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PooledKeyAttention(IndexedAttention, MixerKind):
    """Attention to chosen groups of tokens (QSA): `index_budget` tokens in groups of r."""

    kind: Literal["qsa"] = "qsa"
    index_budget: Count  # tokens of whole groups that a query attends to
    index_compress_ratio: Count  # r
    source: ClassVar[str] = "transformers 5.24, modeling_qwen4_exp"

    def check_choice(self) -> None:
        """The budget is of whole groups."""
        self.check_multiple("index_budget", "index_compress_ratio")

    @property
    def most_chosen(self) -> int:
        """The budget, and the r - 1 tokens of a group that is not whole."""
        return self.index_budget + self.index_compress_ratio - 1

    @property
    def choices(self) -> int:
        """One of all heads."""
        return 1

    @property
    def topk(self) -> int:
        """Groups that are chosen."""
        return self.index_budget // self.index_compress_ratio

    def chosen_blocks(self, step: Step) -> Number:
        """The groups of the budget, or all that are whole; the tail needs no name."""
        return smaller(self._groups(step), self.topk)

    def pairs_of_first(self, tokens: Number) -> Number:
        """The group that is not whole is read beside the chosen ones."""
        return tail_pairs(tokens, self.index_compress_ratio, self.topk)

    def _groups(self, step: Step) -> Number:
        """Whole groups of a sequence."""
        return (step.cached + step.new_tokens) // self.index_compress_ratio

    def scored(self, step: Step) -> Letter:
        """Pairs of a query and a whole group up to it."""
        reach = " held" if step.attention_flops == "full" else " up to itself"
        what = f"a new token with all whole groups of {self.index_compress_ratio}{reach}"
        return Letter(
            "scored",
            groups_seen(step, self.index_compress_ratio),
            f"pairs of a sequence that an index head scores: {what}",
        )

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """Those of both attentions, and the groups held."""
        groups = Letter("groups", self._groups(step), "whole groups of a sequence")
        ratio = Letter("r", self.index_compress_ratio, "tokens of a group")
        return (*super().letters(operator, step), groups, ratio)

    def logits_bytes(self, step: Step) -> Number:
        """Of the scores of all whole groups, summed over heads: of `logit_bytes` each."""
        return step.tokens * self._groups(step) * logit_bytes(step)

    def index_rope(self, site: Site, step: Step) -> Operator:
        """RMSNorm and rotation of Hi queries; the write of the key as it is."""
        n, a, size = step.tokens, step.activation_bytes, self.index_head_dim
        queries, key = n * self.index_n_heads * size, n * size
        rotated = n * self.index_n_heads * self.index_rotated
        weights = (vector("q_norm", "norm", size),)
        parts = [
            Part(
                name="q_norm",
                kind="norm",
                flops=RMS_NORM * queries,
                weight_bytes=sum(weight.stored_bytes(step) for weight in weights),
                inner_input_bytes=queries * a,
                inner_output_bytes=queries * a,
            )
        ]
        if self.index_rotated:
            parts.append(
                Part(
                    name="rotary",
                    kind="elementwise",
                    flops=ROTARY * rotated,
                    inner_input_bytes=queries * a,
                    inner_output_bytes=queries * a,
                )
            )
        parts.append(
            Part(
                name="cache_write",
                kind="elementwise",
                kv_written_bytes=n * self.side_token_bytes(step),
                input_bytes=(queries + key) * a,
                output_bytes=(queries + key) * a,
            )
        )
        return site.operator(
            "attention.index_rope",
            kind="elementwise",
            parts=tuple(parts),
            weights=weights,
            summary="Norm and rotation of the indexer's queries, and the write of its key to the"
            " side cache",
            formula=f"{RMS_NORM} N Hi di + {ROTARY} N Hi ri",
            source=self.source,
        )

    def _pool(self, step: Step, norm: Weight) -> Part:
        """The mean key of each whole group, its norm and rotation, of all that are held.

        Counts r + 1 an element of a mean, and 4 for the norm and 3 for the rotation.
        """
        size, a = self.index_head_dim, step.activation_bytes
        means = step.batch * self._groups(step) * size
        turned = step.batch * self._groups(step) * self.index_rotated
        return Part(
            name="pool",
            kind="elementwise",
            flops=(self.index_compress_ratio + 1 + RMS_NORM) * means + ROTARY * turned,
            weight_bytes=norm.stored_bytes(step),
            kv_read_bytes=step.batch * step.cached * self.side_token_bytes(step),
            input_bytes=step.tokens * size * a,
            inner_output_bytes=means * a,
            operations=3,
        )

    def index_select(self, site: Site, step: Step) -> Operator:
        """Pooled keys, scores of all whole groups summed over heads, and the best groups.

        Counts 2 di FLOPs a pair and head, and one for the sum over heads; compares one a pair.
        The scores of a prompt, T of all groups, pass between sum and choice. Leaves out: the scores
        of each head, which a kernel sums as it makes them.
        """
        n, a, heads, size = (
            step.tokens,
            step.activation_bytes,
            self.index_n_heads,
            self.index_head_dim,
        )
        groups, scored = (
            self._groups(step),
            step.batch * groups_seen(step, self.index_compress_ratio),
        )
        norm, logits = vector("k_norm", "norm", size), self.logits_bytes(step)
        return site.operator(
            "attention.index_select",
            kind="selection",
            parts=(
                self._pool(step, norm),
                Part(
                    name="scores",
                    kind="attention",
                    flops=2 * scored * heads * size,
                    input_bytes=n * heads * size * a,
                    inner_input_bytes=step.batch * groups * size * a,
                    shape=Attend(
                        batch=step.batch,
                        heads=heads,
                        kv_heads=1,
                        head_dim=size / 2,  # keys, and no values
                        queries=step.new_tokens,
                        keys=priced_groups(step, self.index_compress_ratio),
                    ),
                ),
                Part(
                    name="sum",
                    kind="elementwise",
                    flops=scored * heads,
                    inner_output_bytes=logits,
                    operations=2,  # relu, and the sum
                ),
                Part(
                    name="top_k",
                    kind="selection",
                    compares=scored,
                    inner_input_bytes=logits,
                    output_bytes=n * self.chosen_blocks(step) * INDEX_BYTES,
                    operations=2,
                ),
            ),
            weights=(norm,),
            summary="Pooled keys, the score of every whole group up to a query, and the"
            " choice of the best groups",
            formula=f"B groups (r + {1 + RMS_NORM}) di + {ROTARY} B groups ri + 2 B scored Hi di"
            " + B scored Hi; compares: B scored",
            source=self.source,
        )
