"""The page report, not written yet."""

import streamlit as st

from dashboard.shell import selection

found = selection()
st.title("report".capitalize())
st.write(found.model.name)
