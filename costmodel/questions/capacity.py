"""The largest context that fits a GPU: how many cached tokens its memory can hold at a batch."""

from bisect import bisect_left
from dataclasses import replace

from costmodel.costs.predict import Prediction, predict
from costmodel.inputs.workload import MAX_CONTEXT


def max_context(prediction: Prediction) -> int | None:
    """The most cached tokens per sequence with which the step fits, by bisection.

    All else of the step stays as it is. None if it does not fit without any; `MAX_CONTEXT` where
    every context up to that fits. Leaves out what `memory.total_bytes` leaves out.
    """

    def too_large(context: int) -> bool:
        workload = replace(prediction.workload, context=context)
        return not predict(prediction.model, workload, prediction.hardware).memory.fits

    first = bisect_left(range(MAX_CONTEXT + 1), x=True, key=too_large)
    return first - 1 if first else None
