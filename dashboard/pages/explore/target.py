"""Which batch meets a target: the controls of the Explore page, and the answer in words."""

from streamlit.delta_generator import DeltaGenerator

from costmodel.layers.mesh import ONE_GPU
from costmodel.questions.request import Request
from costmodel.questions.target_batch import LEAST_S, MOST_S, Target, target_batch
from dashboard.app.address import linked, number
from dashboard.app.selection import Selection

LEAST_MS, MOST_MS = LEAST_S * 1e3, MOST_S * 1e3
SEVERAL = "A batch that meets a target is sought on one GPU only."


def target_controls(ttft_at: DeltaGenerator, tpot_at: DeltaGenerator) -> Target | None:
    """The longest times, in ms; None where neither is given."""
    ttft, tpot = (
        place.number_input(
            label,
            min_value=LEAST_MS,
            max_value=MOST_MS,
            value=None,
            placeholder="any",
            **linked(key, number(LEAST_MS, MOST_MS, may_be_empty=True), instead=None),
            help="The largest batch that meets it is sought among those that fit.",
        )
        for place, label, key in (
            (ttft_at, "Target first token, ms", "ex_ttft"),
            (tpot_at, "Target token, ms", "ex_tpot"),
        )
    )
    if ttft is None and tpot is None:
        return None
    return Target(
        ttft_s=None if ttft is None else ttft / 1e3, tpot_s=None if tpot is None else tpot / 1e3
    )


def target_sentence(selection: Selection, request: Request, target: Target) -> str:
    """The largest batch of such requests that meets the target."""
    if selection.workload.mesh != ONE_GPU:
        return SEVERAL
    return target_batch(
        selection.model,
        request,
        selection.workload,
        selection.hardware,
        target,
        calibration=selection.calibration,
    ).sentence()
