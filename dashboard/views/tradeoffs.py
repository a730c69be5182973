"""The page tradeoffs, not written yet."""

import streamlit as st

from dashboard.shell import selection

found = selection()
st.title("tradeoffs".capitalize())
st.write(found.model.name)
