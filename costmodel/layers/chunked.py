"""What a token attends to in chunked attention: its own chunk of C tokens, up to itself.

Chunks begin at the multiples of C, so that a token at position p, from 0 on, sees (p mod C) + 1
keys: the cost of a step grows with the context and falls back at the start of a chunk.
Letters: S cached and T new tokens of a sequence. Source: Llama 4, transformers,
models/llama4/modeling_llama4.py.
"""

from costmodel.layers.letters import Letter
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Step


def chunk_read_tokens(step: Step, chunk: int) -> Number:
    """Cached tokens of a sequence that a step reads: S mod C, those of an unfinished chunk."""
    return step.cached % chunk


def chunk_pairs(step: Step, chunk: int) -> Number:
    """Query-key pairs of one sequence and one head, of S cached and T new tokens.

    Causal: sum over j < T of (S + j) mod C + 1, the pairs of S + T tokens less those of S.
    `full` counts T (S mod C + T), the square over all keys that are read, as a kernel that masks
    other chunks does.
    """
    t, s = step.new_tokens, step.cached
    if step.attention_flops == "full":
        return t * (chunk_read_tokens(step, chunk) + t)
    return pairs_of_prompt(s + t, chunk) - pairs_of_prompt(s, chunk)


def pairs_of_prompt(tokens: Number, chunk: int) -> Number:
    """Pairs of the first `tokens` tokens: triangles of whole chunks, and one of the rest."""
    whole, rest = tokens // chunk, tokens % chunk
    return whole * (chunk * (chunk + 1) // 2) + rest * (rest + 1) // 2


def chunk_pairs_letter(step: Step, chunk: int) -> Letter:
    """`pairs` with its definition in words."""
    if step.attention_flops == "full":
        read = chunk_read_tokens(step, chunk)
        counted = f"T (the {read} cached keys of the chunk + T), the whole square"
    else:
        counted = f"each new token with those of its chunk of {chunk} up to itself"
    pairs = chunk_pairs(step, chunk)
    return Letter("pairs", pairs, f"query-key pairs of a sequence and head: {counted}")
