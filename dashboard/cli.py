"""`sparsecost dashboard`: the app in a browser, on this machine alone unless told otherwise."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from costmodel.errors import WorkError

NO_STREAMLIT = 'dashboard needs streamlit; install it with: pip install "sparsecost[dashboard]"'
ENTRY = Path(__file__).with_name("entry.py")
MAX_UPLOAD_MB = 20  # a recording is a few MB
OPTIONS = (  # a .streamlit folder is not installed with a package, so what matters stands here
    "--browser.gatherUsageStats=false",
    "--server.fileWatcherType=none",
    f"--server.maxUploadSize={MAX_UPLOAD_MB}",
    "--client.toolbarMode=viewer",
    "--global.disableWidgetStateDuplicationWarning=true",  # the page Explore sets the model
)


def dashboard(
    *,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where the app listens.")] = 8501,
    address: Annotated[
        str, typer.Option(metavar="ADDRESS", help="On which address; others can then reach it.")
    ] = "localhost",
    headless: Annotated[
        bool, typer.Option("--headless", help="Do not open a browser window.")
    ] = False,
) -> None:
    """Explore, compare, profile and report in a browser.

    Example: sparsecost dashboard --port 8600
    """
    if find_spec("streamlit") is None:
        raise WorkError(NO_STREAMLIT)
    from streamlit.web import cli

    sys.argv = [
        "streamlit",
        "run",
        str(ENTRY),
        f"--server.port={port}",
        f"--server.address={address}",
        f"--server.headless={str(headless).lower()}",
        *OPTIONS,
    ]
    cli.main()
