"""The page explore, not written yet."""

import streamlit as st

from dashboard.shell import selection

found = selection()
st.title("explore".capitalize())
st.write(found.model.name)
