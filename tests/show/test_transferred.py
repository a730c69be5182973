"""A predicted time says where no calibration has measured what is in it."""

import pytest

from costmodel.costs.calibrations import calibrated
from costmodel.costs.predict import predict
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.show.tables.notes import TRANSFERRED, calibration_note


@pytest.mark.parametrize(
    ("model", "said"), [("qwen3.5-27b", True), ("lfm2-350m", False), ("llama-3.1-8b", False)]
)
def test_the_time_of_a_recurrence_is_said_to_be_transferred(model: str, *, said: bool) -> None:
    prediction = predict(load_model(model), Workload(), load_hardware("h200"), calibrated("h200"))
    assert (TRANSFERRED in calibration_note(prediction)) == said
