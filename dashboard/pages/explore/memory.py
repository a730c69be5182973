"""The memory of a step on the Explore page: how many sequences fit, in words, and the bar."""

import streamlit as st

from costmodel import units
from costmodel.costs.predict import Prediction
from dashboard.app.widgets import plain
from dashboard.pages.explore.data import Fit

TOO_FULL = "memory_too_full"  # the key of the bar of a step that does not fit
RED = "#D55E00"  # of the palette; the text says so too, never colour alone
STYLE = f"""<style>
.st-key-{TOO_FULL} [data-testid="stProgressBarTrack"] > div
{{ background-color: {RED}; }}
</style>"""


def how_many_fit(prediction: Prediction) -> str:
    """The answer to: how many sequences of this context fit?"""
    memory, workload = prediction.memory, prediction.workload
    most = int(memory.max_batch)
    tokens = workload.context + (workload.new_tokens if workload.phase == "prefill" else 0)
    each = f"of {tokens:,} tokens" if tokens else "without cached tokens"
    where = "on one GPU" if prediction.gpus == 1 else f"on {prediction.gpus:,} GPUs"
    if not most:
        fixed = units.capacity(memory.weights_bytes + memory.buffers_bytes)
        return f"No sequence {each} fits {where}: weights and buffers alone take {fixed}."
    room = memory.kv_room_tokens(prediction.costs.kv_cache)
    left = f", with {units.capacity(memory.kv_room_bytes)} for their cache"
    if room is not None:
        left += f" ({units.count(int(room))} tokens)"
    asked = f"{workload.batch:,} {'is' if workload.batch == 1 else 'are'} asked for"
    return f"{most:,} sequences {each} fit {where}{left}; {asked}."


def draw_memory(prediction: Prediction, fit: Fit) -> None:
    """How many sequences fit, and the bar, which is red where the step does not fit."""
    st.markdown(f"How many sequences fit? {plain(how_many_fit(prediction))}")
    if fit.fits:
        st.progress(min(fit.share, 1.0), text=fit.text)
        return
    st.html(STYLE)
    with st.container(key=TOO_FULL):
        st.progress(min(fit.share, 1.0), text=fit.text)
