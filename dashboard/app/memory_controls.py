"""The sidebar's controls of how much of each GPU's memory may be used."""

import streamlit as st

from costmodel.inputs.memory_limit import LEAST_FRACTION
from dashboard.app.address import linked, number

MAX_RESERVE_GIB = 1024.0


def memory_controls() -> tuple[float, float]:
    """The share of each GPU's memory that may be used, and what is kept free beside it, in GiB."""
    with st.expander("Memory that may be used", key="memory_limits"):
        fraction = st.number_input(
            "Share of each GPU's memory",
            min_value=LEAST_FRACTION,
            max_value=1.0,
            value=1.0,
            step=0.05,
            **linked("mem_share", number(LEAST_FRACTION, 1), instead=1.0),
            help="As `gpu_memory_utilization` of vLLM or `mem_fraction_static` of SGLang.",
        )
        reserve = st.number_input(
            "Kept free beside it, GiB",
            min_value=0.0,
            max_value=MAX_RESERVE_GIB,
            value=0.0,
            step=1.0,
            **linked("mem_reserve", number(0, MAX_RESERVE_GIB), instead=0.0),
            help="For what is not counted: CUDA's context, fragments, workspaces, other processes.",
        )
    return float(fraction), float(reserve)
