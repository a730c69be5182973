"""What follows from the sidebar alone, and from a request: kept, and shared by all users.

A control of the page changes none of it, so that a redraw works out only what it draws otherwise.
Nobody may change what is kept.
"""

from dataclasses import dataclass
from functools import lru_cache

from costmodel.costs.predict import Prediction
from costmodel.inputs.workload import Workload
from costmodel.questions.capacity import max_context
from costmodel.questions.request import Request, Served, serve
from costmodel.show.prediction_json import prediction_json
from dashboard.app.selection import KEPT, Selection
from dashboard.pages.explore.data import JSON
from dashboard.pages.explore.meshed import fewest


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step: its prediction, the numbers of `predict --json`, the largest context that fits.

    `fewest`: the same on the fewest GPUs that fit, or why none do; None where it fits as it is.
    """

    prediction: Prediction
    numbers: JSON
    max_context: int | None
    fewest: Workload | str | None


@lru_cache(maxsize=KEPT)
def step(selection: Selection) -> Step:
    """The step that the sidebar asks for."""
    prediction = selection.predict()
    return Step(
        prediction=prediction,
        numbers=prediction_json(prediction),
        max_context=max_context(prediction),
        fewest=None if prediction.memory.fits else fewest(prediction),
    )


@lru_cache(maxsize=KEPT)
def served(selection: Selection, request: Request) -> Served:
    """What serving whole requests costs under the sidebar's choice.

    Raises:
        InputError: The request breaks a rule.
    """
    return serve(
        selection.model, request, selection.workload, selection.hardware, selection.calibration
    )
