"""The choice of compressed entries in plain PyTorch: keys of entries, candidates, the best entries.

Shapes: B sequences, T new tokens, E entries (all slots in static decode), Hi heads of di.
Sources: DeepSeek-V4, transformers 5.24 (`modeling_deepseek_v4`); V4.1, main branch
(`modeling_deepseek_v41`).
"""

import torch
from torch import Tensor, nn

from costmodel.layers.entry_choice import EntryChoice
from reference_model.cache import MASKED
from reference_model.compressor import Entries, Fresh, rotated_entries
from reference_model.leaf import Factory, Leaf, rms_norm
from reference_model.sdpa import Choice


class IndexKey(Leaf):
    """The keys of new entries: a projection before rotation, a norm, rotation, the cache write."""

    weight: nn.Parameter
    norm: nn.Parameter

    def __init__(self, factory: Factory, inputs: int, choice: EntryChoice) -> None:
        super().__init__()
        self.ratio, self.rotated = choice.ratio, choice.indexer.rotated
        self.register("weight", factory.normal(choice.indexer.head_dim, inputs), "attention")
        self.register("norm", factory.filled(choice.indexer.head_dim, value=1.0), "norm")

    def forward(self, fresh: Fresh, keys: Entries) -> Tensor:
        """Of the entries that the step makes; all keys up to them, [B, E, di]."""
        made = rms_norm(nn.functional.linear(fresh.latents, self.weight), self.norm)
        return fresh.store(rotated_entries(made, fresh, self.ratio, self.rotated), keys.held)


class EntrySelect(Leaf):
    """Scores of entries, summed over heads; the best of them, and the best blocks for others."""

    def __init__(self, choice: EntryChoice) -> None:
        super().__init__()
        self.topk, self.blocks = choice.indexer.topk, choice.blocks
        self.chooses_blocks = choice.chooses_blocks

    def forward(
        self, query: Tensor, keys: Tensor, weights: Tensor, mask: Tensor, within: Choice | None
    ) -> tuple[Choice | None, Choice | None]:
        """The entries that each query attends to, and candidates for later indexers.

        Args:
            query: [B, T, Hi, di].
            keys: [B, E, di].
            weights: Of the heads, [B, T, Hi].
            mask: Additive [1, 1, T, E], of entries that are not whole.
            within: The candidates of each query, [B, T, n], and a mask of them; None: all.

        Returns:
            Entries [B, T, k] and an additive mask of them, or None: all; the same of candidates.
        """
        if within is None:
            scores = torch.einsum("bthd,bed->bthe", query, keys).relu()
            logits = torch.einsum("bthe,bth->bte", scores, weights) + mask[0]
        else:
            of_sequence = torch.arange(len(keys), device=keys.device)[:, None, None]
            gathered = keys[of_sequence, within[0]]
            scores = torch.einsum("bthd,bted->bthe", query, gathered).relu()
            logits = torch.einsum("bthe,bth->bte", scores, weights) + within[1]
        candidates = self._candidates(logits, mask) if self.chooses_blocks else None
        if keys.shape[1] <= self.topk:
            return None, candidates
        best, places = logits.topk(min(self.topk, logits.shape[-1]), dim=-1)
        entries = places if within is None else within[0].gather(-1, places)
        return (entries, torch.zeros_like(best).masked_fill_(best == MASKED, MASKED)), candidates

    def _candidates(self, logits: Tensor, mask: Tensor) -> Choice | None:
        """The entries of the best blocks by their largest score, the newest block among them."""
        assert self.blocks is not None
        topk, size = self.blocks
        held = logits.shape[-1]
        if held <= topk * size:
            return None
        padded = nn.functional.pad(logits, (0, -held % size), value=MASKED)
        blocks = padded.unflatten(-1, (-1, size)).amax(dim=-1)
        newest = ((mask[0] == 0).sum(dim=-1) - 1) // size  # [1, T]; -1 before the first entry
        every = torch.arange(blocks.shape[-1], device=logits.device)
        blocks = blocks.masked_fill(every == newest[..., None], -MASKED)
        chosen = blocks.topk(topk, dim=-1).indices
        entries = (chosen[..., None] * size + torch.arange(size, device=logits.device)).flatten(-2)
        shut = padded.gather(-1, entries) == MASKED  # not whole, or past the last
        zeros = torch.zeros(shut.shape, device=logits.device, dtype=logits.dtype)
        return entries.clamp(max=held - 1), zeros.masked_fill_(shut, MASKED)
