"""Runs of fused kernels, with stand-ins for the kernels: regions in place of leaves, refusals."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from costmodel.errors import WorkError
from costmodel.inputs.model import ModelConfig
from costmodel.recordings.measured import ExactColumn, SpreadColumn
from profiler.instruments.kernels import KernelSums
from profiler.runs import case as case_module
from profiler.runs import trace as trace_run
from profiler.runs.bench import TorchBench
from profiler.runs.case import PreparedCase
from profiler.runs.ncu_step import spec_text
from profiler.runs.trace import TraceRun
from reference_model.cache import Cache
from reference_model.model import ReferenceModel
from tests.profiler.runs.cases import SEED, model_of, work
from tests.profiler.runs.gpu_runs import known, stand_in
from tests.profiler.runs.test_ncu_step import spec_of
from tests.reference_model.tiny import MOE, small

MODEL: ModelConfig = small(num_hidden_layers=2, ffn=MOE)
RAN = (
    "embed",
    "layers.0.{ffn_norm,moe.router}",
    "layers.0.moe.experts",
    "{final_norm,lm_head}",
)
POSSIBLE = (  # at one token all; beyond, those of the router alone
    "layers.0.{attention_norm,attention.qkv}",
    "layers.1.{attention_norm,attention.qkv}",
    "layers.0.{ffn_norm,moe.router}",
    "layers.1.{ffn_norm,moe.router}",
    "{final_norm,lm_head}",
)


class FakeStep:
    """A decode step that enters its regions and computes nothing."""

    ran: tuple[str, ...] = RAN
    made: list[dict[str, Any]]

    def __init__(self, model: ReferenceModel, cache: Cache, **options: Any) -> None:  # noqa: ANN401
        self.made.append(options)
        self.ids = torch.zeros(cache.batch, 1, dtype=torch.int64)
        fused = options["backend"] == "fused"
        self.fused: object = self if fused else None
        self.regions = self.ran if fused else tuple(model.leaves())
        self.context: Callable[[str], AbstractContextManager[object]] | None = None

    def __call__(self) -> Tensor:
        for path in self.regions:
            if self.context is not None:
                with self.context(path):
                    pass
        return torch.zeros(1)

    @contextmanager
    def within(self, context: Callable[[str], AbstractContextManager[object]]) -> Iterator[None]:
        self.context = context
        yield
        self.context = None


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options of the steps that are put together."""
    monkeypatch.setattr(FakeStep, "made", [], raising=False)
    monkeypatch.setattr(case_module, "DecodeStep", FakeStep)
    return FakeStep.made


def fused_case(**fields: Any) -> PreparedCase:  # noqa: ANN401 - any field of a workload
    return PreparedCase(model_of(MODEL), work(**fields), SEED, backend="fused")


def test_a_case_of_fused_kernels_has_all_regions_that_may_be(made: list[dict[str, Any]]) -> None:
    """Whatever its tokens, so that all cases of a recording have the same paths."""
    one, many = fused_case(batch=1), fused_case(batch=100)
    assert one.paths == many.paths == (*one.model.leaves(), *POSSIBLE)
    assert [options["backend"] for options in made] == ["fused", "fused"]
    plain = PreparedCase(model_of(MODEL), work(), SEED)
    assert plain.paths == tuple(plain.model.leaves())
    assert made[-1]["backend"] == "torch"


def test_its_regions_are_entered_in_place_of_leaves() -> None:
    case = fused_case()
    entered: list[str] = []

    @contextmanager
    def noted(path: str) -> Iterator[None]:
        entered.append(path)
        yield

    with case.within(noted):
        case.run()
    case.run()
    assert tuple(entered) == RAN


def test_a_region_that_the_cost_model_does_not_know_is_our_mistake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FakeStep, "ran", ("layers.0.attention.{qkv,rope}",))
    with pytest.raises(AssertionError):
        fused_case()


def test_a_trace_files_kernels_under_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    def kernels_by_path(*_: object, steps: int) -> list[KernelSums]:
        sums = KernelSums(
            seconds=dict.fromkeys(RAN, 2.0), launches=dict.fromkeys(RAN, 1), outside_launches=1
        )
        return [sums] * steps

    stand_in(monkeypatch, trace_run)
    monkeypatch.setattr(trace_run, "kernels_by_path", kernels_by_path)
    case = fused_case()
    result = TraceRun().measure(case, known(case))
    seconds, launches = result.operators["kernel_s"], result.operators["launches"]
    assert isinstance(seconds, SpreadColumn)
    assert isinstance(launches, ExactColumn)
    for path, median, count in zip(case.paths, seconds.median, launches.values, strict=True):
        assert (median, count) == ((2.0, 1) if path in RAN else (None, None))


def test_a_prompt_is_one_fused_step_and_the_cache_is_empty_before_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[torch.Size] = []

    def fused_step(model: ReferenceModel, cache: Cache, ids: Tensor) -> FakeStep:
        given.append(ids.shape)
        step = FakeStep(model, cache, backend="fused")
        monkeypatch.setattr(cache, "length", 7)  # as a prompt leaves it
        return step

    monkeypatch.setattr(case_module, "fused_step", fused_step)
    case = fused_case(phase="prefill", batch=2, context=0, new_tokens=7)
    entered: list[str] = []

    @contextmanager
    def noted(path: str) -> Iterator[None]:
        entered.append(path)
        yield

    with case.within(noted):
        case.run()
    assert tuple(entered) == RAN
    assert case.cache.length == 0
    assert given == [(2, 7)]


def test_a_prompt_of_one_token_is_a_decode_step(made: list[dict[str, Any]]) -> None:
    fused_case(phase="prefill", context=0, new_tokens=1)
    assert [options["backend"] for options in made] == ["fused"]


def test_a_bench_without_a_gpu_is_refused_before_anything_is_built() -> None:
    with pytest.raises(WorkError, match="backend=fused: needs a GPU: device=cuda, not cpu"):
        TorchBench(MODEL, run="time", device="cpu", dtype="bf16", weights_seed=0, backend="fused")


def test_the_step_that_ncu_watches_is_told_whose_kernels_run() -> None:
    assert '"backend":"torch"' in spec_text(spec_of(MODEL))
