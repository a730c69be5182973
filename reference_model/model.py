"""The reference model: a decoder-only language model, built from a cost model's configuration.

A block runs in this order (in parentheses: only where the configuration has it):

    attention_norm, attention, (post_attention_norm), ffn_norm, ffn | moe, (post_ffn_norm), (memory)

LAUREL's residual (`laurel`) stands before `ffn_norm`. With AltUp the stream is several vectors: a
block begins with `altup.predict` and ends with `altup.correct`, which adds what waits.

A block with its norms behind has the two post norms alone, whose results join the residual stream
at once; a parallel block has no `ffn_norm`. A block may lack its mixer or its FFN, and the norms of
that with it.

The additions to the residual stream are done by the norm that comes next, as a fused kernel would
do them: a block returns what it adds, and a norm takes the stream and the additions that wait for
it. A memory layer beside an FFN reads the same normalised vector as that. Its output joins the
stream after its output block, which may be a later one. Memory layers at the head or the end of a
block, and at the model's input, are addressed by token ids: see `reference_model/lookup.py`.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn

from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Logits, Mla
from reference_model.altup import AltUpBlock, AltUpEnds
from reference_model.attention import AttentionLayer
from reference_model.cache import NO_TOKEN, Cache, LayerCache, LayerState, Room
from reference_model.compressed_attention import CompressedLayer
from reference_model.gated_residual import Gather
from reference_model.hyper_connections import Connect
from reference_model.layers import Embed, JoiningNorm, LmHead, Norm
from reference_model.leaf import Factory, Leaf
from reference_model.lookup import LookUps
from reference_model.mla import LatentLayer
from reference_model.registry import module_of
from reference_model.residual_streams import Expand
from reference_model.value_tables import TablesPlace, placed

Fed: TypeAlias = Callable[[Tensor], Tensor]
"""An FFN, given what it needs beside the hidden states [B, T, D]."""


class Block(nn.Module):
    """One block; its attributes have the names that the cost model's paths have."""

    attention_norm: Norm  # both where the block has them
    ffn_norm: Norm

    def __init__(
        self, factory: Factory, config: ModelConfig, attention: nn.Module | None, *, fed: bool
    ) -> None:
        super().__init__()
        self.norms_behind = config.block == "norms_behind"
        several = config.residual_streams
        normed = several is None or not several.replaces_norms
        self.several = several is not None
        self.has_ffn_norm = fed and config.block == "serial" and normed
        # leaves are listed in the order in which a step runs them
        if several is not None:
            self.attention_residual = _site(factory, config)
            self.ffn_residual = _site(factory, config)
        self.has_attention_norm = attention is not None and not self.norms_behind and normed
        if self.has_attention_norm:
            self.attention_norm = Norm(factory, config)
        self.attention = attention
        post_norm = None if attention is None else _post_norm(factory, config)
        self.post_attention_norm: Norm | None = post_norm
        self.altup: AltUpBlock | None = None
        self.laurel: nn.Module | None = None
        if config.laurel is not None:
            self.laurel = module_of(config.laurel)(factory, config.laurel)
        if self.has_ffn_norm:
            self.ffn_norm = Norm(factory, config)
        self.ffn: nn.Module | None = None
        self.moe: nn.Module | None = None
        self.own = ""  # which of the two is the block's own; the other is a shortcut's
        self.memory: nn.Module | None = None
        self.post_ffn_norm: Norm | None = None

    def new_cache(self, room: Room) -> LayerCache | LayerState:
        """An empty cache or state for this block's sequence mixer."""
        if self.attention is None:
            return LayerState(tensors=[])
        cache: LayerCache | LayerState = self.attention.new_cache(room)  # type: ignore[operator]  # every mixer has it
        return cache

    def forward(
        self, stream: Tensor, adds: list[Tensor], cache: Cache, index: int, ids: Tensor
    ) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
        """One block of one step; all tensors are [B, T, D].

        Args:
            stream: The residual stream.
            adds: What waits to be added to it.
            cache: The caches of all layers.
            index: This block's number.
            ids: Token ids [B, T], for what they address.

        Returns:
            The stream, the FFN's output that waits to be added, and by their attributes the outputs
            of what stands beside the FFN: a memory layer, the FFN of a shortcut.
        """
        ffn = _given(getattr(self, self.own), ids) if self.own else None
        if self.norms_behind:
            return self._joined(stream, ffn, cache, index), [], {}
        if self.several:
            return *self._mixed(stream, adds, ffn, cache, index), {}
        x = stream
        if self.attention is not None:
            stream, x = self.attention_norm(stream, *adds)
            attended = self.attention(x, cache, index)
            if self.post_attention_norm is not None:
                _, attended = self.post_attention_norm(attended)
            adds = [attended]
            if self.laurel is not None:
                stream, adds = self.laurel(stream, x, attended), []
        if self.has_ffn_norm:  # else the FFN, if there is one, reads what attention read
            stream, x = self.ffn_norm(stream, *adds)
            adds = []
        if ffn is not None:
            out = ffn(x)
            if self.post_ffn_norm is not None:
                _, out = self.post_ffn_norm(out)
            adds.append(out)
        beside = {"ffn": self.ffn, "moe": self.moe, "memory": self.memory}
        outputs = {
            name: _given(module, ids)(x)
            for name, module in beside.items()
            if module is not None and name != self.own
        }
        return stream, adds, outputs

    def _mixed(
        self, stream: Tensor, adds: list[Tensor], ffn: Fed | None, cache: Cache, index: int
    ) -> tuple[Tensor, list[Tensor]]:
        """Streams [B, T, c D] after a block, and what waits: the FFN's output and its weights."""
        assert self.attention is not None, "a rule of the model"
        assert ffn is not None, "a rule of the model"
        stream, x, *weights = self.attention_residual(stream, *adds)
        if self.has_attention_norm:
            _, x = self.attention_norm(x)
        attended = self.attention(x, cache, index)
        stream, x, *of_ffn = self.ffn_residual(stream, attended, *weights)
        if self.has_ffn_norm:
            _, x = self.ffn_norm(x)
        return stream, [ffn(x), *of_ffn]

    def _joined(self, stream: Tensor, ffn: Fed | None, cache: Cache, index: int) -> Tensor:
        """The stream after a block whose norms are of the sublayers' outputs alone."""
        assert self.attention is not None, "a rule of the model"
        assert self.post_attention_norm is not None, "a rule of the model"
        stream, _ = self.post_attention_norm(stream, self.attention(stream, cache, index))
        if ffn is not None:
            assert self.post_ffn_norm is not None, "a rule of the model"
            stream, _ = self.post_ffn_norm(stream, ffn(stream))
        return stream


