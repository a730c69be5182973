"""The lightning indexer of DSA: it scores every cached token and keeps the best for attention.

Letters: N = B T tokens, S cached tokens, D hidden, q compressed query, Hi heads of the indexer, di
their size, r rotated elements, topk tokens that a query may attend to, scored pairs of a query and
every token up to it. A token's score is the sum over heads of its weight times relu(query key).
Each layer with an indexer keeps one key of di a token: a side cache beside the latents.
Source: DeepSeek-V3.2, arXiv 2512.02556, section 2.1; the norm of keys and the order of the rotated
part: transformers, `modeling_deepseek_v32`.
"""

from dataclasses import dataclass

from costmodel.layers.attention_core import attended_pairs
from costmodel.layers.kernel_shape import Attend
from costmodel.layers.letters import Letter
from costmodel.layers.numbers import Number, smaller
from costmodel.layers.operator import INDEX_BYTES, Operator, Part, Step, causal
from costmodel.layers.primitives import LAYER_NORM, ROTARY, linear, vector
from costmodel.layers.site import Site

SOURCE = "arXiv 2512.02556, section 2.1"
KEY_NORM = LAYER_NORM + 1  # it has a bias


def chosen_pairs(step: Step, topk: int) -> Number:
    """Query-key pairs of one sequence and one head: each new token with at most `topk` tokens.

    `full` counts T min(S + T, topk), as a kernel that gathers as many tokens for every query does.
    """
    if step.attention_flops == "full":
        return step.new_tokens * smaller(step.cached + step.new_tokens, topk)
    return attended_pairs(step, topk)


def chosen_tokens(step: Step, topk: int) -> Number:
    """Cached tokens of a sequence that the T queries choose at most: min(S, T topk).

    Exact for one new token. Queries of a few neighbouring tokens choose alike, and may read less.
    """
    return smaller(step.cached, step.new_tokens * topk)


def priced_keys(step: Step, topk: int) -> Number:
    """The keys by which attention to the chosen tokens is priced: S + T while all are chosen."""
    return keys_of_pairs(step, attended_pairs(causal(step), topk))


