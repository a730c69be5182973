"""The whole model: blocks of leaves, built from a cost model's configuration.

    attention_norm, attention, (post_attention_norm), ffn_norm, ffn | moe, memory, (post_ffn_norm)

Each norm takes the outputs that wait for the residual stream. A memory layer reads the normalised
vector that fed its block's FFN, and its output joins the stream after its output block.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Logits, Mla
from reference_model.cache import Cache, LayerCache, LayerState, Room
from reference_model.layers import Embed, LmHead, Norm
from reference_model.leaf import Factory, Leaf
from reference_model.mla import LatentLayer
from reference_model.registry import module_of


class Block(nn.Module):
    """One block: its leaves under the names of the cost model's paths."""

    def __init__(self, factory: Factory, config: ModelConfig, attention: nn.Module) -> None:
        super().__init__()
        self.attention_norm = Norm(factory)
        self.attention = attention
        self.post_attention_norm = Norm(factory) if config.post_norms else None
        self.ffn_norm = Norm(factory)
        self.ffn: nn.Module | None = None
        self.moe: nn.Module | None = None
        self.memory: nn.Module | None = None
        self.post_ffn_norm: Norm | None = None

    def new_cache(self, room: Room) -> LayerCache | LayerState:
        """What the mixer keeps of its sequences."""
        made: LayerCache | LayerState = self.attention.new_cache(room)  # type: ignore[operator]  # every mixer has it
        return made

    def forward(
        self, stream: Tensor, adds: list[Tensor], cache: Cache, index: int
    ) -> tuple[Tensor, list[Tensor], Tensor | None]:
        """The stream, what the FFN adds to it, and the memory layer's output; all [B, T, D]."""
        stream, x = self.attention_norm(stream, *adds)
        attended = self.attention(x, cache, index)
        if self.post_attention_norm is not None:
            _, attended = self.post_attention_norm(attended)
        stream, x = self.ffn_norm(stream, attended)
        adds = []
        ffn = self.ffn if self.ffn is not None else self.moe
        if ffn is not None:
            out = ffn(x)
            if self.post_ffn_norm is not None:
                _, out = self.post_ffn_norm(out)
            adds.append(out)
        return stream, adds, None if self.memory is None else self.memory(x)


class ReferenceModel(nn.Module):
    """A decoder-only language model whose leaf modules are the operators of its cost model."""

    def __init__(self, config: ModelConfig, factory: Factory) -> None:
        super().__init__()
        self.config, self.device, self.dtype = config, factory.device, factory.dtype
        num_layers = config.num_hidden_layers
        self.embed = Embed(factory, config.vocab_size, tied=config.tie_word_embeddings)
        attentions: dict[int, nn.Module] = {}
        for attention, layers in config.attention_groups:
            for layer in layers:
                attentions[layer] = module_of(attention)(factory, attention)
        self.layers = nn.ModuleList(
            Block(factory, config, attentions[layer]) for layer in range(num_layers)
        )
        for ffn, layers in config.ffn_groups:
            for layer in layers:
                module = module_of(ffn)
                setattr(self.layers[layer], module.attribute, module(factory, ffn))
                if config.post_norms:
                    self.layers[layer].post_ffn_norm = Norm(factory)
        self.output_blocks: dict[int, int] = {}
        for memory in config.memory:
            placement = memory.placement(num_layers)
            tables: dict[str, nn.Parameter] = {}
            for index, (block, output) in enumerate(placement):
                self.layers[block].memory = module_of(memory)(
                    factory, memory, index=index, num_layers=len(placement), tables=tables
                )
                self.output_blocks[block] = output
        self.final_norm = Norm(factory)
        tied = self.embed.weight if config.tie_word_embeddings else None
        self.lm_head = LmHead(factory, config.vocab_size, tied)

    def leaves(self) -> dict[str, Leaf]:
        """Every operator by its path."""
        return {path: m for path, m in self.named_modules() if isinstance(m, Leaf)}

    def fold(self) -> "ReferenceModel":
        """Prepare for inference: the keys of memory layers hold their own norm from now on."""
        for leaf in self.leaves().values():
            leaf.fold()
        return self

    def new_cache(self, batch: int, capacity: int) -> Cache:
        """An empty cache of `capacity` tokens for each of `batch` sequences."""
        room = Room(batch=batch, capacity=capacity, device=self.device, dtype=self.dtype)
        return Cache(
            layers=[block.new_cache(room) for block in self._blocks()],
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
        """Run latent attention `absorbed` or `expanded` from now on."""
        for module in self.modules():
            if isinstance(module, LatentLayer):
                module.mode = mode

    def forward(self, ids: Tensor, cache: Cache, *, logits: Logits = "last") -> Tensor:
        """Ids [B, T] after what the cache holds, to logits [B, 1, V] or, of `all`, [B, T, V]."""
        stream = self.embed(ids)
        adds: list[Tensor] = []
        waiting: dict[int, list[Tensor]] = {}  # memory outputs by the block after which they join
        for index, block in enumerate(self.layers):
            stream, adds, memory = block(stream, adds, cache, index)
            if memory is not None:
                waiting.setdefault(self.output_blocks[index], []).append(memory)
            adds = [*adds, *waiting.pop(index, [])]
        if logits == "last":
            stream, adds = stream[:, -1:], [add[:, -1:] for add in adds]
        _, x = self.final_norm(stream, *adds)
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
    """A model with random weights, made on `device` from `seed`."""
    target = torch.device(device)
    generator = None
    if target.type != "meta":
        generator = torch.Generator(device=target).manual_seed(seed)
    factory = Factory(
        device=target, dtype=dtype, hidden_size=config.hidden_size, generator=generator
    )
    return ReferenceModel(config, factory)
