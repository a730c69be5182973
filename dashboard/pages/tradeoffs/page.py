"""Trade-offs: designs swept over fields of a model, and models of another kind that match it."""

import streamlit as st

from dashboard.app.address import linked, one_of
from dashboard.app.shell import current_selection
from dashboard.pages.tradeoffs.draw_match import draw_match
from dashboard.pages.tradeoffs.draw_sweep import draw_sweep

SWEEP, MATCH = "sweep", "match"

selection = current_selection()
top = st.container()  # for the answer, above the controls
question = st.segmented_control(
    "Question",
    [SWEEP, MATCH],
    default=SWEEP,
    required=True,
    **linked("to_what", one_of([SWEEP, MATCH]), instead=SWEEP),
    help="Sweep: many designs of one model. Match: a model of another kind and of equal size.",
)
if question == MATCH:
    draw_match(selection, top)
else:
    draw_sweep(selection, top)
