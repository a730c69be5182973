"""The operators of one step of a model: the one list from which every other number is computed.

Each layer kind lists its own operators. This file puts them together and adds what stands between
them: the embedding, the norms with the residual adds before them, the final norm and the LM head.
Layers of one configuration are costed once: their operator has a count.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from costmodel.costs.placement import cached_share, check_names, placed_embedding, table_operators
from costmodel.costs.storage import kind_operators, with_formats
from costmodel.costs.streams import joins, mixing_sites, stream_operators
from costmodel.inputs.model import ModelConfig
from costmodel.layers.kernel_shape import Gemm
from costmodel.layers.numbers import Number
from costmodel.layers.operator import INDEX_BYTES, Operator, Part, Step, Weight
from costmodel.layers.primitives import RMS, SOFTCAP, NormForm, layer_norm, norm
from costmodel.layers.site import Site
from costmodel.routing.popularity import Uniform

EMBEDDING = "embedding"  # the name that a tied table has in `Weight.shared`


def build_operators(model: ModelConfig, step: Step) -> tuple[Operator, ...]:
    """Every operator of a step, in the order of a block.

    Args:
        model: The configuration of all layers.
        step: Numbers, or arrays of them over a grid of steps.

    Returns:
        Operators whose paths are those of the reference model's leaf modules.

    Raises:
        InputError: The step's placement names what is no table.
    """
    d, num_layers = model.hidden_size, model.num_hidden_layers
    cached = cached_share(model, step)
    operators = with_formats([placed_embedding(_embed(model, step), step, cached)], step)
    ffns = model.ffn_groups
    placements = [memory.placement(num_layers) for memory in model.memory]
    beside = [
        placement
        for memory, placement in zip(model.memory, placements, strict=True)
        if memory.position == "beside_ffn"
    ]
    beside += model.shortcut_placements
    form = RMS if model.norm == "rms" else layer_norm(bias=model.norm == "layer_bias")
    behind = model.block == "norms_behind"
    mixing, fed = model.mixer_layers, model.fed_layers
    own = model.own_ffn_groups
    adds = residual_adds(num_layers, [] if behind else _adding(model), beside)
    memory_operators: dict[str, list[Operator]] = {}  # by position
    for memory, placement in zip(model.memory, placements, strict=True):
        blocks = tuple(block for block, _ in placement)
        for operator in table_operators(memory, blocks, d, step, cached):
            place = memory.position if operator.layers else "input"
            memory_operators.setdefault(place, []).append(operator)
    operators += _token_history(model, step)
    operators += memory_operators.get("input", [])
    streams = stream_operators(model, adds, step)
    operators += streams["input"]
    operators += joins(model, adds, step)
    operators += streams["head"]
    operators += memory_operators.get("before_attention", [])
    if not behind:
        waiting = {layer: adds[layer] for layer in mixing}
        operators += _before("attention", waiting, model, step, form)
    for attention, layers in model.attention_groups:
        operators += kind_operators(attention, layers, d, step)
    if model.post_norms or behind:
        site = Site.of(mixing, d)
        operators.append(norm("post_attention_norm", site, step, form=form, joins=behind))
    operators += streams["beside_attention"]
    if model.block == "serial":  # adds what the mixer made, or without one what waits
        waits = 0 if model.laurel else 1
        waiting = {layer: adds[layer] for layer in fed}
        waiting |= dict.fromkeys(set(mixing) & set(fed), waits)
        operators += _before("ffn", waiting, model, step, form)
    for ffn, layers in ffns:
        operators += kind_operators(ffn, layers, d, step)
    operators += memory_operators.get("beside_ffn", [])
    with_ffn = [layer for _, layers in own for layer in layers]
    if (model.post_norms or behind) and with_ffn:
        site = Site.of(sorted(with_ffn), d)
        operators.append(norm("post_ffn_norm", site, step, form=form, joins=behind))
    operators += streams["behind"]
    operators += memory_operators.get("behind_block", [])
    operators += streams["end"]
    check_names(operators, step)
    return (*operators, *with_formats(_head(model, step, adds[num_layers], form), step))


def _adding(model: ModelConfig) -> list[tuple[int, ...]]:
    """Layers whose output waits for the next block's norm: of each FFN, then of the mixers."""
    adding = [layers for _, layers in model.own_ffn_groups]
    mixing = model.mixer_layers
    if model.block == "parallel":  # attention's output waits beside the FFN's
        return [*adding, mixing]
    # Without a second norm it waits for the next block.
    return [*adding, tuple(sorted(set(mixing).difference(model.fed_layers)))]


