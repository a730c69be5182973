"""The operators of one step of a model: the only producer of the list that all else sums.

Each layer kind lists its own operators; this file adds what stands between them: the embedding,
the norms with the residual adds that wait for them, the last norm and the LM head. Layers with the
same configuration are costed once, with a count.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from costmodel.inputs.model import ModelConfig
from costmodel.layers.kernel_shape import Gemm
from costmodel.layers.operator import INDEX_BYTES, Operator, Part, Step, Weight
from costmodel.layers.primitives import norm
from costmodel.layers.site import Site
from costmodel.routing.popularity import Uniform

EMBEDDING = "embedding"  # the name under which a tied table is shared


def build_operators(model: ModelConfig, step: Step) -> tuple[Operator, ...]:
    """Every operator of `step`, in the order of a block; paths are those of the leaf modules."""
    d, num_layers = model.hidden_size, model.num_hidden_layers
    found = [_embed(model, step)]
    ffns = model.ffn_groups
    placements = [memory.placement(num_layers) for memory in model.memory]
    adds = residual_adds(num_layers, [layers for _, layers in ffns], placements)
    found += _norms("attention_norm", adds[:num_layers], d, step)
    for attention, layers in model.attention_groups:
        found += attention.operators(Site.of(layers, d, attention), step)
    every_layer = Site.of(range(num_layers), d)
    if model.post_norms:
        found.append(norm("post_attention_norm", every_layer, step))
    found.append(norm("ffn_norm", every_layer, step, residual_adds=1))
    with_ffn: list[int] = []
    for ffn, layers in ffns:
        found += ffn.operators(Site.of(layers, d, ffn), step)
        with_ffn += layers
    for memory, placement in zip(model.memory, placements, strict=True):
        inputs = tuple(layer for layer, _ in placement)
        found += memory.operators(Site.of(inputs, d, memory), step)
    if model.post_norms and with_ffn:
        site = Site.of(sorted(with_ffn), d)
        found.append(norm("post_ffn_norm", site, step))
    return (*found, *_head(model, step, adds[num_layers]))


def residual_adds(
    num_layers: int,
    ffn_layers: Iterable[Sequence[int]],
    placements: Iterable[Sequence[tuple[int, int]]],
) -> list[int]:
    """Adds to the residual stream that wait for the norm at the head of each block.

    One for the FFN of the block before, one for each memory layer whose output comes after it;
    the last entry is that of the final norm.
    """
    adds = [0] * (num_layers + 1)
    for layers in ffn_layers:
        for layer in layers:
            adds[layer + 1] += 1
    for placement in placements:
        for _, output in placement:
            adds[output + 1] += 1
    return adds


def _norms(leaf: str, adds: list[int], hidden_size: int, step: Step) -> list[Operator]:
    """One norm for each number of waiting adds, with the layers that have it."""
    found = []
    for count in Counter(adds):  # in order of first layer
        site = Site.of([i for i, waiting in enumerate(adds) if waiting == count], hidden_size)
        found.append(norm(leaf, site, step, residual_adds=count))
    return found


def _embed(model: ModelConfig, step: Step) -> Operator:
    """Rows of the embedding table: expected distinct token ids, drawn evenly from the vocabulary.

    Counts no FLOPs. A tied table's rows are read here and again by the LM head: the two ends of a
    step are too far apart for a cache.
    """
    n, v = step.tokens, model.vocab_size
    table = Weight(
        name="weight",
        group="embedding",
        rows=v,
        cols=model.hidden_size,
        shared=EMBEDDING if model.tie_word_embeddings else "",
    )
    distinct = Uniform().expected_distinct(v, 1, n, kind="rows")
    return Site.of((), model.hidden_size).operator(
        "embed",
        kind="gather",
        parts=(
            Part(
                name="rows",
                kind="gather",
                weight_bytes=distinct * table.row_bytes(step),
                io_read_bytes=n * INDEX_BYTES,
                output_bytes=n * model.hidden_size * step.activation_bytes,
            ),
        ),
        weights=(table,),
        summary="Rows of the embedding table for the new tokens",
        formula="0; bytes: V (1 - (1 - 1/V)^N) distinct rows of D, and 8 N of token ids",
        source="costmodel/routing/popularity.py",
    )


def _head(model: ModelConfig, step: Step, adds: int) -> list[Operator]:
    """The final norm and the logits, of the last token of each sequence or of all."""
    last = step.batch if step.logits == "last" else None
    tokens = step.tokens if last is None else last
    d, v, a = model.hidden_size, model.vocab_size, step.activation_bytes
    site = Site.of((), d)
    tied = model.tie_word_embeddings
    weight = Weight(
        name="weight",
        group="embedding" if tied else "lm_head",
        rows=v,
        cols=d,
        shared=EMBEDDING if tied else "",
    )
    return [
        norm("final_norm", site, step, residual_adds=adds, tokens=last),
        site.operator(
            "lm_head",
            kind="matmul",
            parts=(
                Part(
                    name="gemm",
                    kind="matmul",
                    flops=2 * tokens * d * v,
                    weight_bytes=weight.stored_bytes(step),
                    io_written_bytes=tokens * v * a,
                    input_bytes=tokens * d * a,
                    shape=Gemm(m=tokens, n=v, k=d),
                ),
            ),
            weights=(weight,),
            summary=f"Logits of {'every new token' if last is None else 'the last token'}"
            " of each sequence",
            formula=f"2 {'N' if last is None else 'B'} D V",
            source="definition",
        ),
    ]
