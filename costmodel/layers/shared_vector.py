"""Attention whose key and value are one vector of a token, with a grouped output projection.

Letters: N = B T tokens, D hidden, q compressed query, H heads, d size of a head and of the vector,
r rotated elements, g groups of heads, u width of a group's result.
All heads read the one vector (multi-query attention), which the cache holds once. Since values are
rotated as keys are, the result is rotated back by the query's position. Heads have a norm without
weights, and a sink. The output projection has a block for each group of H / g heads, and one matrix
behind them. Source: DeepSeek-V4, transformers 5.24 (`modeling_deepseek_v4`).
"""

from dataclasses import dataclass

from costmodel.layers.attention_core import core
from costmodel.layers.kernel_shape import Gemm
from costmodel.layers.latents import latent_norm
from costmodel.layers.letters import sum_of
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part, Step, Weight
from costmodel.layers.primitives import L2_NORM, ROTARY, linear
from costmodel.layers.site import Site

SOURCE = "transformers 5.24, modeling_deepseek_v4"


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedVector:
    """The sizes of the heads, of the vector and of the projections around them."""

    heads: int  # H
    size: int  # d
    query: int  # q
    rotated: int  # r
    groups: int  # g
    rank: int  # u
    query_norm: bool  # of each head, without weights

    def vector_bytes(self, step: Step) -> int:
        """Of the one vector of a token, or of an entry, in the cache."""
        return step.kv_dtype.row_bytes(self.size)

    def before(self, site: Site, step: Step) -> list[Operator]:
        """qkv_down, latent_norm."""
        return [
            linear(
                "attention.qkv_down",
                site,
                step,
                inputs=site.hidden_size,
                outputs=self.query + self.size,
                group="attention",
                matrix_rows=(self.query, self.size),
                summary="Projection of each token to its compressed query, and to the vector that"
                " is its key and value",
                formula="2 N D (q + d)",
                source=SOURCE,
            ),
            latent_norm(
                site, step, latent=self.size, query=self.query, formula="(d + q)", source=SOURCE
            ),
        ]

    def queries(self, site: Site, step: Step, kept: Number) -> list[Operator]:
        """q_up, rope; `kept` of the new vectors of a sequence stay in the cache."""
        return [
            linear(
                "attention.q_up",
                site,
                step,
                inputs=self.query,
                outputs=self.heads * self.size,
                group="attention",
                summary="Queries of all heads from the compressed query",
                formula="2 N q H d",
                source=SOURCE,
            ),
            self._rope(site, step, kept),
        ]

    def _rope(self, site: Site, step: Step, kept: Number) -> Operator:
        """The norm of each head's query, rotation of queries and vector, and the cache write."""
        n, a = step.tokens, step.activation_bytes
        queries, rotated = n * self.heads * self.size, n * (self.heads + 1) * self.rotated
        norm = Part(
            name="q_norm",
            kind="norm",
            flops=L2_NORM * queries,
            input_bytes=queries * a,
            inner_output_bytes=queries * a,
        )
        words = "Norm of the queries without weights, rotation" if self.query_norm else "Rotation"
        return site.operator(
            "attention.rope",
            kind="elementwise",
            parts=(
                *((norm,) if self.query_norm else ()),
                Part(
                    name="rotary",
                    kind="elementwise",
                    flops=ROTARY * rotated,
                    input_bytes=0 if self.query_norm else queries * a,
                    inner_input_bytes=(queries * self.query_norm + n * self.size) * a,
                    inner_output_bytes=n * self.size * a,
                    output_bytes=queries * a,
                    operations=2,
                ),
                Part(
                    name="cache_write",
                    kind="elementwise",
                    kv_written_bytes=step.batch * kept * self.vector_bytes(step),
                    input_bytes=n * self.size * a,
                    output_bytes=n * self.size * a,
                ),
            ),
            summary=f"{words} of queries and of the vector, and its write to the cache",
            formula=sum_of(self.query_norm and f"{L2_NORM} N H d", f"{ROTARY} N (H + 1) r"),
            source=f"{SOURCE}; RoPE arXiv 2104.09864",
        )

    def core(
        self,
        site: Site,
        step: Step,
        *,
        pairs: Number,
        keys: Number,
        read: Number,
        chosen_elements: Number,
    ) -> Operator:
        """Attention over `pairs` of a query and a vector, `read` vectors of a sequence cached.

        A vector is read once: it is key and value. `chosen_elements` are activations that hold the
        indices of a choice; `keys` are those of causal attention by which it is priced.
        """
        h, d, n = self.heads, self.size, step.tokens
        return core(
            site,
            step,
            pairs=pairs,
            heads=h,
            kv_heads=1,
            key_dim=d,
            value_dim=d,
            keys=keys,
            kv_read_bytes=step.batch * read * self.vector_bytes(step),
            input_elements=n * (h + 1) * d + chosen_elements,
            output_elements=n * h * d,
            sinks=True,
            operations=2,  # window and entries joined, attention
            formula="2 B pairs H (d + d)",
            source=f"{SOURCE}; sinks: arXiv 2508.10925",
        )

    def after(self, site: Site, step: Step) -> list[Operator]:
        """unrope, output_down, output."""
        return [
            self._unrope(site, step),
            self._output_down(site, step),
            linear(
                "attention.output",
                site,
                step,
                inputs=self.groups * self.rank,
                outputs=site.hidden_size,
                group="attention",
                summary="Projection of all groups' results back to the hidden size",
                formula="2 N g u D",
                source=SOURCE,
            ),
        ]

    def _unrope(self, site: Site, step: Step) -> Operator:
        """Rotation of the result by the query's position, backwards."""
        passed = step.tokens * self.heads * self.size * step.activation_bytes
        return site.operator(
            "attention.unrope",
            kind="elementwise",
            parts=(
                Part(
                    name="rotary",
                    kind="elementwise",
                    flops=ROTARY * step.tokens * self.heads * self.rotated,
                    input_bytes=passed,
                    output_bytes=passed,
                ),
            ),
            summary="Rotation of the result back by the position of its query, since values are"
            " rotated as keys are",
            formula=f"{ROTARY} N H r",
            source=SOURCE,
        )

    def _output_down(self, site: Site, step: Step) -> Operator:
        """A matrix of u for each group of H / g heads: H d u parameters in all."""
        n, a, wide = step.tokens, step.activation_bytes, self.heads * self.size
        inputs, outputs = wide // self.groups, self.groups * self.rank
        weight = Weight(
            name="weight",
            group="attention",
            rows=outputs,
            cols=inputs,
            leaf=site.named("attention.output_down"),
        )
        return site.operator(
            "attention.output_down",
            kind="matmul",
            parts=(
                Part(
                    name="gemm",
                    kind="matmul",
                    flops=2 * n * wide * self.rank,
                    weight_bytes=weight.stored_bytes(step),
                    input_bytes=n * wide * a,
                    output_bytes=n * outputs * a,
                    shape=Gemm(m=n, n=outputs, k=inputs),
                ),
            ),
            weights=(weight,),
            summary="Projection of each group of heads to its result, a block of its own for each",
            formula="2 N H d u",
            source=SOURCE,
        )
