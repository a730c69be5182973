"""Contexts around leaves: one each, in the order of the step, closed and gone afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from costmodel.costs.operators import build_operators
from costmodel.layers.site import expanded_paths
from profiler.instruments.leaf_hooks import within_leaves
from tests.profiler.runs.cases import DECODE, PREFILL, case_of
from tests.reference_model.tiny import MODELS, small
from tests.steps import make_step

ONE_LAYER = small(num_hidden_layers=1)


class Log:
    """What contexts were entered and left."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @contextmanager
    def around(self, path: str) -> Iterator[None]:
        self.said.append(f"in {path}")
        try:
            yield
        except ArithmeticError as error:
            self.said.append(f"{error} in {path}")
            raise
        self.said.append(f"out {path}")


def test_each_leaf_is_in_its_own_context_in_the_order_of_the_step() -> None:
    case, log = case_of(ONE_LAYER), Log()
    with within_leaves(case.model, log.around):
        case.run()
    assert log.said == [
        f"{word} {path}"
        for path in (
            "embed",
            "layers.0.attention_norm",
            "layers.0.attention.qkv",
            "layers.0.attention.rope",
            "layers.0.attention.core",
            "layers.0.attention.output",
            "layers.0.ffn_norm",
            "layers.0.ffn.gate_up",
            "layers.0.ffn.down",
            "final_norm",
            "lm_head",
        )
        for word in ("in", "out")
    ]


@pytest.mark.parametrize("phase", ["decode", "prefill"])
@pytest.mark.parametrize("name", MODELS)
def test_every_operator_is_entered_once(name: str, phase: str) -> None:
    case, log = case_of(name, **{"decode": DECODE, "prefill": PREFILL}[phase]), Log()
    with within_leaves(case.model, log.around):
        case.run()
    operators = build_operators(MODELS[name], make_step())
    paths = [path for operator in operators for path in expanded_paths(operator.path)]
    assert sorted(log.said[::2]) == sorted(f"in {path}" for path in paths)
    assert log.said[1::2] == [said.replace("in ", "out ", 1) for said in log.said[::2]]


def test_afterwards_leaves_run_alone() -> None:
    case, log = case_of(ONE_LAYER), Log()
    with within_leaves(case.model, log.around):
        pass
    case.run()
    assert log.said == []
    for leaf in case.model.leaves().values():
        assert not leaf._forward_pre_hooks
        assert not leaf._forward_hooks


def test_of_a_leaf_that_fails_the_context_sees_the_error_and_no_hook_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case, log = case_of(ONE_LAYER), Log()
    core = case.model.leaves()["layers.0.attention.core"]
    with monkeypatch.context() as broken:
        broken.setattr(core, "forward", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError), within_leaves(case.model, log.around):
            case.run()
    assert log.said[-2:] == [
        "in layers.0.attention.core",
        "integer division or modulo by zero in layers.0.attention.core",
    ]
    said = len(log.said)
    case.run()
    assert len(log.said) == said
    with within_leaves(case.model, log.around):
        case.run()
    assert len(log.said) == said + 2 * 11
