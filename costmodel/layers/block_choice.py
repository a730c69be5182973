"""Query-key pairs of attention to chosen blocks: each query reads the best t blocks of b tokens.

Blocks begin at the multiples of b, so that the newest one of a query at position p holds
(p mod b) + 1 tokens; it is one of the t. Letters: S cached and T new tokens of a sequence.
Source: the block mask of MiniMax-M3 in transformers 5.24 (`modeling_minimax_m3_vl`).
"""

from costmodel.layers.chunked import pairs_of_prompt
from costmodel.layers.letters import Letter
from costmodel.layers.numbers import Number, smaller
from costmodel.layers.operator import Step


def local_block_pairs(tokens: Number, block: int, topk: int) -> Number:
    """Pairs of the first `tokens` tokens of a sequence and one head, the newest block among the t.

    A token that sees s keys attends to s of them, if these are at most t b, else to (t - 1) b and
    the (s - 1) mod b + 1 of its own block.
    """
    full = smaller(tokens, topk * block)
    return (
        full * (full + 1) // 2
        + (tokens - full) * ((topk - 1) * block)
        + pairs_of_prompt(tokens, block)
        - pairs_of_prompt(full, block)
    )


def blocks_letter(step: Step, pairs: Number, most: int) -> Letter:
    """`pairs` with its definition in words."""
    counted = f"each new token with all tokens up to itself, in the chosen blocks at most {most}"
    if step.attention_flops == "full":
        counted = f"T min(S + T, {most}), all slots of the chosen blocks"
    return Letter("pairs", pairs, f"query-key pairs of a sequence and head: {counted}")
