"""The dashboard: `streamlit run app.py`, or `sparsecost dashboard`."""

from dashboard.entry import main

main()
