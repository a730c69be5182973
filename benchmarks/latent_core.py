"""Latent attention alone, over caches that are cold: the core, and what leaves the latent space.

Slices are joined by the kernel that maps results out of the latent space (`v_up`). So that kernel
is measured too, of the slices and of one slice: what the join costs is the difference. Bytes are
those of the cache that a step must read.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import Timer
from reference_model.kernels import oracles
from reference_model.kernels.latent_attention import LatentResults, LatentTiles, attend_latents
from reference_model.kernels.latent_split import LatentSplit, latent_split
from reference_model.kernels.latent_values import latent_values

CONTEXT = 3072
LATENT, ROTARY, VALUE = 512, 64, 128  # of DeepSeek-V2 and V3: c, r, v
SCALE = (128 + ROTARY) ** -0.5
HEADS = (16, 128)
BATCHES = (1, 6, 24, 96)
COLD_BYTES = 400e6  # a chain of caches that no L2 holds
MOST_LAYERS = 64
CHECKED = 8  # sequences compared with float64
Result = dict[str, Any]


def splits(tokens: int, heads: int) -> dict[str, LatentSplit]:
    """The usual split and its neighbours: other tiles, stages, warps and slices."""
    usual = latent_split(tokens, heads, CONTEXT)
    near = [
        usual,
        replace(usual, warps=12 - usual.warps),
        replace(usual, block=96 - usual.block),
        replace(usual, block=32, stages=4),
        replace(usual, slices=max(1, usual.slices // 2)),
        replace(usual, slices=min(64, 2 * usual.slices)),
    ]
    return {
        f"{s.slices} x {s.block}, {s.stages} stages, {s.warps} warps": s
        for s in near
        if s.slices * s.block <= CONTEXT
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentCore:
    """A chain of layers' caches, one query a sequence."""

    caches: list[Tensor]  # of each layer [T, 1, C, c + r]
    q: Tensor
    v_up: Tensor
    lengths: Tensor
    out: Tensor

    @classmethod
    def random(
        cls, tokens: int, heads: int, generator: torch.Generator, layers: int
    ) -> "LatentCore":
        """Standard normal latents and queries."""

        def normal(*shape: int) -> Tensor:
            empty = torch.empty(shape, device="cuda", dtype=torch.bfloat16)
            return empty.normal_(generator=generator)

        return cls(
            caches=[normal(tokens, 1, CONTEXT, LATENT + ROTARY) for _ in range(layers)],
            q=normal(tokens, heads, LATENT + ROTARY),
            v_up=normal(heads, VALUE, LATENT) * LATENT**-0.5,
            lengths=torch.full((tokens,), CONTEXT, device="cuda", dtype=torch.int32),
            out=torch.full((tokens, heads * VALUE), torch.nan, device="cuda", dtype=torch.bfloat16),
        )

    def results(self, split: LatentSplit) -> LatentResults:
        """Room for the slices' results."""
        tokens, heads, _ = self.q.shape
        return LatentResults.make(split, tokens=tokens, heads=heads, c=LATENT, like=self.q)

    def attend(
        self, split: LatentSplit, results: LatentResults, tiles: list[LatentTiles], *, values: bool
    ) -> None:
        """Every layer once; with the results' way out of the latent space, or without it."""
        for cache, described in zip(self.caches, tiles, strict=True):
            attend_latents(
                self.q, cache, described, results, self.lengths, split, scale=SCALE, pdl=True
            )
            if values:
                latent_values(results, self.v_up, self.out, pdl=True)

    def error(self, split: LatentSplit, lengths: Tensor) -> float:
        """Of the last layer against float64; what lies beyond these lengths is NaN."""
        cache = self.caches[-1].clone()
        for token, length in enumerate(lengths.tolist()):
            cache[token, :, length:] = torch.nan
        results = self.results(split)
        tiles = LatentTiles.of(cache, LATENT, split)
        attend_latents(self.q, cache, tiles, results, lengths.int(), split, scale=SCALE)
        latent_values(results, self.v_up, self.out)
        few = slice(0, CHECKED)
        mixed = oracles.attend_latents(self.q[few], cache[few], lengths[few], LATENT, SCALE)
        expected = torch.einsum("thc,hvc->thv", mixed, self.v_up.double()).flatten(1)
        return oracles.error(self.out[few], expected)


def checked(core: LatentCore, split: LatentSplit, generator: torch.Generator) -> Result:
    """Errors with a full context and with lengths of all kinds."""
    full = torch.full_like(core.lengths, CONTEXT)
    odd = torch.randint(1, CONTEXT, full.shape, generator=generator, device="cuda")
    return {"full": core.error(split, full), "odd": core.error(split, odd)}


def measure_split(timer: Timer, core: LatentCore, split: LatentSplit) -> Result:
    """Microseconds of a layer: the core, and the core with `v_up`."""
    results = core.results(split)
    tiles = [LatentTiles.of(cache, LATENT, split) for cache in core.caches]
    layers = len(core.caches)
    return {
        name: timer.step_us(
            partial(core.attend, split, results, tiles, values=values), per=layers, replays=9
        )
        for name, values in (("core_us", False), ("core_and_values_us", True))
    }


def measured(timer: Timer, generator: torch.Generator) -> Result:
    """Every number of heads and sequences: errors of the usual split, times of all splits."""
    results: Result = {}
    for heads in HEADS:
        for tokens in BATCHES:
            stored = 2 * tokens * CONTEXT * (LATENT + ROTARY)
            layers = max(3, min(MOST_LAYERS, round(COLD_BYTES / stored + 0.5)))
            core = LatentCore.random(tokens, heads, generator, layers)
            usual = latent_split(tokens, heads, CONTEXT)
            one_slice = core.results(replace(usual, slices=1))
            one_slice.mixed.normal_(generator=generator)
            one_slice.shares.zero_()
            values = partial(latent_values, one_slice, core.v_up, core.out, pdl=True)
            results[f"{heads} heads, batch {tokens}"] = {
                "bytes": stored,
                "flops": 2 * tokens * heads * CONTEXT * (2 * LATENT + ROTARY),
                "errors": checked(core, usual, generator),
                "values_of_one_slice_us": timer.step_us(values, replays=9),
                "splits": {
                    name: measure_split(timer, core, split)
                    for name, split in splits(tokens, heads).items()
                },
            }
            del core, one_slice, values
            torch.cuda.empty_cache()
    return results
