"""Trade-offs: designs swept over fields of a model, and models of another kind that match it."""

import streamlit as st

from dashboard.app.shell import LINK, selection
from dashboard.pages.tradeoffs.match import draw_match
from dashboard.pages.tradeoffs.sweep import draw_sweep

SWEEP, MATCH = "sweep", "match"

found = selection()
top = st.container()  # the answer stands above what asks for it
what = st.segmented_control(
    "Question",
    [SWEEP, MATCH],
    default=SWEEP,
    required=True,
    key="to_what",
    bind=LINK,
    help="Sweep: many designs of one model. Match: a model of another kind, equally large.",
)
if what == MATCH:
    draw_match(found, top)
else:
    draw_sweep(found, top)
