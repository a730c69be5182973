"""The largest context that fits a GPU: how many cached tokens its memory can hold at a batch."""

from dataclasses import replace

from costmodel.costs.footprint import Footprint
from costmodel.costs.predict import Prediction, predict
from costmodel.inputs.workload import MAX_CONTEXT

HALVED = 3  # every third step halves the range, whatever the shape of the memory's growth


def max_context(prediction: Prediction) -> int | None:
    """The most cached tokens per sequence with which the step fits.

    All else of the step stays as it is. None if it does not fit without any; `MAX_CONTEXT` where
    every context up to that fits. Memory grows with the context, mostly in proportion, so that
    where a straight line between the ends meets the capacity is nearly always the answer: four
    predictions in place of a bisection's 27. Leaves out what `memory.total_bytes` leaves out.
    """

    def at(context: int) -> Footprint:
        workload = replace(prediction.workload, context=context)
        return predict(prediction.model, workload, prediction.hardware).memory

    fitting, large = 0, MAX_CONTEXT
    least, most = at(fitting), at(large)
    if not least.fits:
        return None
    if most.fits:
        return MAX_CONTEXT
    steps = 0
    while large - fitting > 1:
        steps += 1
        tried = (fitting + large) // 2
        if steps % HALVED:
            room = least.capacity_bytes - least.total_bytes
            growth = most.total_bytes - least.total_bytes
            tried = fitting + int(room * (large - fitting) // growth)
            tried = min(max(tried, fitting + 1), large - 1)
        memory = at(tried)
        if memory.fits:
            fitting, least = tried, memory
        else:
            large, most = tried, memory
    return fitting
