"""The page method, not written yet."""

import streamlit as st

from dashboard.shell import selection

found = selection()
st.title("method".capitalize())
st.write(found.model.name)
