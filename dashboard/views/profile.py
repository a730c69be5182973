"""The page profile, not written yet."""

import streamlit as st

from dashboard.shell import selection

found = selection()
st.title("profile".capitalize())
st.write(found.model.name)
