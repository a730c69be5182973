"""The committed models and cases: as drawn, apart from the development set, equal in pairs."""

from pathlib import Path

import pytest

from benchmarks.held_out.commitment import committed
from benchmarks.held_out.development import (
    case_sizes,
    development_sizes,
    model_sizes,
    shared,
)
from benchmarks.held_out.shapes import (
    BACKENDS,
    FOLDER,
    held_out_models,
    planned,
    refusal,
    write_shapes,
)
from costmodel.costs.operators import build_operators
from costmodel.costs.totals import ParameterCounts, parameter_counts
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload

KNOWN = {  # of presets, recordings, the calibration's grid and its leaves, read from their files
    "hidden_size": 4096,
    "heads": (32, 8, 128),
    "widths": 14_336,
    "experts": 64,
    "keys": 808,
    "rows": 384,
    "products": (4096, 4096),
    "tokens": 1024,
    "contexts": 2048,
    "prompts": 8192,
}


def parameters(model: ModelConfig) -> ParameterCounts:
    return parameter_counts(build_operators(model, Workload().step()))


@pytest.mark.slow
def test_the_files_hold_what_the_draw_gives(tmp_path: Path) -> None:
    """Until the commitment: the draw avoids a development set that may grow after it."""
    if committed() is not None:
        pytest.skip("committed: the files stay as they are")
    folder = tmp_path
    write_shapes(folder)
    written = {path.relative_to(folder): path.read_text() for path in folder.rglob("*.*")}
    assert len(written) == len(held_out_models()) + 1
    for name, text in written.items():
        assert (FOLDER / name).read_text() == text, name


def test_the_development_set_is_known() -> None:
    taken = development_sizes()
    assert all(known in taken[name] for name, known in KNOWN.items())
    assert set(taken) == set(KNOWN)


def test_no_size_is_of_the_development_set() -> None:
    for model in held_out_models():
        assert shared(model_sizes(model.model), development_sizes()) == {}, model.name
        assert shared(case_sizes(model.cases), development_sizes()) == {}, model.name


def test_all_kinds_are_there() -> None:
    models = [model.model for model in held_out_models()]
    kinds = [memory.kind for model in models for memory in model.memory]
    assert sorted(kinds) == ["peer", "product_key", "ultramem", "ultramem", "ultramem"]
    pre_values = [getattr(m, "pre_value_dim", None) for model in models for m in model.memory]
    assert sum(width is not None for width in pre_values) == 2
    ffns = [model.ffn.kind for model in models]
    assert ffns.count("moe") == 4
    assert sum(getattr(model.ffn, "shared_intermediate_size", 0) > 0 for model in models) == 1
    assert {model.attention.kind for model in models} == {"gqa", "mla"}
    assert any(getattr(model.attention, "sliding_window", None) for model in models)
    assert any(not model.memory and model.ffn.kind == "dense" for model in models)


def test_six_decode_steps_and_two_prompts_each() -> None:
    assert len(held_out_models()) >= 8
    for model in held_out_models():
        assert [case.phase for case in model.cases] == ["decode"] * 6 + ["prefill"] * 2
        short = [case.batch for case in model.cases if case.context == model.cases[0].context]
        assert short == sorted(short)
        assert len(short) == 4  # a series for crossovers
        assert len(model.energy) == 3


def test_pairs_have_equal_backbones_and_about_equal_parameters() -> None:
    by_name = {model.name: model for model in held_out_models()}
    pairs = [(by_name[model.pair], model) for model in by_name.values() if model.pair]
    assert len(pairs) == 5
    for moe, memory in pairs:
        assert moe.model.attention == memory.model.attention
        assert moe.cases == memory.cases
        for name in ("hidden_size", "num_hidden_layers", "vocab_size"):
            assert getattr(moe.model, name) == getattr(memory.model, name)
        one, two = parameters(moe.model), parameters(memory.model)
        assert two.active_without_embeddings == pytest.approx(
            one.active_without_embeddings, rel=0.03
        )
        assert two.total == pytest.approx(one.total, rel=0.15)


def test_both_backends_measure_decode_of_every_model() -> None:
    for model in held_out_models():
        for backend in BACKENDS:
            assert not any(
                refusal(model.model, case, backend)
                for case in model.cases
                if case.phase == "decode"
            )
    assert len(planned("time", held_out_models())) == 2 * len(held_out_models())
