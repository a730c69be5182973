"""Predicted and measured side by side, in a browser: Streamlit pages over the cost model."""
