"""The attention core alone, over caches that are cold: four models' heads, a window with sinks.

Bytes are those of the keys and values that a step must read; a window reads its own only.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reference_model.kernels import oracles
from reference_model.kernels.attention import attend
from reference_model.kernels.attention_slices import AttentionBuffers, described_cache
from reference_model.kernels.attention_split import Split, usual_split

CONTEXT = 2048
COLD_BYTES = 700e6  # a chain of caches that no L2 holds
MOST_LAYERS = 16
MOST_SLICES = 32
CHECKED = 8  # sequences compared with float64


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """Query and key-value heads of a model, and what its layers see."""

    name: str
    heads: int
    kv_heads: int
    d: int = 128
    window: int | None = None
    sinks: bool = False


MODELS = (
    Heads(name="OLMoE-1B-7B", heads=16, kv_heads=16),
    Heads(name="Qwen3-30B-A3B", heads=32, kv_heads=4),
    Heads(name="Llama-3.1-8B", heads=32, kv_heads=8),
    Heads(name="gpt-oss-20b, sliding", heads=64, kv_heads=8, d=64, window=128, sinks=True),
    Heads(name="gpt-oss-20b, full", heads=64, kv_heads=8, d=64, sinks=True),
)


def splits(tokens: int, model: Heads) -> list[Split]:
    """The usual split, and its neighbours: half and twice the slices, other tiles and stages."""
    seen = CONTEXT if model.window is None else model.window
    usual = usual_split(tokens, model.heads, model.kv_heads, seen)
    slices = usual.slices
    near = [
        usual,
        replace(usual, early=not usual.early),
        Split(slices=slices, block=usual.block, stages=3),
        Split(slices=slices, block=192 - usual.block, stages=2),
        Split(slices=2 * slices, block=64, stages=2),
        Split(slices=max(1, slices // 2), block=128, stages=2),
    ]
    fitting = [
        s for s in near if s is usual or (s.slices * s.block <= seen and s.slices <= MOST_SLICES)
    ]
    return list(dict.fromkeys(fitting))


class Core:
    """A chain of layers' caches, one query a sequence."""

    def __init__(self, model: Heads, tokens: int, generator: torch.Generator, layers: int) -> None:
        self.model, self.tokens = model, tokens
        shape = tokens, model.kv_heads, CONTEXT, model.d
        self.caches = [
            tuple(
                torch.empty(shape, device="cuda", dtype=torch.bfloat16).normal_(generator=generator)
                for _ in range(2)
            )
            for _ in range(layers)
        ]
        self.q = torch.randn(
            tokens, model.heads, model.d, device="cuda", generator=generator
        ).bfloat16()
        self.sinks = torch.randn(model.heads, device="cuda") if model.sinks else None
        self.lengths = torch.full((tokens,), CONTEXT, device="cuda", dtype=torch.int32)
        self.out = torch.empty_like(self.q)

    @property
    def layer_bytes(self) -> int:
        """Keys and values of one layer that a step must read."""
        seen = CONTEXT if self.model.window is None else self.model.window
        return 4 * self.tokens * self.model.kv_heads * seen * self.model.d

    def prepared(self, split: Split) -> "list[tuple[object, object]]":
        """Descriptors of every layer's keys and values, and the buffers of this split."""
        m = self.model
        self.buffers = AttentionBuffers.make(
            split, tokens=self.tokens, heads=m.heads, kv_heads=m.kv_heads, d=m.d, device="cuda"
        )
        return [
            (described_cache(keys, split), described_cache(values, split))
            for keys, values in self.caches
        ]

    def run(self, split: Split, tiles: "list[tuple[object, object]]", *, pdl: bool) -> None:
        """Every layer once."""
        for (keys, values), (key_tiles, value_tiles) in zip(self.caches, tiles, strict=True):
            attend(
                self.q, keys, values, self.out, self.lengths, split, self.buffers,
                key_tiles=key_tiles, value_tiles=value_tiles,
                window=self.model.window, sinks=self.sinks,
                appended=True, pdl=pdl,
            )  # fmt: skip

    def error(self, split: Split, lengths: Tensor) -> float:
        """Against float64, with sequences of these lengths; what lies beyond them is NaN."""
        keys, values = (cache.clone() for cache in self.caches[-1])
        for token, length in enumerate(lengths.tolist()):
            keys[token, :, length:] = torch.nan
            values[token, :, length:] = torch.nan
        saved, self.caches = self.caches, [(keys, values)]
        kept, self.lengths = self.lengths, lengths.int()
        self.out.fill_(torch.nan)
        self.run(split, self.prepared(split), pdl=True)
        few = slice(0, CHECKED)
        expected = oracles.attend(
            self.q[few], keys[few], values[few], lengths[few], self.model.window, self.sinks
        )
        result = oracles.error(self.out[few], expected)
        self.caches, self.lengths = saved, kept
        return result


def layers_for(model: Heads, tokens: int) -> int:
    """Caches that a chain must hold so that none is in the L2 when its turn comes."""
    stored = 4 * tokens * model.kv_heads * CONTEXT * model.d
    return max(2, min(MOST_LAYERS, round(COLD_BYTES / stored + 0.5)))
