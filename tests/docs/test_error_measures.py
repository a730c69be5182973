"""The errors of predicted times: two measures by hand, and those that the pages state."""

import json
import math
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pytest

from costmodel.inputs.model_toml import write_model
from costmodel.inputs.output_file import OutputFile
from costmodel.inputs.workload import Phase
from costmodel.recordings.error_measures import errors_of
from docs.measured_values import measured_values
from docs.recorded import MeasuredCase
from docs.recorded import recorded as joined_cases
from tests.commands import output
from tests.committed import recording
from tests.recorded_json import (
    ACCURACY,
    LARGE,
    MEASURING,
    SMALL,
    measured_cases,
    median_of,
    presets,
    table,
)


@pytest.fixture(scope="module")
def values() -> dict[str, str]:
    return measured_values()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model file of each recorded model: presets may have changed since."""
    folder = tmp_path_factory.mktemp("recorded")
    written = {name: folder / f"{name}.toml" for name in presets()}
    for name, path in written.items():
        write_model(recording(f"h200-{name}.json").model, OutputFile(path=path))
    return written


def predicted_graph_s(model: Path, workload: dict[str, Any]) -> float:
    """The time as a CUDA graph that `sparsecost predict --json` gives."""
    names = ("phase", "batch", "context", "new_tokens", "routing")
    options = [word for name in names for word in (f"--{name}", str(workload[name]))]
    text = output("predict", str(model), *(o.replace("_", "-") for o in options), "--json")
    return float(json.loads(text)["time"]["predicted_graph_s"])


def graph_ratios(phase: Phase, files: dict[str, Path]) -> list[float]:
    """Measured over predicted time as a CUDA graph, of every case of a phase, as docs/ join them.

    Each is checked, but for those of a model that chose by its own scores: no option asks for that.
    """
    joined = [case.value("graph_s") / ratio_basis(case) for case in joined_cases().of_phase(phase)]
    by_hand = [
        None
        if case["workload"]["routing"] == "scores"
        else median_of(case["runs"]["time"], "graph_s")
        / predicted_graph_s(files[model], case["workload"])
        for model, case in measured_cases(phase)
    ]
    assert sum(ratio is not None for ratio in by_hand) > 0.8 * len(by_hand)
    for one, other in zip(joined, by_hand, strict=True):
        assert other is None or one == pytest.approx(other, rel=1e-12)
    return joined


def ratio_basis(case: MeasuredCase) -> float:
    value = case.step["graph_s"].predicted
    assert value is not None
    return float(value)


def test_errors_by_hand() -> None:
    """Ratios 2, 1 and 1/2: |ln| is ln 2, 0, ln 2; predicted / measured is 1/2, 1, 2."""
    errors = errors_of([2, 1, 0.5])
    assert (errors.count, errors.median, errors.least, errors.most) == (3, 1, 0.5, 2)
    assert errors.log_error == pytest.approx(2 ** (2 / 3) - 1)
    assert errors.mape == pytest.approx((0.5 + 0 + 1) / 3)


def test_errors_of_predicted_graph_times(values: dict[str, str], files: dict[str, Path]) -> None:
    decode, prompts = graph_ratios("decode", files), graph_ratios("prefill", files)
    assert values["graph_decode_cases"] == f"{len(decode)}"
    assert values["graph_decode_median"] == f"{median(decode):.2f}"
    assert values["graph_decode_least"] == f"{min(decode):.2f}"
    assert values["graph_decode_most"] == f"{max(decode):.2f}"
    mean_log = fmean(abs(math.log(ratio)) for ratio in decode)
    assert values["graph_decode_error"] == f"{100 * (math.exp(mean_log) - 1):.1f} %"
    mape = fmean(abs(1 - 1 / ratio) for ratio in decode)
    assert values["graph_decode_mape"] == f"{100 * mape:.1f} %"
    assert values["graph_prefill_cases"] == f"{len(prompts)}"
    mape = fmean(abs(1 - 1 / ratio) for ratio in prompts)
    assert values["graph_prefill_mape"] == f"{100 * mape:.1f} %"


def test_errors_in_sentences_are_those_of_the_table(values: dict[str, str]) -> None:
    """The prompts of both MoE models among them."""
    rows = {(row[0].strip("`"), row[1]): row for row in table(ACCURACY, "errors")}
    for name, quantity in (("graph", "graph_s"), ("eager", "eager_s"), ("energy", "energy_j")):
        assert values[f"{name}_decode_median"] == rows[quantity, "decode"][3]
    prompts = {row[0]: max(map(float, row[4:])) for row in table(MEASURING, "prompts")}
    assert values["moe_prefill_most"] == f"{max(prompts[SMALL[0]], prompts[LARGE[0]]):.1f}"
