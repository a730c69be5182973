"""The app: its pages, the sidebar that they share, and what every page shows."""

from pathlib import Path

import streamlit as st

from dashboard.app.shell import sidebar

PAGES_FOLDER = Path(__file__).parents[1] / "pages"
PAGES = (
    ("explore", "Explore", "One model, one workload, one GPU: what a step costs, and why."),
    ("compare", "Compare", "Two to four models on the same workload, over batch and context."),
    ("tradeoffs", "Trade-offs", "Architectures swept: Pareto fronts, and models that match."),
    ("measured", "Measured", "Recordings: predicted beside measured, operator by operator."),
    ("profile", "Profile", "Run the profiler on this machine, and watch it."),
    ("report", "Report", "A cost report to keep: HTML, Markdown, spreadsheets, JSON."),
    ("method", "Method", "Every formula and every way of measuring, with its source."),
)


def main() -> None:
    """Draw the page that the address names."""
    st.set_page_config(
        page_title="sparsecost",
        page_icon=str(Path(__file__).parent / "icon.png"),
        layout="wide",
    )
    pages = [
        st.Page(
            PAGES_FOLDER / name / "page.py",
            title=title,
            url_path=name,
            help=told,
            default=name == "explore",
        )
        for name, title, told in PAGES
    ]
    page = st.navigation(pages, position="top")
    sidebar()
    page.run()


if __name__ == "__main__":
    main()
