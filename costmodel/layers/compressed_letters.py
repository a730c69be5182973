"""The letters of attention to a window and compressed entries, with their meanings in words."""

from typing import TYPE_CHECKING

from costmodel.layers.letters import Letter
from costmodel.layers.operator import Operator, Step

if TYPE_CHECKING:  # the kind is written with it
    from costmodel.layers.compressed_attention import CompressedAttention


def compressed_letters(
    layer: "CompressedAttention", operator: Operator, step: Step
) -> tuple[Letter, ...]:
    """H, d, q, r, g, u, pairs; m, s, w and made of a compressor; Hi, di, scored, blocks.

    Letters of a compressor are those of the operator's own: of entries, or of an indexer's keys.
    """
    letters = [
        Letter("H", layer.num_attention_heads, "heads"),
        Letter("d", layer.head_dim, "head size, and that of a token's one vector"),
        Letter("q", layer.q_lora_rank, "width of the compressed query"),
        Letter("r", layer.qk_rope_head_dim, "rotated elements of a head"),
        Letter("g", layer.o_groups, "groups of heads with an output projection each"),
        Letter("u", layer.o_lora_rank, "width of a group's result"),
        Letter("pairs", layer.attended_pairs(step), _pairs_words(layer, step)),
    ]
    of_keys = operator.leaf.startswith("attention.index_compress")
    compressor = layer.index_compressor if of_keys else layer.compressor
    if compressor is not None:
        letters += [
            Letter("m", compressor.ratio, "tokens of an entry"),
            Letter("s", compressor.series, "series of values and gates: 2 where entries overlap"),
            Letter("w", compressor.width, f"width of the {compressor.what}"),
            Letter("made", compressor.made(step), "entries of a sequence that become whole"),
        ]
    return (*letters, *(() if layer.choice is None else layer.choice.letters(step)))


def _pairs_words(layer: "CompressedAttention", step: Step) -> str:
    tokens = "all tokens" if layer.sliding_window is None else f"{layer.sliding_window} tokens"
    if step.attention_flops == "full":
        tokens = "all tokens in reach of the first, the whole square"
    entries = ""
    if layer.compress_ratio is not None:
        most = "all" if layer.index_topk is None else f"at most {layer.index_topk}"
        entries = f", and with {most} whole entries of {layer.compress_ratio} tokens"
    return (
        f"query-key pairs of a sequence and head: each new token with at most {tokens}, itself"
        f" in{entries}"
    )
