"""The dashboard: `streamlit run app.py`, or `sparsecost dashboard`."""

from dashboard.app.entry import main
from dashboard.cli import warm

warm()
main()