def keys_of_pairs(step: Step, pairs: Number) -> Number:
    """The keys over which dense causal attention of T queries has so many pairs.

    No curve of attention to scattered tokens is measured, so that it is priced as attention of as
    many pairs.
    """
    t = step.new_tokens
    return (2 * pairs // t + t - 1) // 2


def logit_bytes(step: Step) -> int:
    """Bytes of a score: one where the cache keeps keys in 8 bits or less, else as an activation.

    A kernel that writes scores in fp32 has four.
    """
    byte = 8
    return 1 if step.kv_dtype.bits <= byte else step.activation_bytes


def choice_elements(step: Step, topk: int) -> Number:
    """Indices of the chosen tokens, counted in activations of as many bytes."""
    held = smaller(step.cached + step.new_tokens, topk)
    return step.tokens * held * INDEX_BYTES // step.activation_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexer:
    """The sizes of an indexer."""

    heads: int  # Hi
    head_dim: int  # di
    topk: int
    query_dim: int  # q
    rotated: int  # r

    def key_bytes(self, step: Step) -> int:
        """Of the key that is cached for a token: di values; in a quantised cache with a scale."""
        return step.kv_dtype.row_bytes(self.head_dim)

    def logits_bytes(self, step: Step, held: Number) -> Number:
        """Of the logits of a step in one layer: each query with all that is held of its sequence.

        Each of `logit_bytes`. Taken to stand whole at once: an engine that scores so many queries
        at a time needs that part of them.
        """
        return step.tokens * held * logit_bytes(step)

    def letters(self, scored: Number, what: str) -> tuple[Letter, ...]:
        """Hi, di, scored: pairs of a sequence, `what` with what."""
        return (
            Letter("Hi", self.heads, "heads of the indexer"),
            Letter("di", self.head_dim, "head size of the indexer"),
            Letter("scored", scored, f"pairs of a sequence that the indexer scores: {what}"),
        )

    def token_letters(self, step: Step) -> tuple[Letter, ...]:
        """`letters` of an indexer that scores tokens."""
        reach = ", the whole square" if step.attention_flops == "full" else " up to itself"
        return self.letters(
            attended_pairs(step, None), f"each new token with all held tokens{reach}"
        )

    def query(self, site: Site, step: Step) -> Operator:
        """`index_query`."""
        return linear(
            "attention.index_query",
            site,
            step,
            inputs=self.query_dim,
            outputs=self.heads * self.head_dim,
            group="attention",
            summary="Queries of the indexer's heads from the compressed query",
            formula="2 N q Hi di",
            source=SOURCE,
        )

    def weights(self, site: Site, step: Step) -> Operator:
        """`index_weights`."""
        return linear(
            "attention.index_weights",
            site,
            step,
            inputs=site.hidden_size,
            outputs=self.heads,
            group="attention",
            summary="The weight of each head of the indexer",
            formula="2 N D Hi",
            source=SOURCE,
        )

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """index_query, index_key, index_weights, index_rope, index_select."""
        return [
            self.query(site, step),
            linear(
                "attention.index_key",
                site,
                step,
                inputs=site.hidden_size,
                outputs=self.head_dim,
                group="attention",
                summary="The one key of a token that all heads of the indexer score",
                formula="2 N D di",
                source=SOURCE,
            ),
            self.weights(site, step),
            self._rope(site, step),
            self.select(
                site,
                step,
                scored=attended_pairs(step, None),
                cached=step.cached,
                new=step.new_tokens,
                held=step.cached + step.new_tokens,
                priced=step.cached + step.new_tokens,
                what="token",
            ),
        ]

    def _rope(self, site: Site, step: Step) -> Operator:
        """LayerNorm of the key, rotation of r elements of the Hi queries and the key, the write.

        Leaves out: the Hadamard rotation that a release in fp8 applies before it quantises.
        """
        n, a = step.tokens, step.activation_bytes
        weights = (vector("weight", "norm", self.head_dim), vector("bias", "norm", self.head_dim))
        keys, rotated = n * self.head_dim, n * (self.heads + 1) * self.rotated
        return site.operator(
            "attention.index_rope",
            kind="elementwise",
            parts=(
                Part(
                    name="key_norm",
                    kind="norm",
                    flops=KEY_NORM * keys,
                    weight_bytes=sum(weight.stored_bytes(step) for weight in weights),
                    input_bytes=keys * a,
                    inner_output_bytes=keys * a,
                ),
                Part(
                    name="rotary",
                    kind="elementwise",
                    flops=ROTARY * rotated,
                    input_bytes=n * self.heads * self.rotated * a,
                    output_bytes=n * self.heads * self.rotated * a,
                    inner_input_bytes=n * self.rotated * a,
                    inner_output_bytes=n * self.rotated * a,
                    operations=2,
                ),
                Part(
                    name="cache_write",
                    kind="elementwise",
                    kv_written_bytes=n * self.key_bytes(step),
                    inner_input_bytes=keys * a,
                    output_bytes=keys * a,
                ),
            ),
            weights=weights,
            summary="LayerNorm of the indexer's key, rotation of its queries and key, and the write"
            " of the key to the side cache",
            formula=f"{KEY_NORM} N di + {ROTARY} N (Hi + 1) r",
            source=SOURCE,
        )

    def select(
        self,
        site: Site,
        step: Step,
        *,
        scored: Number,
        cached: Number,
        new: Number,
        held: Number,
        priced: Number,
        what: str,
        blocks: Part | None = None,
    ) -> Operator:
        """`index_select`: scores of all held keys, summed over heads, and the topk best.

        Counts 2 Hi di and 2 Hi FLOPs a pair; compares one a pair. The logits pass between scores
        and choice, whole: the largest tensor of a long prompt (`logits_bytes`). Leaves out: the
        scores of each head, which a kernel sums as it makes them; plain PyTorch writes them, Hi
        times as much.

        Args:
            site: The layers.
            step: The step.
            scored: Pairs of a sequence.
            cached: Keys of a sequence that are read from the side cache.
            new: Keys of a sequence that this step makes.
            held: Keys that a query scores at most.
            priced: The keys of causal attention by which the scores are priced.
            what: What has a key.
            blocks: A choice of blocks beside, which compares the scores and `blocks` more.
        """
        n, a = step.tokens, step.activation_bytes
        scored = step.batch * scored
        logits = self.logits_bytes(step, held)
        return site.operator(
            "attention.index_select",
            kind="selection",
            parts=(
                Part(
                    name="scores",
                    kind="attention",
                    flops=2 * scored * self.heads * self.head_dim,
                    kv_read_bytes=step.batch * cached * self.key_bytes(step),
                    input_bytes=(n * self.heads + step.batch * new) * self.head_dim * a,
                    shape=Attend(
                        batch=step.batch,
                        heads=self.heads,
                        kv_heads=1,
                        head_dim=self.head_dim / 2,  # keys, and no values
                        queries=step.new_tokens,
                        keys=priced,
                    ),
                ),
                Part(
                    name="weighted_sum",
                    kind="attention",
                    flops=2 * scored * self.heads,
                    input_bytes=n * self.heads * a,
                    inner_output_bytes=logits,
                    operations=2,  # relu, and the sum
                ),
                *(() if blocks is None else (blocks,)),
                Part(
                    name="top_k",
                    kind="selection",
                    compares=scored,
                    inner_input_bytes=logits,
                    output_bytes=n * smaller(held, self.topk) * INDEX_BYTES,
                    operations=2,
                ),
            ),
            summary=f"The indexer's score of every {what} up to a query, and the choice of the"
            " best",
            formula="2 B scored Hi (di + 1); compares: B scored"
            + ("" if blocks is None else " + B (scored + blocks)"),
            source=SOURCE,
        )
