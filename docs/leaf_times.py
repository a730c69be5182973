"""The table of docs/accuracy.md on times that are fitted on measured leaves."""

from costmodel.recordings.error_measures import LOG_ERROR, MAPE
from costmodel.recordings.folders import recording_file, shipped_names
from costmodel.recordings.recording import load_recording
from costmodel.validation.counterparts import PREDICTED
from costmodel.validation.machines import Gpus
from costmodel.validation.validate import validate
from docs.markdown import markdown

CALIBRATION = "h200.leaves"


def fitted_times() -> str:
    """How far graphs of the development set are from those of the fit, by backend and phase."""
    loaded = [(name, load_recording(recording_file(name))) for name in shipped_names()]
    rows = [
        (
            line.backend,
            line.phase,
            f"{line.pairs}",
            *(
                f"{ratio or 0:.2f}"
                for ratio in (line.median_ratio, line.low_ratio, line.high_ratio)
            ),
            *(f"{100 * (error or 0):.1f} %" for error in (line.mape, line.error)),
        )
        for line in validate(loaded, Gpus(CALIBRATION)).errors
        if line.level == "step" and line.basis == PREDICTED
        if (line.quantity, line.run) == ("graph_s", "time")
    ]
    head = ("backend", "phase", "cases", "median", "10th", "90th", MAPE, LOG_ERROR)
    return markdown(head, rows, text=2)
