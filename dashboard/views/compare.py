"""The page compare, not written yet."""

import streamlit as st

from dashboard.shell import selection

found = selection()
st.title("compare".capitalize())
st.write(found.model.name)
