"""Block sizes of the matrix-unit kernels, by token count, as they were measured on an H200.

Structure decides, sizes matter little: of five to twelve sets for each case most lay within 2 % of
the best. What does matter: a tile of tokens about as wide as an expert's usual list (wider ones
multiply zeros), and from 32 tokens on three stages rather than four or five, since then one more
block fits on a multiprocessor.
"""

from dataclasses import dataclass

MANY = 512  # tokens of a step beyond which products are worth an order of pairs, and cuBLAS

DEEP = 64  # elements of the reduction a step where 128 does not divide it

TILE = 16  # the least tokens of a tile


def many(tokens: int) -> bool:
    """Whether a step has so many tokens that weights are no longer most of its work.

    Experts then work in the order of experts (`grouped`), and dense products are cuBLAS's.
    """
    return tokens > MANY


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One kernel's block: tokens x rows of the weight, depth elements a step, stages in flight."""

    tokens: int
    rows: int
    depth: int
    stages: int
    warps: int = 4


def expert_tiles(tokens: int, experts: int, top_k: int, hidden: int, width: int) -> list[Tile]:
    """The tiles of gate_up and down for T tokens.

    hidden is D and width I. Lists have T k / E tokens on average; a skewed routing's long lists are
    tiles side by side.
    """
    usual = tokens * top_k / experts
    if usual > 24:  # noqa: PLR2004 - between the measured 64 and 256 tokens of OLMoE
        rows, warps = (128, 8) if hidden % 128 == 0 else (64, 4)
        return [
            Tile(tokens=64, rows=64, depth=DEEP, stages=3),
            Tile(tokens=64, rows=rows, depth=DEEP, stages=3, warps=warps),
        ]
    if usual > 6:  # noqa: PLR2004 - likewise; Qwen3's 4 a list want narrow tiles, OLMoE's 8 wide
        return [
            Tile(tokens=32, rows=64, depth=DEEP, stages=3),
            Tile(tokens=32, rows=64, depth=DEEP, stages=3),
        ]
    deep = hidden % 128 == 0
    return [
        Tile(tokens=16, rows=64, depth=128 if deep else DEEP, stages=3 if deep else 6),
        Tile(tokens=16, rows=64, depth=DEEP, stages=5 if width % 128 == 0 else 6),
    ]


def dense_tile(tokens: int, inputs: int) -> Tile:
    """The tile of a product that all tokens share: of as many tokens as there are, 128 at most."""
    depth = 128 if inputs % 128 == 0 and tokens <= TILE else DEEP
    wide = next((width for width in (TILE, 2 * TILE, 4 * TILE) if tokens <= width), 8 * TILE)
    return Tile(tokens=wide, rows=64, depth=depth, stages=3 if wide > TILE or depth > DEEP else 6)
