"""A decode step with static shapes: run eagerly, or captured once and replayed as a CUDA graph.

A CUDA graph replays the same kernels on the same memory, so nothing in the step may wait for the
host: the position, the mask and the next tokens stay on the device. A graph serves any batch up to
the one that it was captured for; the rows beyond the batch are computed and thrown away.
"""

import torch
from torch import Tensor

from reference_model.cache import Cache
from reference_model.model import ReferenceModel

WARM_UPS = 3  # runs before a capture, which libraries need to set themselves up


class DecodeStep:
    """A step of one new token for each of B sequences, after the tokens that the cache holds.

    Args:
        model: To run.
        cache: Changes to static mode.
        graph: Whether to capture the step as a CUDA graph.
        greedy: Whether a step feeds its most likely token to the next step and moves the position
            on. Otherwise every step runs at the same position, as a measurement needs.
    """

    def __init__(
        self, model: ReferenceModel, cache: Cache, *, graph: bool, greedy: bool = False
    ) -> None:
        self.model, self.cache, self.greedy = model, cache, greedy
        self.ids = torch.zeros(cache.batch, 1, dtype=torch.int64, device=model.device)
        cache.make_static(cache.length)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.logits: Tensor | None = None
        if graph:
            self._capture()

    @torch.no_grad()
    def _once(self) -> Tensor:
        logits: Tensor = self.model(self.ids, self.cache)
        if self.greedy:
            self.ids.copy_(logits.argmax(-1))
            self.cache.advance_static()
        return logits

    def _capture(self) -> None:
        """Warm up on a side stream, capture, and put ids and position back where they were."""
        ids, state = self.ids.clone(), self.cache.static_state()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                self._once()
                self.cache.restore_static(state)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits = self._once()
        self.ids.copy_(ids)
        self.cache.restore_static(state)

    def __call__(self, ids: Tensor | None = None) -> Tensor:
        """Run the step.

        Args:
            ids: Token ids [b, 1] of b <= B sequences. None: those in `self.ids`, where a greedy
                step leaves its most likely tokens.

        Returns:
            Logits [b, 1, V].
        """
        rows = self.cache.batch
        if ids is not None:
            rows = ids.shape[0]
            self.ids[:rows].copy_(ids)
        if self.graph is None:
            return self._once()[:rows]
        self.graph.replay()
        assert self.logits is not None
        return self.logits[:rows]