def _given(ffn: nn.Module, ids: Tensor) -> Fed:
    """The FFN with the token ids that say which experts it has, if they do."""
    return partial(ffn, ids=ids) if getattr(ffn, "by_ids", False) else ffn


def _site(factory: Factory, config: ModelConfig, *, sublayer: bool = True) -> Gather | Connect:
    """What mixes several residual streams before a sublayer, or at the end of the model."""
    if config.gated_residual is not None:
        return Gather(factory, config.gated_residual, sublayer=sublayer)
    assert config.hyper_connections is not None, "there are several streams"
    return Connect(factory, config.hyper_connections, sublayer=sublayer)


def _post_norm(factory: Factory, config: ModelConfig) -> Norm | None:
    """The norm of a sublayer's output; None: the block has none."""
    if config.block == "norms_behind":
        return JoiningNorm(factory, config)
    return Norm(factory, config) if config.post_norms else None


class ReferenceModel(nn.Module):
    """A decoder-only language model whose leaf modules are the operators of the cost model.

    Attributes:
        tables: Where its memory tables stand: see `place_tables`.
        prefetch: Whether layers of the blocks that token ids address read their rows at the step's
            beginning, beside the work before them. None: where tables stand in host memory.
    """

    final_norm: Norm  # where the model has one
    tables: TablesPlace = "hbm"
    prefetch: bool | None = None

    def __init__(self, config: ModelConfig, factory: Factory) -> None:
        super().__init__()
        self.config, self.device, self.dtype = config, factory.device, factory.dtype
        num_layers = config.num_hidden_layers
        self.embed = Embed(factory, config.vocab_size, tied=config.tie_word_embeddings)
        attentions: dict[int, nn.Module] = {}
        for attention, layers in config.attention_groups:
            for layer in layers:
                attentions[layer] = module_of(attention)(factory, attention)
        for layer, source in config.cache_sources.items():
            assert source is not None, "a rule of the model"
            reader, owner = attentions[layer], attentions[source]
            if isinstance(reader, CompressedLayer) and isinstance(owner, CompressedLayer):
                reader.source, owner.lends = source, True
                continue
            assert isinstance(reader, AttentionLayer)
            assert isinstance(owner, AttentionLayer)
            reader.rope.source, owner.rope.lends = source, True
        fed = config.fed_layers
        self.layers = nn.ModuleList(
            Block(factory, config, attentions.get(layer), fed=layer in fed)
            for layer in range(num_layers)
        )
        self.altup = self._with_altup(factory, config)
        self.shortcut_blocks: dict[int, int] = {}  # where their outputs join, by their blocks
        self._add_ffns(factory, config)
        self.output_blocks: dict[int, int] = {}  # the same of memory layers
        self.look_ups = LookUps(self, factory, config)
        for memory in config.memory:
            if memory.position != "beside_ffn":
                continue
            placement = memory.placement(num_layers)
            tables: dict[str, nn.Parameter] = {}
            for index, (block, output) in enumerate(placement):
                self.layers[block].memory = module_of(memory)(
                    factory, memory, index=index, num_layers=len(placement), tables=tables
                )
                self.output_blocks[block] = output
        self.residual_expand: Expand | None = None
        if (several := config.residual_streams) is not None:
            self.residual_expand = Expand(several.streams)
            self.final_residual = _site(factory, config, sublayer=False)
        if several is None or not several.replaces_norms:
            self.final_norm = Norm(factory, config)
        tied = self.embed.weight if config.tie_word_embeddings else None
        self.lm_head = LmHead(factory, config.vocab_size, tied, softcap=config.logit_softcap)

    def _add_ffns(self, factory: Factory, config: ModelConfig) -> None:
        """Give each block its own FFN, and then the FFNs of shortcuts."""
        for ffn, layers in config.own_ffn_groups:
            for layer in layers:
                module = module_of(ffn)
                setattr(self.layers[layer], module.attribute, module(factory, ffn))
                self.layers[layer].own = module.attribute
                if (post_norm := _post_norm(factory, config)) is not None:
                    self.layers[layer].post_ffn_norm = post_norm
        for shortcut, placement in zip(config.shortcuts, config.shortcut_placements, strict=True):
            module = module_of(shortcut.ffn)
            for layer, output in placement:
                setattr(self.layers[layer], module.attribute, module(factory, shortcut.ffn))
                self.shortcut_blocks[layer] = output

    def _with_altup(self, factory: Factory, config: ModelConfig) -> AltUpEnds | None:
        """Give each block its part of AltUp; the part at the ends, or None without AltUp."""
        if config.altup is None:
            return None
        behind = {
            block
            for memory in config.memory
            if memory.position == "behind_block"
            for block, _ in memory.placement(config.num_hidden_layers)
        }
        for number, block in enumerate(self._blocks()):
            block.altup = AltUpBlock(factory, config.altup, spreads=number in behind)
        return AltUpEnds(factory, config.altup)

    def leaves(self) -> dict[str, Leaf]:
        """The module of every operator, by path."""
        return {path: m for path, m in self.named_modules() if isinstance(m, Leaf)}

    def place_tables(self, place: TablesPlace) -> "ReferenceModel":
        """Move all memory tables to host memory, or back to the model's device.

        In host memory they are pinned, so that a GPU reads their rows where they stand. On a CPU
        both places are the same memory. Graphs that were captured before are of no use after.
        """
        self.tables = place
        for table in self.memory_tables():
            table.data = placed(table.data, place, self.device)
        return self

    def memory_tables(self) -> tuple[nn.Parameter, ...]:
        """The tables of memory layers, of which a step reads rows alone; a shared one once."""
        tables = (
            getattr(leaf, name)
            for leaf in self.leaves().values()
            for name, group in leaf.groups.items()
            if group == "memory_values"
        )
        return tuple({id(table): table for table in tables}.values())

    def fold(self) -> "ReferenceModel":
        """Prepare for inference: keys of memory layers are normalised once and for all."""
        for leaf in self.leaves().values():
            leaf.fold()
        return self

    def new_cache(self, batch: int, capacity: int) -> Cache:
        """An empty cache of `capacity` tokens for each of `batch` sequences."""
        room = Room(batch=batch, capacity=capacity, device=self.device, dtype=self.dtype)
        past = max((memory.past_ids for memory in self.config.memory), default=0)
        return Cache(
            layers=[block.new_cache(room) for block in self._blocks()],
            memories=self.look_ups.new_states(room),
            past_ids=torch.full((batch, past), NO_TOKEN, device=self.device) if past else None,
            batch=batch,
            capacity=capacity,
            device=self.device,
            dtype=self.dtype,
        )

    def _blocks(self) -> Iterator["Block"]:
        for block in self.layers:
            assert isinstance(block, Block)
            yield block

    def set_mla(self, mode: Mla) -> None:
        """Choose how latent attention runs from now on: `absorbed` or `expanded`."""
        for module in self.modules():
            if isinstance(module, LatentLayer):
                module.mode = mode

    def _expanded(self, stream: Tensor) -> Tensor:
        """The embedded tokens [B, T, D] as each of several streams, if there are such."""
        return stream if self.residual_expand is None else self.residual_expand(stream)

    def _final(self, stream: Tensor, adds: list[Tensor]) -> Tensor:
        """What the LM head reads, [B, T, D]: a norm of the stream, or of a collapse of several."""
        several = self.config.residual_streams
        if several is not None:
            _, stream = self.final_residual(stream, *adds)
            adds = []
        if several is None or not several.replaces_norms:
            _, stream = self.final_norm(stream, *adds)
        return stream

    def forward(self, ids: Tensor, cache: Cache, *, logits: Logits = "last") -> Tensor:
        """One step: T new tokens of each sequence, after those that the cache holds.

        Args:
            ids: Token ids [B, T].
            cache: Is read, and gets the new tokens.
            logits: `last` projects only the last token of each sequence to the vocabulary, `all`
                every one.

        Returns:
            Logits [B, 1, V], or [B, T, V] of `all`.
        """
        known = self.look_ups.known(ids, cache)
        if self.tables == "host" if self.prefetch is None else self.prefetch:
            self.look_ups.fetch_ahead(known)
        stream = self.look_ups.at_input(self.embed(ids), known)
        stream = self._expanded(stream)
        streams = stream if self.altup is None else self.altup.expand(stream)
        adds: list[Tensor] = []
        waiting: dict[int, list[Tensor]] = {}  # outputs by the block after which they join
        for index, block in enumerate(self._blocks()):
            if block.altup is not None:
                streams = block.altup.predict(streams)
                stream, adds = streams[0], []
            stream, adds = self.look_ups.before(index, (stream, adds), known, cache)
            stream, adds, beside = block(stream, adds, cache, index, ids)
            for name, output in beside.items():
                blocks = self.output_blocks if name == "memory" else self.shortcut_blocks
                waiting.setdefault(blocks[index], []).append(output)
            adds = [*adds, *waiting.pop(index, [])]
            if block.altup is not None:
                streams, stream = block.altup.corrected(streams, stream, adds)
                adds = []
            stream, adds = self.look_ups.behind(index, (stream, adds), known, cache)
            if block.altup is not None and adds:
                streams, adds = block.altup.spread(streams, *adds), []
        if self.altup is not None:
            stream = self.altup.merge(streams)
        if logits == "last":
            stream, adds = stream[:, -1:], [add[:, -1:] for add in adds]
        x = self._final(stream, adds)
        if cache.position is None:
            cache.length += ids.shape[1]
        out: Tensor = self.lm_head(x)
        return out


def build_model(
    config: ModelConfig,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.bfloat16,
    seed: int = 0,
) -> ReferenceModel:
    """A model with random weights, which are made on `device` from `seed`.

    On the device `meta` the model has shapes and no numbers: enough to compare it with the cost
    model.
    """
    target = torch.device(device)
    generator = None
    if target.type != "meta":
        generator = torch.Generator(device=target).manual_seed(seed)
    factory = Factory(
        device=target, dtype=dtype, hidden_size=config.hidden_size, generator=generator
    )
    return ReferenceModel(config, factory)
