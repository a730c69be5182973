"""Query-key pairs of attention to chosen blocks: each query reads the best t blocks of b tokens.

Blocks begin at the multiples of b, so that the newest one of a query at position p holds
(p mod b) + 1 tokens. It is either one of the t (a local block: MSA), or, until it is whole, read
beside them (a tail: QSA). Letters: S cached and T new tokens of a sequence.
Source: the block mask of MiniMax-M3 and the token mask of Qwen4-exp in transformers 5.24
(`modeling_minimax_m3_vl`, `modeling_qwen4_exp`).
"""

from costmodel.layers.chunked import pairs_of_prompt
from costmodel.layers.indexer import keys_of_pairs
from costmodel.layers.letters import Letter
from costmodel.layers.numbers import Number, larger, smaller
from costmodel.layers.operator import Step, causal


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


def blocks_seen(step: Step, block: int) -> Number:
    """Blocks that the T queries of a sequence choose among: those up to each; `full`: all held."""
    held = step.cached + step.new_tokens
    if step.attention_flops == "full":
        return step.new_tokens * ((held + block - 1) // block)
    return _blocks_of_first(held, block) - _blocks_of_first(step.cached, block)


def _blocks_of_first(tokens: Number, block: int) -> Number:
    """The sum of ceil(s / b) over s from 1 to `tokens`."""
    return tokens + whole_blocks(tokens - 1, block)


def tail_pairs(tokens: Number, block: int, topk: int) -> Number:
    """Pairs of the first `tokens` tokens of a sequence and one head, an unfinished block beside.

    A token that sees s keys attends to min(t, floor(s / b)) b + s mod b of them.
    """
    full = smaller(tokens, topk * block)
    return (
        full * (full + 1) // 2
        + (tokens - full) * (topk * block)
        + _tails(tokens, block)
        - _tails(full, block)
    )


def _tails(tokens: Number, block: int) -> Number:
    """The sum of s mod b over s from 1 to `tokens`."""
    return pairs_of_prompt(tokens + 1, block) - (tokens + 1)


def whole_blocks(tokens: Number, block: int) -> Number:
    """The sum of floor(s / b) over s from 1 to `tokens`: whole blocks that these tokens see."""
    whole, rest = tokens // block, tokens % block
    return block * (whole * (whole - 1) // 2) + whole * (rest + 1)


def groups_seen(step: Step, size: int, topk: int | None = None) -> Number:
    """Pairs of the T queries of a sequence with whole groups up to each; `full`: all held.

    With `topk` each query counts at most so many of them.
    """
    cached, new = step.cached, step.new_tokens
    if step.attention_flops == "full":
        groups = (cached + new) // size
        return new * (groups if topk is None else smaller(groups, topk))
    if topk is None:
        return _whole_of_next(cached, new, size)
    growing = smaller(larger(topk * size - cached, 0), new)
    return _whole_of_next(cached, growing, size) + (new - growing) * topk


def _whole_of_next(before: Number, tokens: Number, size: int) -> Number:
    """The sum of floor(s / b) over the `tokens` values of s that follow `before`."""
    return tokens * (before // size) + whole_blocks(before % size + tokens, size)


def priced_groups(step: Step, size: int) -> Number:
    """The keys by which scores of whole groups are priced."""
    return priced_pairs(step, groups_seen(causal(step), size))


def priced_pairs(step: Step, pairs: Number) -> Number:
    """The keys of causal attention of as many pairs, at least so many that it can have.

    A step may hold no whole group.
    """
    return larger(keys_of_pairs(step, pairs), (step.new_tokens + 1) // 2)


def blocks_of_groups(step: Step, size: int, block: int) -> Number:
    """Pairs of the T queries with blocks of whole groups, the newest block perhaps not whole."""
    if step.attention_flops == "full":
        held = step.cached + step.new_tokens
        return step.new_tokens * ((held // size + block - 1) // block)
    span = size * block
    before = size * (block - 1)  # ceil(floor(s / r) / b) = floor((s + r (b - 1)) / (r b))
    return _whole_of_next(step.cached + before, step.new_tokens, span)


def candidates_seen(step: Step, size: int, block: int, topk: int) -> Number:
    """Pairs of the T queries with groups in the best t blocks, the newest block among them."""
    held = step.cached + step.new_tokens
    if step.attention_flops == "full":
        return step.new_tokens * smaller(held // size, topk * block)
    first, last = (
        _candidates_of_first(tokens, size, block, topk) for tokens in (step.cached, held)
    )
    return last - first


def _candidates_of_first(tokens: Number, size: int, block: int, topk: int) -> Number:
    """The sum over s from 1 to `tokens` of how many of floor(s / r) groups are candidates."""
    groups, rest = tokens // size, tokens % size
    before = larger(groups - 1, 0)
    whole = local_block_pairs(before, block, topk)
    return size * whole + (rest + 1) * (local_block_pairs(groups, block, topk) - whole)


def blocks_letter(step: Step, pairs: Number, most: int) -> Letter:
    """`pairs` with its definition in words."""
    counted = f"each new token with all tokens up to itself, in the chosen blocks at most {most}"
    if step.attention_flops == "full":
        counted = f"T min(S + T, {most}), all slots of the chosen blocks"
    return Letter("pairs", pairs, f"query-key pairs of a sequence and head: {counted}")
