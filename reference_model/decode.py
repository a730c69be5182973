"""A decode step with static shapes: run eagerly, or captured once and replayed as a CUDA graph.

A CUDA graph replays the same kernels on the same memory, so nothing in the step may wait for the
host: the position, the mask and the next tokens stay on the device. A graph serves any batch up to
the one that it was captured for; the rows beyond the batch are computed and thrown away.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from costmodel.inputs.workload import Backend
from reference_model.cache import Cache
from reference_model.model import ReferenceModel

if TYPE_CHECKING:  # its kernels need triton, which a CPU build of torch does not bring along
    from reference_model.fused.step import FusedStep

Context: TypeAlias = Callable[[str], AbstractContextManager[object]]
"""Makes the context of a leaf or region from its path."""

WARM_UPS = 3  # runs before a capture, which libraries need to set themselves up


class DecodeStep:
    """A step of one new token for each of B sequences, after the tokens that the cache holds.

    Args:
        model: To run.
        cache: Changes to static mode.
        graph: Whether to capture the step as a CUDA graph.
        greedy: Whether a step feeds its most likely token to the next step and moves the position
            on. Otherwise every step runs at the same position, as a measurement needs; states of
            fixed size and past token ids move on all the same.
        backend: Whose kernels run: PyTorch's, leaf by leaf, or those of `reference_model.fused`.

    Raises:
        InputError: The backend has no kernels for this model, device or format.
    """

    def __init__(
        self,
        model: ReferenceModel,
        cache: Cache,
        *,
        graph: bool,
        greedy: bool = False,
        backend: Backend = "torch",
    ) -> None:
        self.model, self.cache, self.greedy = model, cache, greedy
        self.ids = torch.zeros(cache.batch, 1, dtype=torch.int64, device=model.device)
        cache.make_static(cache.length)
        self.fused = fused_step(model, cache, self.ids) if backend == "fused" else None
        self.graph: torch.cuda.CUDAGraph | None = None
        self.logits: Tensor | None = None
        if graph:
            self._capture()

    @torch.no_grad()
    def _once(self) -> Tensor:
        logits: Tensor = self.model(self.ids, self.cache) if self.fused is None else self.fused()
        if self.greedy:
            self.ids.copy_(logits.argmax(-1))
            self.cache.advance_static()
            if self.fused is not None:
                self.fused.places.follow()
        return logits

    def _restore(self, state: list[Tensor]) -> None:
        self.cache.restore_static(state)
        if self.fused is not None:
            self.fused.places.follow()

    def _capture(self) -> None:
        """Warm up on a side stream, capture, and put ids and position back where they were."""
        ids, state = self.ids.clone(), self.cache.static_state()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                self._once()
                self._restore(state)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits = self._once()
        self.ids.copy_(ids)
        self._restore(state)

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

    @property
    def regions(self) -> tuple[str, ...]:
        """Paths of what runs together, in order: leaves, or with `fused` regions of leaves."""
        return tuple(self.model.leaves()) if self.fused is None else self.fused.regions

    def within(self, context: Context) -> AbstractContextManager[None]:
        """While this is open, the launches of each region of a fused step run in its context."""
        assert self.fused is not None, "leaves have hooks of their own"
        return self.fused.within(context)


def fused_step(model: ReferenceModel, cache: Cache, ids: Tensor) -> "FusedStep":
    """A step of the backend `fused`: of one new token each, or of prompts ids [B, T].

    Raises:
        InputError: The backend has no kernels for this model, device or format.
    """
    from reference_model.fused.step import FusedStep

    return FusedStep(model, cache, ids)