def residual_adds(
    num_layers: int,
    ffn_layers: Iterable[Sequence[int]],
    placements: Iterable[Sequence[tuple[int, int]]],
) -> list[int]:
    """How many outputs the first norm of each block adds to the residual stream before it.

    The FFN's of the block before, and that of each memory layer and shortcut whose output block
    that was.

    Args:
        num_layers: Blocks of the model.
        ffn_layers: The blocks that have an FFN, kind by kind.
        placements: (input block, output block) of what stands beside FFNs, kind by kind: memory
            layers, and the FFNs of shortcuts.

    Returns:
        A number for each block, and one for the final norm. Memory layers at the head or
        the end of a block change them: `_joins`.
    """
    adds = [0] * (num_layers + 1)
    for layers in ffn_layers:
        for layer in layers:
            adds[layer + 1] += 1
    for placement in placements:
        for _, output in placement:
            adds[output + 1] += 1
    return adds


def _token_history(model: ModelConfig, step: Step) -> list[Operator]:
    """The last token ids of each sequence before the new ones, where a memory layer needs them."""
    past = max((memory.past_ids for memory in model.memory), default=0)
    if not past:
        return []
    ids = step.batch * past
    return [
        Site.of((), model.hidden_size).operator(
            "token_history",
            kind="elementwise",
            parts=(
                Part(
                    name="window",
                    kind="elementwise",
                    io_read_bytes=ids * INDEX_BYTES,
                    io_written_bytes=ids * INDEX_BYTES,
                    input_bytes=step.tokens * INDEX_BYTES,
                    output_bytes=(ids + step.tokens) * INDEX_BYTES,
                    operations=2,  # the window is put together, and its end kept for the next step
                ),
            ),
            summary=f"The {past} token ids before the new ones of each sequence, and those",
            formula="0",
            source="definition",
        )
    ]


def _before(
    sublayer: str, adds: dict[int, int], model: ModelConfig, step: Step, form: NormForm
) -> list[Operator]:
    """The norms before a sublayer: one operator for all layers with equally many adds.

    `adds` are those of each layer that has the sublayer, in order.
    """
    norms, leaf, hidden_size = list[Operator](), f"{sublayer}_norm", model.hidden_size
    if (several := model.residual_streams) is not None:
        norms = mixing_sites(model, several, f"{sublayer}_residual", adds, step)
        adds = {} if several.replaces_norms else dict.fromkeys(adds, 0)
    for count in Counter(adds.values()):  # in order of first layer
        site = Site.of([i for i, waiting in adds.items() if waiting == count], hidden_size)
        norms.append(norm(leaf, site, step, form=form, residual_adds=count))
    return norms


def _embed(model: ModelConfig, step: Step) -> Operator:
    """Looks up the rows of N token ids in the embedding table [V, D]; no FLOPs.

    Bytes: each distinct row once, ids being drawn evenly from the vocabulary. Of a tied table the
    rows are read here and again by the LM head, since the two ends of a step are too far apart for
    a cache.
    """
    n, v = step.tokens, model.vocab_size
    table = Weight(
        name="weight",
        group="embedding",
        rows=v,
        cols=model.hidden_size,
        leaf="embed",
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


def _head(model: ModelConfig, step: Step, adds: int, form: NormForm) -> list[Operator]:
    """The final norm and the LM head, for the last token of each sequence or for all tokens.

    Args:
        model: The configuration.
        step: `step.logits` says which tokens.
        adds: Residual adds before the final norm.
        form: That of the norm.
    """
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
        leaf="embed" if tied else "lm_head",
        shared=EMBEDDING if tied else "",
    )
    rows = "N" if last is None else "B"
    softcap: tuple[Part, ...] = ()
    if model.logit_softcap:
        softcap = (
            Part(
                name="softcap",
                kind="elementwise",
                flops=SOFTCAP * tokens * v,
                inner_input_bytes=tokens * v * a,
                inner_output_bytes=tokens * v * a,
                operations=3,
            ),
        )
    return [
        *_final(model, step, adds, form, last),
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
                *softcap,
            ),
            weights=(weight,),
            summary=f"Logits of {'every new token' if last is None else 'the last token'}"
            " of each sequence",
            formula=f"2 {rows} D V" + (f" + {SOFTCAP} {rows} V" if softcap else ""),
            source="definition",
        ),
    ]


def _final(
    model: ModelConfig, step: Step, adds: int, form: NormForm, last: Number | None
) -> list[Operator]:
    """The final norm; where there are several residual streams, the site in its place or before."""
    d, several = model.hidden_size, model.residual_streams
    operators = []
    if several is not None:
        end = Site.of((), d, several)
        operators = [
            several.gather("final_residual", end, step, waiting="output", last=last is not None)
        ]
    if several is None or not several.replaces_norms:
        waits = adds if several is None else 0
        site = Site.of((), d)
        operators.append(
            norm("final_norm", site, step, form=form, residual_adds=waits, tokens=last)
        )
    return operators
