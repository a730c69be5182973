"""The largest context: it fits, one more token does not, and both ends are told."""

from dataclasses import replace

import pytest

from costmodel.costs.predict import Prediction, predict
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.hardware import Hardware, load_hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import MAX_CONTEXT, Workload
from costmodel.layers.attention import Attention
from costmodel.questions import capacity
from costmodel.questions.capacity import max_context

GPU = load_hardware("h200")


@pytest.mark.parametrize("name", ["ultramemv2-1b-7b", "deepseek-v2-lite", "gpt-oss-20b"])
def test_the_largest_context_fits_and_one_more_token_does_not(name: str) -> None:
    model, workload = load_model(name), Workload(batch=200)
    most = max_context(predict(model, workload, GPU))
    assert most is not None
    assert predict(model, replace(workload, context=most), GPU).memory.fits
    assert not predict(model, replace(workload, context=most + 1), GPU).memory.fits


def test_the_largest_context_takes_few_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line between the ends, its foot, one more: a bisection of 2^27 contexts takes 27."""
    made: list[int] = []

    def counted(model: ModelConfig, workload: Workload, hardware: Hardware) -> Prediction:
        made.append(workload.context)
        return predict(model, workload, hardware)

    monkeypatch.setattr(capacity, "predict", counted)
    for name in model_names():
        made.clear()
        max_context(predict(load_model(name), Workload(batch=64), GPU))
        assert len(made) <= 8, name


def test_a_model_that_does_not_fit_has_no_largest_context() -> None:
    assert max_context(predict(load_model("deepseek-v3"), Workload(), GPU)) is None


def test_a_model_of_windows_alone_fits_with_every_context() -> None:
    llama = load_model("llama-3.1-8b")
    assert isinstance(llama.attention, Attention)
    windowed = replace(llama, attention=replace(llama.attention, sliding_window=512))
    assert max_context(predict(windowed, Workload(batch=4), GPU)) == MAX_CONTEXT
