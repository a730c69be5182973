"""The page measured, not written yet."""

import streamlit as st

from dashboard.shell import selection

found = selection()
st.title("measured".capitalize())
st.write(found.model.name)
