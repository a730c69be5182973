"""A memory layer of a decode step: five launches to its result, six where rows are many.

One product for queries and what else the token is multiplied by; scores; the best lines and
columns; the best points of the grid and their rows; the rows' sum, which one head with few rows
does in the launch before; the output product, which adds to the residual stream. Of one token the
first product takes the norm along. What stands last waits for the layer's output block, which may
be a later one (skip placement).
"""

from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from reference_model.fused.memory_weights import MemoryLayer, MemoryParts, parts_of
from reference_model.fused.plan import Plan, region
from reference_model.fused.products import launch_product
from reference_model.kernels.experts import described
from reference_model.kernels.key_scores import score_keys, score_tile
from reference_model.kernels.memory import MemoryBuffers, MemorySizes, parts_of_tokens
from reference_model.kernels.memory_grid import choose_rows, sums_too
from reference_model.kernels.memory_rows import sum_rows
from reference_model.kernels.memory_sides import choose_sides
from reference_model.layers import Norm
from reference_model.leaf import NORM_EPS


class MemoryRooms:
    """Buffers of memory layers: those of the same sizes share all but their rows and weights.

    Layers that branch share none with the others, whose kernels may run at the same time: a branch
    that skips blocks is joined in a later one.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._shared: dict[tuple[MemorySizes, bool], MemoryBuffers] = {}

    def of(self, sizes: MemorySizes, *, branches: bool) -> MemoryBuffers:
        """Buffers of one layer; its rows stay until the step runs again."""
        key = sizes, branches
        if key not in self._shared:
            self._shared[key] = MemoryBuffers.make(
                sizes, tokens=self.plan.tokens, device=str(self.plan.device)
            )
        shared = self._shared[key]
        rows = torch.zeros_like(shared.rows)
        selected = rows if sizes.expansion == 1 else torch.zeros_like(rows)
        weights = torch.zeros_like(shared.weights)
        return replace(shared, rows=rows, selected=selected, weights=weights)


class MemoryPlan:
    """Puts the launches of one memory layer into a plan.

    Attributes:
        parts: The layer as its kernels see it.
        buffers: Where they leave what they choose; `selected` are the rows of a step.
    """

    def __init__(
        self, plan: Plan, rooms: MemoryRooms, prefix: str, layer: MemoryLayer, *, skips: bool,
        branches: bool = False,
    ) -> None:  # fmt: skip
        """`skips`: other blocks run between the rows' choice and the layer's last launch.

        `branches`: from the scores on, all but the last launch runs beside the FFN.
        """
        self.plan, self.prefix, self.branches = plan, prefix, branches
        self.parts: MemoryParts = parts_of(layer)
        sizes = self.parts.sizes
        self.buffers = rooms.of(sizes, branches=branches)
        room = self._own_room if skips else plan.shared_room
        self.projected = room("memory_projected", plan.tokens, sizes.projected)
        self.mixed = room("memory_mixed", plan.tokens, sizes.sums * sizes.value_dim)

    def _own_room(self, name: str, *shape: int) -> Tensor:
        del name
        return self.plan.room(*shape)

    def add_choice(self, norm: Norm, *, takes_norm: bool) -> None:
        """All launches but the last, which reads what the layer gives.

        Of one token the input is the residual stream, of more `plan.normed`. The norm's leaf is
        part of the first product if no other layer `takes_norm`: no FFN stands beside this layer.
        Where the layer branches, all after the first product runs beside what follows.
        """
        plan, parts = self.plan, self.parts
        leaves = ("ffn_norm", *parts.leaves) if takes_norm and plan.single else parts.leaves
        path, x, gamma = region(self.prefix, *leaves), plan.normed, None
        if not plan.single:
            if takes_norm:
                plan.launch_norm(self.prefix + "ffn_norm", norm)
        elif parts.sizes.neurons:  # they are multiplied by the normed token, too
            plan.launch_norm(path, norm)
        else:
            x, gamma = plan.stream, norm.weight
        launch_product(plan, path, x, parts.first, self.projected, gamma=gamma)
        with plan.branch() if self.branches else nullcontext():
            self._search()

    @property
    def _summed(self) -> bool:
        """Whether the launch that chooses rows sums them too."""
        return self.parts.output is not None and sums_too(self.parts.sizes)

    @property
    def _searches(self) -> str:
        """The path of the search: that of the rows too, where one launch does both."""
        rows = self.parts.rows if self._summed else ()
        return region(self.prefix, "memory.retrieve", *rows)

    def _search(self) -> None:
        """Scores of all keys, then the rows of each token, and their sum: of many tokens in parts.

        Every other part runs beside the rest, and before another layer uses the buffers.
        """
        plan, sizes = self.plan, self.parts.sizes
        tile = score_tile(plan.tokens, sizes.key_dim)
        plan.launch(
            self._searches, score_keys, self.projected,
            described(self.parts.weights.keys, tile), self.buffers.scores, tile, sizes,
            pdl=plan.pdl,
        )  # fmt: skip
        tokens = parts_of_tokens(plan.tokens)
        if len(tokens) > 1:
            with plan.branch():
                for part in tokens[1::2]:
                    self._choose(*part)
        for part in tokens[::2]:
            self._choose(*part)
        if len(tokens) > 1 and not self.branches:
            plan.join()

    def _choose(self, begin: int, end: int) -> None:
        """The rows of some tokens, and their sum unless it is added to the stream."""
        plan, parts, summed = self.plan, self.parts, self._summed
        sizes, weights, buffers = parts.sizes, parts.weights, self.buffers.part(begin, end)
        projected, mixed = self.projected[begin:end], self.mixed[begin:end]
        path = self._searches
        plan.launch(
            path, choose_sides, projected, sizes, weights, buffers, eps=NORM_EPS, pdl=plan.pdl
        )
        declared = parts.retrieve.synthetic_choice
        if declared is not None:
            declared = declared[: plan.tokens][begin:end].contiguous()
        plan.launch(
            path, choose_rows, projected, sizes, weights, buffers, mixed if summed else None,
            declared=declared, pdl=plan.pdl,
        )  # fmt: skip
        if parts.output is not None and not summed:
            plan.launch(
                region(self.prefix, *parts.rows), sum_rows, projected, sizes, weights, buffers,
                mixed, x=plan.normed[begin:end] if sizes.neurons else None, pdl=plan.pdl,
            )  # fmt: skip

    def add_output(self) -> None:
        """The last launch: the output product, or the rows' sum where there is none.

        It adds to the stream. Neurons read `plan.normed`: no other block may run before it.
        """
        plan, parts = self.plan, self.parts
        if self.branches:
            plan.join()
        if parts.output is None:
            plan.launch(
                region(self.prefix, *parts.rows), sum_rows, self.projected, parts.sizes,
                parts.weights, self.buffers, plan.stream,
                x=plan.normed if parts.sizes.neurons else None, added=True, pdl=plan.pdl,
            )  # fmt: skip
        else:
            launch_product(plan, self.prefix + "memory.output", self.mixed, parts.output, None)
