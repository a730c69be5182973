"""A case made ready to run: random token ids and cache contents, and its routing put in place.

All of it is drawn from the case's seed, so that every kind of run computes on the same data.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING

import torch

from costmodel.backends import BACKENDS
from costmodel.backends.step_kernels import region_paths
from costmodel.costs.operators import build_operators
from costmodel.inputs.parse import parse_routing
from costmodel.inputs.workload import Backend, Workload
from costmodel.recordings.case_workload import IN_HBM, CaseWorkload, Dtype
from costmodel.routing.by_population import POPULATIONS, routing_of
from costmodel.routing.popularity import Routing, Zipf
from profiler.instruments.flush import L2Flush
from profiler.instruments.leaf_hooks import LeafContext, within_leaves
from reference_model.cache import Cache
from reference_model.decode import WARM_UPS, DecodeStep, fused_step
from reference_model.model import ReferenceModel
from reference_model.routing import renew_rows, set_synthetic_routing
from reference_model.synthetic_routing import Popularity

if TYPE_CHECKING:  # its kernels need triton, which a CPU build of torch does not bring along
    from reference_model.fused.step import FusedStep

TORCH_DTYPES: dict[Dtype, torch.dtype] = {"bf16": torch.bfloat16, "fp32": torch.float32}
FILL_ELEMENTS = 2**28  # of a cache tensor that are drawn at once


class PreparedCase:
    """One step of one workload that can run again and again on the same data.

    Attributes:
        cache: holds the workload's context, and has room for the new tokens.
        ids: the new tokens, [batch, new_tokens].
        paths: of what columns hold a value for: leaves, then regions that kernels may span.
    """

    def __init__(
        self,
        model: ReferenceModel,
        workload: CaseWorkload,
        seed: int,
        *,
        backend: Backend = "torch",
        alike: bool = False,
    ) -> None:
        """Draw the data, and put the step together; `alike`: all layers choose alike.

        Raises:
            InputError: The backend has no kernels for this step.
        """
        self.model, self.workload = model, workload
        self.paths = recorded_paths(model, backend)
        generator = torch.Generator(model.device).manual_seed(seed)
        tokens = workload.batch * workload.new_tokens
        self._draws = generator
        experts, rows = synthetic_popularities(workload.routing)
        set_synthetic_routing(model, experts, rows=rows, tokens=tokens, seed=seed, alike=alike)
        self.cache = model.new_cache(workload.batch, workload.context + workload.new_tokens)
        vocabulary = model.config.vocab_size
        fill(self.cache, generator, vocabulary)
        self.cache.length = workload.context
        shape = (workload.batch, workload.new_tokens)
        self.ids = torch.randint(vocabulary, shape, generator=generator, device=model.device)
        model.set_mla("absorbed" if workload.phase == "decode" else "expanded")
        self._decode: DecodeStep | None = None
        self._fused: FusedStep | None = None
        if workload.new_tokens == 1 and (workload.phase == "decode" or backend == "fused"):
            self._decode = DecodeStep(model, self.cache, graph=False, backend=backend)
            self._decode.ids.copy_(self.ids)
            self._fused = self._decode.fused
        elif backend == "fused":
            self._fused = fused_step(model, self.cache, self.ids)
        assert self._fused is None or set(self._fused.regions) <= set(self.paths)

    @property
    def fused(self) -> "FusedStep | None":
        """The step of the backend `fused`; None with another backend."""
        return self._fused

    @torch.no_grad()
    def run(self) -> None:
        """Run one eager step, and set the cache back to its context.

        A prefill after a context that fills a window's ring buffer leaves its own tokens there, and
        so does every step in states of fixed size and in past token ids: later runs compute with
        other numbers of the same shape.
        """
        if self._decode is not None:
            self._decode()
            return
        if self._fused is not None:
            self._fused()
        else:
            self.model(self.ids, self.cache)
        self.cache.length = self.workload.context

    def renew(self) -> None:
        """Let the next run read other rows of its tables: by other token ids, and other draws."""
        ids = self.ids if self._decode is None else self._decode.ids
        ids.random_(0, self.model.config.vocab_size, generator=self._draws)
        renew_rows(self.model, self._draws)

    @property
    def fetches(self) -> bool:
        """Whether it reads tables in host memory."""
        return self.workload.placement != IN_HBM

    def within(self, context: LeafContext) -> AbstractContextManager[None]:
        """While this is open, each leaf or region of a run runs inside `context(path)`."""
        if self._fused is not None:
            return self._fused.within(context)
        return within_leaves(self.model, context)

    def captured(self) -> Callable[[], None]:
        """Capture the step as a CUDA graph; a call of the result replays it.

        Raises:
            RuntimeError: The step cannot be captured.
        """
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


class RenewingFlush:
    """Empties L2 and, where a step reads tables in host memory, lets it read other rows."""

    def __init__(self, flush: L2Flush, case: PreparedCase) -> None:
        self._flush, self._case = flush, case
        self.settle = flush.settle

    def __call__(self) -> None:
        """Queue both."""
        if self._case.fetches:
            self._case.renew()
        self._flush()


def captured_or_reason(case: PreparedCase) -> tuple[Callable[[], None] | None, str]:
    """The replay of the step as a CUDA graph; or None, and why the step cannot be captured."""
    try:
        return case.captured(), ""
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        torch.cuda.synchronize()
        first_line = str(error).strip().partition("\n")[0][:200]
        return None, f"not measured (cannot be captured as a CUDA graph: {first_line})"


def recorded_paths(model: ReferenceModel, backend: Backend) -> tuple[str, ...]:
    """The paths of a recording: the model's leaves, then all regions that the backend may form.

    They are the same for all cases of a model, whose regions depend on the tokens of the step.
    """
    operators = build_operators(model.config, Workload().step())
    return (*model.leaves(), *region_paths(operators, BACKENDS[backend]))


@cache
def _side_stream() -> torch.cuda.Stream:
    """The one stream of all captures, since cuBLAS keeps a workspace for each stream."""
    return torch.cuda.Stream()


def synthetic_popularities(routing: str) -> tuple[Popularity | None, Popularity | None]:
    """The popularities of experts and of rows behind a case's routing; None twice for `scores`."""
    if routing == "scores":
        return None, None
    laws = parse_routing(routing, files=False)
    experts, rows = (routing_of(laws, kind) for kind in POPULATIONS)
    return _popularity(experts), _popularity(rows)


def _popularity(law: Routing) -> Popularity:
    return Popularity(exponent=law.exponent if isinstance(law, Zipf) else 0.0)


def fill(cache: Cache, generator: torch.Generator, vocabulary: int) -> None:
    """Fill the cache with random numbers and past ids: zeros would run faster and draw less power.

    Args:
        cache: Keys, values, states and past token ids.
        generator: Of the numbers.
        vocabulary: The ids lie below it.
    """
    for layer in (*cache.layers, *cache.memories.values()):
        for tensor in layer.tensors:
            for piece in tensor.view(-1).split(FILL_ELEMENTS):
                piece.normal_(generator=generator)
    if cache.past_ids is not None:
        cache.past_ids.random_(0, vocabulary, generator=generator)
