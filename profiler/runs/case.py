"""A case made ready to run: random cache and ids, and choices as declared.

Everything is drawn from the case's seed, so that each run of a case computes on the same data.
"""

from collections.abc import Callable
from functools import cache

import torch

from costmodel.recordings.recording import CaseWorkload
from reference_model.cache import Cache
from reference_model.decode import WARM_UPS, DecodeStep
from reference_model.model import ReferenceModel
from reference_model.routing import declare
from reference_model.synthetic_routing import Popularity

FILL_ELEMENTS = 2**28  # of a cache's tensors that are drawn at once


class PreparedCase:
    """One step of one workload that can run again and again, always on the same data."""

    def __init__(self, model: ReferenceModel, workload: CaseWorkload, seed: int) -> None:
        self.model, self.workload = model, workload
        generator = torch.Generator(model.device).manual_seed(seed)
        tokens = workload.batch * workload.new_tokens
        declare(model, declared_popularity(workload.routing), tokens=tokens, seed=seed)
        held = workload.context + workload.new_tokens
        self.cache = model.new_cache(workload.batch, held)
        fill(self.cache, generator)
        self.cache.length = workload.context
        shape = (workload.batch, workload.new_tokens)
        vocabulary = model.config.vocab_size
        self.ids = torch.randint(vocabulary, shape, generator=generator, device=model.device)
        model.set_mla("absorbed" if workload.phase == "decode" else "expanded")
        self._decode: DecodeStep | None = None
        if workload.phase == "decode":
            self._decode = DecodeStep(model, self.cache, graph=False)
            self._decode.ids.copy_(self.ids)

    @torch.no_grad()
    def run(self) -> None:
        """One eager step. The cache stands where it stood.

        A prefill after a context that fills a window's ring leaves its own tokens there, so that
        later runs attend to other numbers of the same shape.
        """
        if self._decode is not None:
            self._decode()
            return
        self.model(self.ids, self.cache)
        self.cache.length = self.workload.context

    def captured(self) -> Callable[[], None]:
        """The step as a CUDA graph: what replays it."""
        side = _side_stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                self.run()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side):
            self.run()
        replay: Callable[[], None] = graph.replay
        return replay


@cache
def _side_stream() -> torch.cuda.Stream:
    """The one stream of all captures: cuBLAS keeps a workspace for each stream it has met."""
    return torch.cuda.Stream()


def declared_popularity(routing: str) -> Popularity | None:
    """Uniform and zipf:EXPONENT as a popularity; None for `scores`, the model's own choices."""
    if routing == "scores":
        return None
    keyword, _, exponent = routing.partition(":")
    return Popularity(exponent=float(exponent) if keyword == "zipf" else 0.0)


def fill(cache: Cache, generator: torch.Generator) -> None:
    """Random keys and values: zeros would run faster and cooler."""
    for layer in cache.layers:
        for tensor in layer.tensors:
            for piece in tensor.view(-1).split(FILL_ELEMENTS):
                piece.normal_(generator=generator)
