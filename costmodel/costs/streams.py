"""What stands between the blocks: adds before memory layers, AltUp's streams, LAUREL's residual."""

from collections import Counter

from costmodel.costs.storage import with_formats
from costmodel.inputs.model import ModelConfig
from costmodel.layers.operator import Operator, Part, Step
from costmodel.layers.residual_streams import ResidualStreams, Waiting
from costmodel.layers.site import Site


def joins(model: ModelConfig, adds: list[int], step: Step) -> list[Operator]:
    """The residual adds before memory layers that read the stream itself.

    Such a layer stands at the head of a block or at its end, before the norm that would add what
    waits. Its own output is then all that waits there: `adds`, of `residual_adds`, is changed.
    """
    places = [
        (block + (memory.position == "behind_block"), block, memory)
        for memory in model.memory
        if memory.position in ("before_attention", "behind_block")
        for block, _ in memory.placement(model.num_hidden_layers)
    ]
    sites: dict[tuple[str, int], list[int]] = {}  # blocks by the layer's attribute and its adds
    for place, block, memory in sorted(places, key=lambda at: (at[0], at[1])):
        if adds[place]:
            sites.setdefault((memory.attribute, adds[place]), []).append(block)
        adds[place] = 0 if model.altup and memory.position == "behind_block" else 1
    d, several = model.hidden_size, model.residual_streams
    if several is not None:
        return [
            several.join(f"{attribute}_join", Site.of(blocks, d, several), step)
            for (attribute, _), blocks in sites.items()
        ]
    return [
        _join(f"{attribute}_join", Site.of(blocks, d), step, waiting)
        for (attribute, waiting), blocks in sites.items()
    ]


def mixing_sites(
    model: ModelConfig, several: ResidualStreams, leaf: str, waiting: dict[int, int], step: Step
) -> list[Operator]:
    """What mixes residual streams before a sublayer, in place of its norms or before them.

    `waiting` says how many outputs wait at each layer: none before the first, else one, which a
    memory layer at the head of the block made of each stream, or a sublayer.
    """
    made = {
        block
        for memory in model.memory
        for block, _ in memory.placement(model.num_hidden_layers)
        if leaf == "attention_residual"
    }
    sorts: dict[Waiting, list[int]] = {}
    for layer, count in waiting.items():
        joins: Waiting = "streams" if layer in made else "output" if count else "nothing"
        sorts.setdefault(joins, []).append(layer)
    operators = [
        several.gather(leaf, Site.of(layers, model.hidden_size, several), step, waiting=joins)
        for joins, layers in sorts.items()
    ]
    return with_formats(operators, step)


def _join(leaf: str, site: Site, step: Step, adds: int) -> Operator:
    """Adds what waits to the residual stream: N D FLOPs an addition."""
    elements = step.tokens * site.hidden_size
    stream = elements * step.activation_bytes
    return site.operator(
        leaf,
        kind="elementwise",
        parts=(
            Part(
                name="residual_add",
                kind="elementwise",
                flops=adds * elements,
                input_bytes=(1 + adds) * stream,
                output_bytes=stream,
                operations=adds,
            ),
        ),
        summary="The residual stream with what waits to be added, for the memory layer behind it",
        formula=f"{adds} N D",
        source="definition",
    )


def stream_operators(model: ModelConfig, adds: list[int], step: Step) -> dict[str, list[Operator]]:
    """The operators of AltUp and LAUREL, by where they stand; nothing without them.

    What waits to be added at the end of a block is added by AltUp's correction there, and by no
    norm: `adds`, of `residual_adds`, is changed.
    """
    d, layers = model.hidden_size, range(model.num_hidden_layers)
    places: dict[str, list[Operator]] = {
        place: [] for place in ("input", "head", "beside_attention", "behind", "end")
    }
    if model.laurel is not None:
        site = Site.of(layers, d, model.laurel)
        places["beside_attention"] = with_formats(model.laurel.operators(site, step), step)
    if (several := model.residual_streams) is not None:
        places["input"] = several.operators(Site.of((), d, several), step)
    if model.altup is None:
        return places
    altup = model.altup
    expand, predict, merge = with_formats(altup.operators(Site.of(layers, d, altup), step), step)
    places["input"], places["head"], places["end"] = [expand], [predict], [merge]
    spread = sorted(
        block
        for memory in model.memory
        if memory.position == "behind_block"
        for block, _ in memory.placement(model.num_hidden_layers)
    )
    sorts = [(adds[layer + 1], layer in spread) for layer in layers]
    for count, spreads in Counter(sorts):
        site = Site.of([i for i in layers if sorts[i] == (count, spreads)], d, altup)
        places["behind"].append(altup.correct(site, step, count, spreads=spreads))
    if spread:
        places["end"] = [altup.spread(Site.of(spread, d, altup), step), merge]
    adds[:] = [0] * len(adds)
    return places
