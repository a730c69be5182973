"""What prompts need beside the kernels of decode steps: their attention.

PyTorch's fused attention kernels are as fast as a product of their size allows, so prompts use the
one that plain PyTorch uses. It makes its result itself, which the output product then reads.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from reference_model.attention import AttentionLayer
from reference_model.cache import LayerCache
from reference_model.fused.plan import Plan
from reference_model.sdpa import attend


@dataclass(slots=True)
class PromptCore:
    """The attention core of B prompts of S tokens, and the output product after it.

    Attributes:
        queries: [B, H, S, d], a view of the tokens' rows.
        keys: [B, K, S, d], a view of the cache.
        values: The same.
        scale: Of the scores.
        attended: [B S, H d] between the two launches.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    scale: float
    attended: Tensor | None = None

    def attend(self) -> None:
        """Each token attends to itself and to those before it."""
        out = attend(self.queries, self.keys, self.values, scale=self.scale)
        self.attended = out.transpose(1, 2).flatten(2).flatten(0, 1)

    def project(self, weight: Tensor, bias: Tensor | None, out: Tensor) -> None:
        """Compute out [B S, D], and let go of what was attended to."""
        assert self.attended is not None
        if bias is None:
            torch.mm(self.attended, weight.T, out=out)
        else:
            torch.addmm(bias, self.attended, weight.T, out=out)
        self.attended = None


def add_prompt_core(
    plan: Plan, prefix: str, layer: AttentionLayer, cache: LayerCache, q: Tensor, *, new: int
) -> None:
    """Core and output of a layer for prompts of `new` tokens, whose queries q are [B S, H, d].

    The result waits to be added to the stream.
    """
    assert cache.values is not None
    core = PromptCore(
        queries=q.unflatten(0, (-1, new)).transpose(1, 2),
        keys=cache.keys[:, :, :new],
        values=cache.values[:, :, :new],
        scale=layer.core.scale,
    )
    plan.launch(prefix + "attention.core", core.attend)
    output = layer.output
    plan.launch(
        prefix + "attention.output", core.project, output.weight, output.bias, plan.wait()
    )  # fmt: skip
