"""The app: its pages, the sidebar that they share, and the page that the address names."""

from pathlib import Path

import streamlit as st

from dashboard.app.address import finished, opened
from dashboard.app.masthead import masthead
from dashboard.app.outside import ask_nobody
from dashboard.app.shell import sidebar

PAGES_FOLDER = Path(__file__).parents[1] / "pages"
PAGES = (  # the first is the page at the root of the address
    ("explore", "Explore", "One model, one workload, one GPU: what a step costs, and why."),
    ("compare", "Compare", "Two to four models on the same workload, over batch and context."),
    ("tradeoffs", "Trade-offs", "Architectures swept: Pareto fronts, and models that match."),
    ("measured", "Measured", "Recordings: predicted against measured, operator by operator."),
    ("claims", "Is it true?", "What is claimed, computed, measured here and measured by others."),
    ("profile", "Profile", "Run the profiler on this machine, and watch it."),
    ("report", "Report", "A cost report to keep: HTML, Markdown, spreadsheets, JSON."),
    ("method", "Method", "Every formula and every way of measuring, with its source."),
)


def to_root() -> None:
    """Open the first page with the query of this address.

    Streamlit serves its default page at `/` only and calls `/explore` an unknown page.
    """
    query = {name: st.query_params.get_all(name) for name in st.query_params}
    st.switch_page(PAGES_FOLDER / PAGES[0][0] / "page.py", query_params=query)


def main() -> None:
    """Draw the page that the address names."""
    ask_nobody()  # also where `streamlit run app.py` starts the server
    st.set_page_config(
        page_title="sparsecost",
        page_icon=str(Path(__file__).parent / "icon.png"),
        layout="wide",
    )
    pages = [
        st.Page(
            PAGES_FOLDER / name / "page.py",
            title=title,
            url_path="" if index == 0 else name,
            help=question,
            default=index == 0,
        )
        for index, (name, title, question) in enumerate(PAGES)
    ]
    name, title, _ = PAGES[0]
    by_name = st.Page(to_root, title=title, url_path=name, visibility="hidden")
    page = st.navigation([*pages, by_name], position="top")
    if page is by_name:
        page.run()
        return
    masthead(pages)
    opened(page.url_path)
    sidebar()
    page.run()
    finished()


if __name__ == "__main__":
    main()
