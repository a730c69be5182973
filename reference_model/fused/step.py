"""A step of the backend `fused`: a reference model's parameters, run by few kernels a layer.

The step has the leaves' own parameters and caches, and gives the same logits within bf16. Launches
are put together once for a model, a cache and its batch; after that a step is a walk over a list,
and a CUDA graph can capture it. It decodes one token of each sequence of a static cache, or runs a
prompt of each sequence of an empty one.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from costmodel.errors import InputError
from costmodel.layers.moe import MoeFfn
from reference_model.attention import AttentionLayer
from reference_model.cache import Cache, LayerCache
from reference_model.ffn import FeedForward
from reference_model.fused.attention import AttentionPlan, Places
from reference_model.fused.ffn import add_feed_forward
from reference_model.fused.memory import MemoryPlan, MemoryRooms
from reference_model.fused.memory_weights import MemoryLayer
from reference_model.fused.mla import LatentPlan
from reference_model.fused.moe import MoePlan, takes_norm
from reference_model.fused.plan import Plan, region
from reference_model.fused.products import launch_product
from reference_model.fused.support import device_refusal, model_refusal
from reference_model.kernels.embed import embed
from reference_model.kernels.grouped import Groups, group_tiles
from reference_model.kernels.launch import INTERPRETED
from reference_model.kernels.router_tiles import splits_of
from reference_model.kernels.routing import Routing
from reference_model.kernels.tiles import expert_tiles, many
from reference_model.mla import LatentLayer
from reference_model.model import Block, ReferenceModel
from reference_model.moe import MoeLayer, Router

if TYPE_CHECKING:
    from reference_model.leaf import Selector

Context = Callable[[str], AbstractContextManager[object]]
FIRST = -1  # a stream's priority over those of 0, which is the usual one


class FusedStep:
    """T new tokens of each of B sequences, by fused kernels: one, or a whole prompt.

    A prompt begins at position 0 of a cache that is not static.

    With `branches` a memory layer's search runs beside the dense FFN of its block, on an H200 -1 to
    11 % of a decode step faster, where the GPU takes its kernels first, since more of them follow
    one another. By default it does so unless tokens are many: of a prompt it was not timed.

    Attributes:
        ids: Token ids [B, T], where the caller puts them.
        logits: Of each sequence's last token, [B, 1, V], where a run leaves them.

    Raises:
        InputError: There are no kernels for this model, device or format.
    """

    def __init__(
        self, model: ReferenceModel, cache: Cache, ids: Tensor, *, pdl: bool = True,
        branches: bool | None = None,
    ) -> None:  # fmt: skip
        new, tokens, device = ids.shape[1], ids.numel(), model.device
        if branches is None:
            branches = not many(tokens)
        refuse(model, new)
        self.ids, self.places = ids, Places(cache, new)
        self.plan = plan = Plan(
            tokens, model.config.hidden_size, device=device, dtype=model.dtype, pdl=pdl,
            most=1 + max(Counter(model.output_blocks.values()).values(), default=0),
        )  # fmt: skip
        self.selections: list[tuple[Selector, Tensor]] = []
        self.routings: list[Routing] = []  # by layer with experts, as `selections` begins
        self.memories: list[MemoryPlan] = []  # by layer with a memory, as `selections` goes on
        self.counters: list[Tensor] = []
        self._context: Context | None = None
        self.groups: dict[tuple[int, int], Groups] = {}  # by experts, and experts of a token
        table, flat = model.embed.weight, ids.view(tokens)
        plan.launch("embed", embed, flat, table, plan.stream, pdl=pdl)
        attention, latent = AttentionPlan(plan, self.places), LatentPlan(plan, self.places)
        routings, memories = self._routings(model), self._memories(model, branches=branches)
        for index, block in enumerate(model.layers):
            assert isinstance(block, Block)
            layer_cache, prefix = cache.layers[index], f"layers.{index}."
            assert isinstance(layer_cache, LayerCache)
            moe = block.moe if isinstance(block.moe, MoeLayer) else None
            late = moe is not None and block.memory is None and takes_norm(plan, moe.router)
            norm = block.attention_norm
            if isinstance(block.attention, LatentLayer):
                latent.add(prefix, norm, block.attention, layer_cache, waits=late)
            else:
                assert isinstance(block.attention, AttentionLayer)
                attention.add(prefix, norm, block.attention, layer_cache, waits=late)
            self._add_second_half(index, block, routings.get(index), memories.get(index))
            for source, output in model.output_blocks.items():
                if output == index:
                    memories[source].add_output()
        logits = plan.room(cache.batch, model.config.vocab_size)
        if plan.single:
            path = region("", "final_norm", "lm_head")
            gamma = model.final_norm.weight
            launch_product(plan, path, plan.stream, model.lm_head, logits, gamma=gamma)
        else:
            last = plan.room(cache.batch, plan.hidden)
            plan.launch_norm("final_norm", model.final_norm, last, new)
            launch_product(plan, "lm_head", last, model.lm_head, logits)
        self.logits = logits.view(cache.batch, 1, -1)
        self._beside: list[torch.cuda.Stream] = []
        if device.type == "cuda":
            first = 0 if many(tokens) else FIRST  # parts of many tokens alternate
            self._beside = [
                torch.cuda.Stream(device, priority=first) for _ in range(plan.streams - 1)
            ]

    def _add_second_half(
        self, index: int, block: Block, routing: Routing | None, memory: MemoryPlan | None
    ) -> None:
        """FFN or experts, and a memory layer up to its output.

        Of one token the memory layer comes first: it norms the stream, which the FFN then changes.
        Of more the norm's kernel has to come first, which belongs to the FFN. A dense FFN runs
        beside a memory layer's search, whose kernels wait more than they read.
        """
        plan, norm, prefix = self.plan, block.ffn_norm, f"layers.{index}."
        replaced = block.ffn is None and block.moe is None
        branches = memory is not None and memory.branches
        if branches and not plan.single:
            plan.launch_norm(prefix + "ffn_norm", norm)
        if memory is not None and (plan.single or branches):
            memory.add_choice(norm, takes_norm=replaced)
        if isinstance(block.moe, MoeLayer):
            assert routing is not None
            groups = self._groups(block.moe)
            MoePlan(plan, prefix, block.moe, routing, groups, memory is None).add(norm)
        elif isinstance(block.ffn, FeedForward):
            add_feed_forward(plan, prefix, norm, block.ffn, normed=branches)
        if memory is not None and not (plan.single or branches):
            memory.add_choice(norm, takes_norm=replaced)

    def _memories(self, model: ReferenceModel, *, branches: bool) -> dict[int, MemoryPlan]:
        """The memory layers by their input block; nothing of them is in the plan yet."""
        rooms = MemoryRooms(self.plan)
        memories: dict[int, MemoryPlan] = {}
        for index, output in model.output_blocks.items():
            layer = model.layers[index].memory
            assert isinstance(layer, MemoryLayer)
            memory = MemoryPlan(
                self.plan, rooms, f"layers.{index}.", layer, skips=output > index,
                branches=branches and isinstance(model.layers[index].ffn, FeedForward),
            )  # fmt: skip
            memories[index] = memory
            self.memories.append(memory)
            self.selections.append((memory.parts.retrieve, memory.buffers.selected))
        return memories

    def _routings(self, model: ReferenceModel) -> dict[int, Routing]:
        """A routing for each layer with experts; layers alike share most of its buffers."""
        routings: dict[int, Routing] = {}
        tokens, hidden = self.plan.tokens, self.plan.hidden
        for config, layers in model.config.ffn_groups:
            if not isinstance(config, MoeFfn):
                continue
            routers = {index: _router_of(model, index) for index in layers}
            experts, top_k = config.num_experts, config.num_experts_per_tok
            up, _ = expert_tiles(tokens, experts, top_k, hidden, config.moe_intermediate_size)
            item_tokens = 0 if many(tokens) else up.tokens
            counts, by_layer = Routing.layers(
                len(routers), tokens=tokens, experts=experts, top_k=top_k,
                splits=splits_of(hidden), device=str(self.plan.device), item_tokens=item_tokens,
            )  # fmt: skip
            self.counters.append(counts)
            for (index, router), routing in zip(routers.items(), by_layer, strict=True):
                routings[index] = routing
                self.routings.append(routing)
                self.selections.append((router, routing.ids))
        return routings

    def _groups(self, moe: MoeLayer) -> Groups | None:
        """Where many tokens' pairs are put in order; layers share it, one after another."""
        plan, config = self.plan, moe.router.config
        if not many(plan.tokens):
            return None
        key = config.num_experts, config.num_experts_per_tok
        if key not in self.groups:
            self.groups[key] = Groups.make(
                tokens=plan.tokens, experts=key[0], top_k=key[1], hidden=plan.hidden,
                tile=group_tiles()[0].tokens, like=plan.stream,
            )  # fmt: skip
        return self.groups[key]

    @property
    def regions(self) -> tuple[str, ...]:
        """Paths of the leaves and regions that run, in the order of their first launch."""
        return tuple(dict.fromkeys(launch.path for launch in self.plan.launches))

    @contextmanager
    def within(self, context: Context) -> Iterator[None]:
        """While this is open, the launches of each region run inside `context(path)`."""
        self._context = context
        try:
            yield
        finally:
            self._context = None

    @torch.no_grad()
    def __call__(self) -> Tensor:
        """Run the step at the cache's position, or a prompt from its beginning; logits [B, 1, V].

        A prompt's tokens are then what the cache holds.
        """
        for counts in self.counters:
            counts.zero_()
        if self._context is None:
            self._run()
        else:
            self._run_within(self._context)
        for selector, chosen in self.selections:
            selector.selected = chosen
        if self.places.new > 1:
            self.places.cache.length = self.places.new
        return self.logits

    def _run(self) -> None:
        """All launches; those of branches on streams of their own, if the device has them."""
        if not self._beside:
            for launch in self.plan.launches:
                launch.run()
            return
        streams = [torch.cuda.current_stream(), *self._beside]
        for launch in self.plan.launches:
            own = streams[launch.stream]
            before = launch.joins if launch.forks is None else (launch.forks, *launch.joins)
            for other in before:
                own.wait_stream(streams[other])
            with torch.cuda.stream(own):
                launch.run()

    def _run_within(self, context: Context) -> None:
        path = ""
        with ExitStack() as stack:
            for launch in self.plan.launches:
                if launch.path != path:
                    stack.close()
                    path = launch.path
                    stack.enter_context(context(path))
                launch.run()


def _router_of(model: ReferenceModel, index: int) -> Router:
    moe = model.layers[index].moe
    assert isinstance(moe, MoeLayer)
    return moe.router


def refuse(model: ReferenceModel, new: int = 1) -> None:
    """Raise where the backend does not apply to steps of a model, its device or its format."""
    mixers = [block.attention for block in model.layers if isinstance(block, Block)]
    expanded = any(isinstance(each, LatentLayer) and each.mode == "expanded" for each in mixers)
    reason = model_refusal(model.config, new=new, mla="expanded" if expanded else "absorbed")
    if reason is None and model.tables != "hbm":
        reason = f"reads tables in HBM alone, and they stand in {model.tables} memory"
    if reason is None and not INTERPRETED:
        reason = device_refusal(model.device, model.dtype)
    if reason is not None:
        raise InputError(f"backend='fused': {reason}")
