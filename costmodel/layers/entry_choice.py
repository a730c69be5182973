"""The choice of compressed entries: the lightning indexer over keys that a compressor makes.

Letters: N = B T tokens, Hi heads of the indexer, di their size, r rotated elements, scored pairs of
a query and an entry that is whole by then. As in DSA (`indexer.py`), but a key stands for m tokens,
has no projection of its own, and is rotated as it is made.
Source: DeepSeek-V4, transformers 5.24 (`modeling_deepseek_v4`).
"""

from costmodel.layers.block_choice import groups_seen, priced_groups
from costmodel.layers.compressor import SOURCE, Compressor
from costmodel.layers.indexer import Indexer
from costmodel.layers.operator import Operator, Part, Step
from costmodel.layers.primitives import ROTARY
from costmodel.layers.site import Site


def entry_choice(indexer: Indexer, keys: Compressor, site: Site, step: Step) -> list[Operator]:
    """index_compress_in, index_compress, index_query, index_weights, index_rope, index_select."""
    return [
        *keys.operators(site, step),
        indexer.query(site, step),
        indexer.weights(site, step),
        _rope(indexer, site, step),
        indexer.select(
            site,
            step,
            scored=groups_seen(step, keys.ratio),
            cached=step.cached // keys.ratio,
            new=keys.made(step),
            priced=priced_groups(step, keys.ratio),
            what="entry",
        ),
    ]


def _rope(indexer: Indexer, site: Site, step: Step) -> Operator:
    """Rotation of the queries; keys are rotated as they are made."""
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
