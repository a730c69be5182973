"""The step that ncu watches is that of the case, and of nothing else."""

import json
import sys

import pytest
import torch

from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.model import ModelConfig
from costmodel.strict import validated
from profiler.runs import ncu_step
from profiler.runs.case import PreparedCase
from profiler.runs.ncu_step import Spec, main, spec_text
from reference_model.model import ReferenceModel, build_model
from reference_model.product_key import ProductRetrieve
from tests.profiler.runs.cases import SEED, cached, work
from tests.reference_model.tiny import MODELS

LONGEST_ARGUMENT = 128 * 2**10  # bytes of one argument of a command, on Linux


def spec_of(model: ModelConfig) -> Spec:
    workload = work(dtype="bf16", routing="zipf:0.7")
    return Spec(
        schema_version=1,
        model=model,
        weights_seed=3,
        workload=workload,
        seed=SEED,
        backend="torch",
    )


@pytest.mark.parametrize(
    "model",
    [*MODELS.values(), *map(load_model, model_names())],
    ids=[*MODELS, *model_names()],
)
def test_a_case_comes_through_an_argument_as_it_was(model: ModelConfig) -> None:
    text = spec_text(spec_of(model))
    assert validated(Spec, json.loads(text), where="spec") == spec_of(model)
    assert len(text) < LONGEST_ARGUMENT


def test_a_case_that_breaks_a_rule_is_refused_in_one_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = json.loads(spec_text(spec_of(MODELS["dense"])))
    broken = json.dumps({**data, "seed": -1})
    monkeypatch.setattr(sys, "argv", ["ncu_step", broken])
    monkeypatch.setattr(ncu_step, "build_model", lambda *_, **__: pytest.fail("it was built"))
    with pytest.raises(InputError, match=r"^spec: seed=-1: .*greater than or equal to 0$"):
        main()


def test_one_warm_step_of_the_case_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(MODELS["memory_plus"])
    happened: list[str] = []
    cases: list[PreparedCase] = []
    run = PreparedCase.run

    def on_cpu(model: ModelConfig, *, device: str, dtype: torch.dtype, seed: int) -> ReferenceModel:
        assert (device, dtype, seed) == ("cuda", torch.bfloat16, 3)
        return build_model(model, device="cpu", dtype=dtype, seed=seed)

    def running(case: PreparedCase) -> None:
        happened.append("run")
        cases.append(case)
        run(case)

    monkeypatch.setattr(sys, "argv", ["ncu_step", spec_text(spec)])
    monkeypatch.setattr(ncu_step, "build_model", on_cpu)
    monkeypatch.setattr(PreparedCase, "run", running)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: happened.append("wait"))
    for name in ("start", "stop"):
        monkeypatch.setattr(torch.cuda.profiler, name, lambda name=name: happened.append(name))
    main()
    assert happened == ["run", "wait", "start", "run", "wait", "stop"]
    watched = cases[-1]
    retrieve = watched.model.leaves()["layers.1.memory.retrieve"]
    assert isinstance(retrieve, ProductRetrieve)
    assert retrieve.folded
    same = PreparedCase(
        build_model(spec.model, dtype=torch.bfloat16, seed=3).fold(), spec.workload, SEED
    )
    assert watched.workload == spec.workload
    assert torch.equal(watched.ids, same.ids)
    assert all(map(torch.equal, watched.model.parameters(), same.model.parameters()))
    assert all(
        torch.equal(mine[..., :6, :], theirs[..., :6, :])
        for mine, theirs in zip(cached(watched), cached(same), strict=True)
    )
