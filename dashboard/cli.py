"""`sparsecost dashboard`: the app in a browser, on this machine alone unless told otherwise."""

import errno
import gc
import ipaddress
import socket
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from costmodel.errors import InputError, WorkError, install_command, shown

NO_STREAMLIT = f"dashboard needs streamlit; install it with: {install_command('dashboard')}"
ENTRY = Path(__file__).with_name("app") / "entry.py"
MAX_UPLOAD_MB = 20  # a recording is a few MB
OPTIONS = (  # a .streamlit folder is not installed with a package, so what matters stands here
    "--browser.gatherUsageStats=false",
    "--server.fileWatcherType=none",
    "--server.showEmailPrompt=false",  # on a fresh machine it would wait for an answer
    f"--server.maxUploadSize={MAX_UPLOAD_MB}",
    "--client.toolbarMode=viewer",
    "--runner.postScriptGC=false",  # it looks through all that is kept; Python collects by itself
    "--global.disableWidgetStateDuplicationWarning=true",  # the page Explore sets the model
    '--theme.headingFontSizes=["1.5rem", "1.3rem", "1.15rem"]',  # a title is a sentence
    "--theme.metricValueFontSize=1.6rem",
    "--theme.paddingTop=1rem",  # the default leaves a hand's breadth of nothing above a title
    "--theme.light.primaryColor=#0072B2",
    "--theme.dark.primaryColor=#007CC0",  # carries white text, and stands out from the background
    "--theme.dark.sidebar.primaryColor=#56B4E9",  # is only the colour of text there
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
    check_free(address, port)
    if not is_local(address):
        typer.echo(
            f"warning: address={shown(address)}: anybody who reaches it can use the dashboard and"
            " start profiles on this machine",
            err=True,
        )
    warm()
    from streamlit.web import cli

    from dashboard.app.outside import ask_nobody

    ask_nobody()
    sys.argv = [
        "streamlit",
        "run",
        str(ENTRY),
        f"--server.port={port}",
        f"--server.address={address}",
        *(["--server.headless=true"] if headless else []),  # else so where there is no display
        *OPTIONS,
    ]
    cli.main()


def check_free(address: str, port: int) -> None:
    """Pass if the app can listen there; Streamlit would only log that it cannot.

    Raises:
        InputError: The port is taken, or the address is none of this machine.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        if sys.platform != "win32":  # there it would let two servers share a port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise InputError(f"port={port}: is taken; choose another with --port") from None
            if error.errno == errno.EACCES:
                raise InputError(f"port={port}: is not open to this user") from None
            raise InputError(f"address={shown(address)}: is none of this machine") from None


@cache
def warm() -> None:
    """Import and read what the first page needs, and draw a figure, so that nobody waits for it.

    Once in a process: `streamlit run app.py` comes here at every redraw.

    What stands by now is no garbage, and is exempted: to look through it takes a tenth of a second.
    """
    from costmodel.costs.calibrations import calibrated
    from costmodel.costs.predict import predict
    from costmodel.inputs.catalog import load_model
    from costmodel.inputs.hardware import load_hardware
    from costmodel.inputs.workload import Workload
    from costmodel.show.prediction_json import prediction_json
    from dashboard.app.recordings import matching
    from dashboard.app.shell import DEFAULT_GPU, DEFAULT_MODEL
    from dashboard.pages.explore import charts, explained, own_form, served

    del explained, own_form, served
    model = load_model(DEFAULT_MODEL)
    matching(model)  # every recording says which model it measured
    prediction = predict(
        model, Workload(), load_hardware(DEFAULT_GPU), calibrated(DEFAULT_GPU, None)
    )
    charts.breakdown(prediction_json(prediction), next(iter(charts.MEASURES)))
    gc.collect()
    gc.freeze()


def is_local(address: str) -> bool:
    """Whether this machine alone can reach the address."""
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:  # another name
        return False
