"""The top of every page: the product's name, what it is, and in a narrow window all pages.

Streamlit folds its navigation into the closed sidebar there. The style also darkens what its themes
draw too faintly to read: captions, axes, chosen options and the words of commands.
"""

from collections.abc import Sequence

import streamlit as st
from streamlit.navigation.page import StreamlitPage

WHAT = "what a sparse LLM costs on your GPU, and whether that is true"
PAGES = "masthead_pages"
NARROW = 768  # pixels: up to this width Streamlit hides its navigation
STYLE = f"""<style>
[data-testid="stMainBlockContainer"] {{ padding-left: 2rem; padding-right: 2rem; }}
[data-testid="stMainBlockContainer"] h1 {{ padding-top: 0; }}
.st-key-{PAGES} {{ display: none; padding-top: 0.25rem; }}
.st-key-{PAGES} a {{ padding: 0 0.25rem; min-height: 0; }}
@media (max-width: {NARROW}px) {{
  [data-testid="stMainBlockContainer"] {{ padding-left: 1rem; padding-right: 1rem; }}
  .st-key-{PAGES} {{ display: flex; }}
}}
[data-testid="stCaptionContainer"] {{ color: inherit; opacity: 0.85; }}
[data-testid="stButtonGroup"] [data-selected="true"] {{ color: inherit !important; }}
[data-testid="stCode"] code span {{ color: inherit !important; }}
.js-plotly-plot
:is(.xtick, .ytick, .cbaxis, .g-xtitle, .g-ytitle, .infolayer, .legend, .textpoint) text,
.js-plotly-plot .bartext-outside {{ fill: currentColor !important; }}
</style>"""


def masthead(pages: Sequence[StreamlitPage]) -> None:
    """Draw it; `pages` are those that the navigation has, in their order."""
    with st.container(gap=None):
        st.html(f"{STYLE}<b>sparsecost</b>: {WHAT}")
        with st.container(horizontal=True, gap="small", key=PAGES):
            for page in pages:
                st.page_link(page)
