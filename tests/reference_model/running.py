"""The same tokens through a model in different ways: at once, in chunks, by a static step."""

from collections.abc import Callable

import torch
from torch import Tensor

from reference_model.cache import Cache
from reference_model.model import ReferenceModel

Step = Callable[
    [Tensor, Cache], Tensor
]  # [B, T, ...] and the cache, which it advances, to [B, T, .]

LENGTH = 9
WAYS: dict[str, tuple[tuple[int, ...], int]] = {  # chunks of prefill, then static steps
    "at_once": ((9,), 0),
    "one_by_one": ((1,) * 9, 0),
    "in_chunks": ((2, 4, 1, 2), 0),
    "long_chunk_late": ((1, 8), 0),
    "decode_after_prefill": ((6, 1, 1, 1), 0),
    "static_from_the_start": ((), 9),
    "static_after_prefill": ((3,), 6),
    "static_after_a_full_ring": ((7,), 2),
}


@torch.no_grad()
def in_way(way: str, step: Step, inputs: Tensor, cache: Cache) -> Tensor:
    """The outputs at every position of `inputs` [B, T, ...]."""
    chunks, static = WAYS[way]
    outputs, start = [], 0
    for chunk in chunks:
        outputs.append(step(inputs[:, start : start + chunk], cache))
        start += chunk
    if static:
        cache.make_static(start)
        for place in range(start, start + static):
            outputs.append(step(inputs[:, place : place + 1], cache))
            cache.advance_static()
    return torch.cat(outputs, dim=1)


def model_step(model: ReferenceModel) -> Step:
    return lambda ids, cache: model(ids, cache, logits="all")


def attention_step(model: ReferenceModel) -> Step:
    """The attention layer of block 0 alone."""

    def step(x: Tensor, cache: Cache) -> Tensor:
        out: Tensor = model.get_submodule("layers.0.attention")(x, cache, 0)
        if cache.position is None:
            cache.length += x.shape[1]
        return out

    return step
